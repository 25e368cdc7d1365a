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
    result = np.empty(
        tuple(side // step for side, step in zip(values.shape, ratio, strict=True)), values.dtype
    )
    count = int(np.prod(ratio))
    small = values.dtype.kind != "f" and values.dtype.itemsize <= 2 and count <= 2**14
    # Sums of small integers fit in 32 bits, which halves the memory that has to be moved.
    dtype = np.float64 if values.dtype.kind == "f" else np.int32 if small else np.int64
    # Plane by plane, so that what is added stays in the cache.
    for at in np.ndindex(result.shape[:-2]):
        cut = tuple(slice(i * step, (i + 1) * step) for i, step in zip(at, ratio, strict=False))
        total = _block_sum(values[cut], ratio, dtype)[(0,) * len(at)]
        if values.dtype.kind == "f":
            result[at] = total / count
        else:
            result[at] = (2 * total + count) // (2 * count)
    return result


def _block_sum(values: npt.NDArray[Any], ratio: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    for axis, step in enumerate(ratio):
        parts = (values[(slice(None),) * axis + (slice(k, None, step),)] for k in range(step))
        values = functools.reduce(functools.partial(np.add, dtype=dtype), parts)
    return values.astype(dtype, copy=False)


def every(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """The first voxel of every block: ids stay ids."""
    return values[tuple(slice(None, None, step) for step in ratio)]
