"""Whether a pyramid in OME-Zarr is that of a stack: its voxels, its scales and where it lies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from benchmarks.stack import VOXEL_UM, Stack

MOST_GREY_LEVELS = 1
"""That a level may differ from the mean of level 0: what rounding at each level can make of it."""
CLOSE = 1e-6
PLANES = 64
"""Compared at a time."""
RIGHT = (
    "A pyramid is right if level 0 is the stack bit for bit; every level is, to "
    f"{MOST_GREY_LEVELS} grey level, the mean of the voxels of level 0 in each block, rounded (in "
    "blocks that the end of an odd axis cuts short, of all that they have or of means of the level "
    "below); scales are a power of two times the voxel; and a level is moved by half the "
    "difference of voxel sizes. A level that leaves out blocks cut short counts as right, and is "
    "told. This is checked after the first run of each, outside of its time."
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a store.

    Attributes
    ----------
    levels: how many there are.
    largest: difference of any voxel, in grey levels.
    faults, remarks: sentences; with a fault the pyramid is not right.
    """

    levels: int
    largest: int
    faults: tuple[str, ...]
    remarks: tuple[str, ...]


def checked(store: Path, stack: Stack) -> Checked:
    """Compare all levels of a store with the stack."""
    group = zarr.open_group(store, mode="r", use_consolidated=False)
    attributes: dict[str, Any] = dict(group.attrs)
    [block] = attributes["ome"]["multiscales"]
    axes: list[str] = [axis["name"] for axis in block["axes"]]
    largest, faults, short = 0, list[str](), list[int]()
    origin = _moves(block["datasets"][0], axes)["translation"]
    for number, dataset in enumerate(block["datasets"]):
        moves = _moves(dataset, axes)
        factors, wrong = _factors(moves, origin)
        faults += [f"level {number}: {fault}" for fault in wrong]
        array: Any = group[dataset["path"]]
        space = array.shape[len(axes) - 3 :]
        shapes = [tuple(f(n / s) for n, s in zip(stack.shape, factors, strict=True))
                  for f in (math.ceil, math.floor)]  # fmt: skip
        if space not in shapes:
            faults.append(f"level {number} has sides {space}, not {shapes[0]}")
            continue
        if space != shapes[0]:
            short.append(number)
        found = _difference(array, len(axes) - 3, stack, factors)
        largest = max(largest, found)
        if found > (MOST_GREY_LEVELS if number else 0):
            faults.append(f"level {number} differs by up to {found} grey levels")
    left_out = f"levels {', '.join(map(str, short))} leave out blocks that are cut short"
    return Checked(len(block["datasets"]), largest, tuple(faults), (left_out,) if short else ())


def _moves(dataset: Mapping[str, Any], axes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scale and translation of a level, by axis."""
    moves = {"translation": dict.fromkeys(axes, 0.0)}
    for move in dataset["coordinateTransformations"]:
        moves[move["type"]] = dict(zip(axes, move[move["type"]], strict=True))
    return moves


def _factors(
    moves: Mapping[str, Mapping[str, float]], origin: Mapping[str, float]
) -> tuple[tuple[int, ...], list[str]]:
    """By how much a level is coarser along `z, y, x`; and what is not exact about it."""
    factors, faults = [], []
    for axis, size in VOXEL_UM.items():
        said = moves["scale"][axis] / size
        factor = 2 ** round(math.log2(said))
        factors.append(factor)
        if abs(said / factor - 1) > CLOSE:
            faults.append(f"its scale along {axis} is {said:.4f} times the voxel, not {factor}")
        moved = (moves["translation"][axis] - origin[axis]) / size
        if abs(moved - (factor - 1) / 2) > CLOSE:
            faults.append(f"it is moved along {axis} by {moved:.4f} voxels, not {(factor - 1) / 2}")
    return tuple(factors), faults


def _difference(array: Any, outer: int, stack: Stack, factors: tuple[int, ...]) -> int:
    """The largest between a level and the nearer of both means, where it has voxels."""
    planes, *plane = array.shape[outer:]
    kinds = (stack.exact(factors), stack.stepwise(factors))
    largest = 0
    for start in range(0, planes, PLANES):
        at = (slice(start, min(start + PLANES, planes)), *(slice(n) for n in plane))
        found = np.asarray(array[(0,) * outer + at]).astype(np.int32)
        away = [np.abs(found - kind[at].astype(np.int32)) for kind in kinds]
        largest = max(largest, int(np.minimum(*away).max()))
    return largest
