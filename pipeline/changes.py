"""What became of objects: two segmentations of one image, told apart object by object."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.integer]
Ids = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
MOST = 0.5
"""More than this share of an object's voxels lies in at most one other."""


@dataclass(frozen=True, slots=True)
class Shared:
    """How many voxels have which id before and after; 0 is background. One entry a pair of ids."""

    before: Ids
    after: Ids
    voxels: Counts


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of each object.

    Attributes
    ----------
    same: pairs of ids, before and after, that overlap enough.
    moved: pairs that overlap most, but not enough: shifted, or with other outlines.
    split: of an object before, those after that lie in it for the most part, if several.
    merged: of an object after, those before that lie in it for the most part, if several.
    lost, gained: objects that only one side has.
    """

    same: tuple[tuple[int, int], ...]
    moved: tuple[tuple[int, int], ...]
    split: Mapping[int, tuple[int, ...]]
    merged: Mapping[int, tuple[int, ...]]
    lost: tuple[int, ...]
    gained: tuple[int, ...]

    def counts(self) -> dict[str, int]:
        """How many objects each fate has."""
        names = ("same", "moved", "split", "merged", "lost", "gained")
        return {name: len(getattr(self, name)) for name in names}


def shared(before: Labels, after: Labels) -> Shared:
    """Count the pairs of ids of a piece, leaving out where both are background."""
    either = (before != 0) | (after != 0)
    ids = np.stack([before[either].astype(np.uint64), after[either].astype(np.uint64)])
    pairs, voxels = np.unique(ids, axis=1, return_counts=True)
    return Shared(pairs[0], pairs[1], voxels.astype(np.int64))


def joined(parts: Iterable[Shared]) -> Shared:
    """The counts of all pieces together."""
    pieces = list(parts)
    if not pieces:
        return Shared(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
    ids = np.stack(
        [
            np.concatenate([piece.before for piece in pieces]),
            np.concatenate([piece.after for piece in pieces]),
        ]
    )
    pairs, place = np.unique(ids, axis=1, return_inverse=True)
    voxels = np.concatenate([piece.voxels for piece in pieces])
    return Shared(pairs[0], pairs[1], _summed(place.ravel(), voxels, pairs.shape[1]))


def fates(counted: Shared, overlap: float) -> Fates:
    """Tell what became of every object; `overlap`, in intersection over union, is the same one.

    Splits and merges come first: a large piece of an object that was split is no object that
    stayed. Pairs that stayed, or moved, are found from the largest overlap down, one to one.
    """
    first, b = np.unique(counted.before, return_inverse=True)
    second, a = np.unique(counted.after, return_inverse=True)
    size_before = _summed(b, counted.voxels, len(first))
    size_after = _summed(a, counted.voxels, len(second))
    real = (counted.before != 0) & (counted.after != 0)
    b, a, voxels = b[real], a[real], counted.voxels[real]
    split = _holding(b, a, voxels, size_before, size_after)
    merged = _holding(a, b, voxels, size_after, size_before)
    gone = set(split) | {one for many in merged.values() for one in many}
    come = set(merged) | {one for many in split.values() for one in many}
    same: list[tuple[int, int]] = []
    moved: list[tuple[int, int]] = []
    union = size_before[b] + size_after[a] - voxels
    values = voxels / np.maximum(union, 1)
    for pair in np.argsort(-values, kind="stable"):
        old, new = int(b[pair]), int(a[pair])
        if old not in gone and new not in come:
            (same if values[pair] >= overlap else moved).append((int(first[old]), int(second[new])))
            gone.add(old)
            come.add(new)
    return Fates(
        same=tuple(same),
        moved=tuple(moved),
        split={int(first[o]): tuple(int(second[n]) for n in news) for o, news in split.items()},
        merged={int(second[n]): tuple(int(first[o]) for o in olds) for n, olds in merged.items()},
        lost=_left(first, size_before, gone),
        gained=_left(second, size_after, come),
    )


def _summed(place: npt.NDArray[np.intp], voxels: Counts, count: int) -> Counts:
    """Voxels of each of so many things, in whole numbers."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, place, voxels)
    return sums


def _holding(
    outer: npt.NDArray[np.intp],
    inner: npt.NDArray[np.intp],
    voxels: Counts,
    outer_size: Counts,
    inner_size: Counts,
) -> dict[int, tuple[int, ...]]:
    """Objects in which several others lie for the most part, that fill most of it, and those."""
    inside = voxels > MOST * inner_size[inner]
    found: dict[int, list[int]] = {}
    for place in np.flatnonzero(inside):
        found.setdefault(int(outer[place]), []).append(int(place))
    return {
        one: tuple(int(inner[place]) for place in places)
        for one, places in found.items()
        if len(places) > 1 and voxels[places].sum() > MOST * outer_size[one]
    }


def _left(ids: Ids, size: Counts, taken: set[int]) -> tuple[int, ...]:
    """Objects that are not taken, the largest first."""
    order = np.argsort(-size, kind="stable")
    return tuple(int(ids[one]) for one in order if ids[one] != 0 and int(one) not in taken)
