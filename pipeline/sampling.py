"""Coarser levels of a pyramid from finer ones."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt


def block_mean(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """Mean over blocks of `ratio` voxels, integers rounded half up.

    An edge block that is cut by the end of the volume is the mean of the voxels it has, where
    blocks are at most two voxels wide.
    """
    whole = tuple(-(-side // step) for side, step in zip(values.shape, ratio, strict=True))
    result = np.empty(whole, values.dtype)
    count = int(np.prod(ratio))
    small = values.dtype.kind != "f" and values.dtype.itemsize <= 2 and count <= 2**14
    # Sums of small integers fit in 32 bits, which halves the memory that has to be moved.
    dtype = np.float64 if values.dtype.kind == "f" else np.int32 if small else np.int64
    # Plane by plane, so that what is added stays in the cache, and what is mended is small.
    for at in np.ndindex(whole[:-2]):
        cut = tuple(slice(i * step, (i + 1) * step) for i, step in zip(at, ratio, strict=False))
        lacks = [-side % step for side, step in zip(values[cut].shape, ratio, strict=True)]
        slab = np.pad(values[cut], [(0, n) for n in lacks], "edge") if any(lacks) else values[cut]
        total = _block_sum(slab, ratio, dtype)[(0,) * len(at)]
        if values.dtype.kind == "f":
            total /= count
        elif count & (count - 1) == 0:
            total += count // 2  # and now to shift is to divide, at a fifth of the cost
            total >>= count.bit_length() - 1
        else:
            total = (2 * total + count) // (2 * count)
        result[at] = total
    return result


def _block_sum(values: npt.NDArray[Any], ratio: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    for axis, step in enumerate(ratio):
        parts = (values[(slice(None),) * axis + (slice(k, None, step),)] for k in range(step))
        values = functools.reduce(functools.partial(np.add, dtype=dtype), parts)
    return values.astype(dtype)


def every(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """The first voxel of every block: ids stay ids."""
    return values[tuple(slice(None, None, step) for step in ratio)]
