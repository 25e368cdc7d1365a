"""Coarser levels of a pyramid from finer ones."""

from typing import Any

import numpy as np
import numpy.typing as npt


def block_mean(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """Mean over blocks of `ratio` voxels, integers rounded half up.

    An edge block that is cut by the end of the volume is the mean of the voxels it has.
    """
    for axis, step in enumerate(ratio):
        if step > 1 and values.shape[axis] % step:
            values = np.pad(
                values, [(0, step - 1 if i == axis else 0) for i in range(values.ndim)], "edge"
            )
            keep = [slice(None)] * values.ndim
            keep[axis] = slice(values.shape[axis] // step * step)
            values = values[tuple(keep)]
    shape = [
        n for side, step in zip(values.shape, ratio, strict=True) for n in (side // step, step)
    ]
    within = tuple(range(1, 2 * len(ratio), 2))
    count = int(np.prod(ratio))
    if values.dtype.kind == "f":
        return values.reshape(shape).mean(axis=within, dtype=np.float64).astype(values.dtype)
    total = values.reshape(shape).sum(axis=within, dtype=np.int64)
    return ((2 * total + count) // (2 * count)).astype(values.dtype)


def every(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """The first voxel of every block: ids stay ids."""
    return values[tuple(slice(None, None, step) for step in ratio)]
