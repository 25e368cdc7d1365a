"""Stitching: straight lines through a whole plane at which its brightness jumps."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import alarms
from pipeline.alarms import LEVEL, NAMED, Check
from pipeline.sentences import listed

PARTS = 4
"""Parts of a line that must each jump: an object's edge seldom is so long and so straight."""
LEAST = 0.02
"""Jumps of less are never called faults: as a fraction of the plane's spread."""


def jumps(plane: npt.NDArray[Any]) -> dict[str, list[int]]:
    """Where, along y and along x, brightness jumps along a whole line of a plane `(y, x)`.

    Of each pair of neighbouring lines the median difference, which must have one sign in each of
    PARTS: objects, which cover less than half of a line, do not show in it.
    """
    values = np.asarray(plane, np.float64)
    low, high = np.quantile(values, (0.01, 0.99))
    found = dict[str, list[int]]()
    for axis, lines in (("y", values), ("x", values.T)):
        steps = np.diff(lines, axis=0)
        if steps.shape[1] < 8 * PARTS or high == low:
            found[axis] = []
            continue
        parts = np.stack([np.median(p, axis=1) for p in np.array_split(steps, PARTS, axis=1)])
        agree = np.abs(np.sign(parts).sum(axis=0)) == PARTS
        odd = alarms.outlying(np.median(steps, axis=1), LEVEL / 2, LEAST * (high - low))
        found[axis] = [i + 1 for i in odd if agree[i]]
    return found


def check(plane: npt.NDArray[Any], where: str, factor: tuple[int, int]) -> Check:
    """The check of one plane, called `where`, whose pixels are `factor` voxels wide."""
    name = "stitching"
    found = jumps(plane)
    said = [
        f"{axis} = {listed([place * wide for place in found[axis]], NAMED)}"
        for axis, wide in zip("yx", factor, strict=True)
        if found[axis]
    ]
    if said:
        return Check(
            name, "alarm", f"Brightness jumps along a straight line, in {where}: {'; '.join(said)}."
        )
    return Check(name, "fine", f"No straight line across {where} at which brightness jumps.")
