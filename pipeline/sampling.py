"""Coarser levels of a pyramid from finer ones."""

import functools
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
    count = int(np.prod(ratio))
    if values.dtype.kind == "f":
        return (_block_sum(values, ratio, np.float64) / count).astype(values.dtype)
    # Sums of small integers fit in 32 bits, which halves the memory that has to be moved.
    wide = np.int32 if values.dtype.itemsize <= 2 and count <= 2**14 else np.int64
    total = _block_sum(values, ratio, wide)
    total *= 2
    total += count
    total //= 2 * count
    return total.astype(values.dtype)


def _block_sum(values: npt.NDArray[Any], ratio: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """Sums over blocks of `ratio` voxels, plane by plane, so that they stay in the cache."""
    shape = tuple(side // step for side, step in zip(values.shape, ratio, strict=True))
    result = np.empty(shape, dtype)
    for at in np.ndindex(shape[:-2]):
        cut = tuple(slice(i * step, (i + 1) * step) for i, step in zip(at, ratio, strict=False))
        slab: npt.NDArray[Any] = values[cut]
        for axis, step in enumerate(ratio):
            parts = (slab[(slice(None),) * axis + (slice(k, None, step),)] for k in range(step))
            slab = functools.reduce(functools.partial(np.add, dtype=dtype), parts)
        result[at] = slab[(0,) * len(at)]
    return result


def every(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """The first voxel of every block: ids stay ids."""
    return values[tuple(slice(None, None, step) for step in ratio)]
