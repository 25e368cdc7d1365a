"""Between lattices of voxels of different size that cover the same image.

`step` is how many voxels of the finer lattice one of the coarser is wide, along an axis; any
positive number. Voxel i of the coarser covers the finer from `i * step` to `(i + 1) * step`. All
positions are functions of a voxel's number alone, so every piece of an image gets what the whole
image gets.
"""

import math

import numpy as np
import numpy.typing as npt

from pipeline.tiles import Box

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.float64]


def coarse_shape(shape: tuple[int, ...], step: tuple[float, ...]) -> tuple[int, ...]:
    """Sides of the coarser lattice that covers all of a finer one of this shape."""
    # A hair's breadth of rounding must not make a voxel more.
    return tuple(max(1, math.ceil(n / s - 1e-9)) for n, s in zip(shape, step, strict=True))


def centres_in_fine(start: int, stop: int, step: float) -> Places:
    """Where the centres of coarser voxels lie, counted in finer ones whose centres are whole."""
    return (np.arange(start, stop, dtype=np.float64) + 0.5) * step - 0.5


def centres_in_coarse(start: int, stop: int, step: float) -> Places:
    """Where the centres of finer voxels lie, counted in coarser ones whose centres are whole."""
    return (np.arange(start, stop, dtype=np.float64) + 0.5) / step - 0.5


def holders(start: int, stop: int, step: float, side: int) -> npt.NDArray[np.int64]:
    """The coarser voxel, of `side` in all, that the centre of each finer one lies in."""
    return np.minimum(
        ((np.arange(start, stop, dtype=np.float64) + 0.5) / step).astype(np.int64), side - 1
    )


def held(start: int, stop: int, step: float, side: int, fine_side: int) -> tuple[int, int]:
    """The finer voxels, from and up to, that lie in the coarser ones from `start` up to `stop`.

    `side` and `fine_side` are those of the image: the last coarser voxel has all that is left.
    """

    def first(coarse: int) -> int:
        if coarse >= side:
            return fine_side
        guess = max(0, math.ceil(coarse * step - 0.5))
        near = range(max(0, guess - 1), guess + 2)
        # By the very rule of `holders`, whatever rounding does to it.
        return next((i for i in near if int((i + 0.5) / step) >= coarse), guess + 1)

    return min(first(start), fine_side), min(first(stop), fine_side)


def needed(places: tuple[Places, ...], shape: tuple[int, ...]) -> Box:
    """What must be known of an image of this shape to interpolate at `places`, one set an axis."""
    low = tuple(max(0, min(n - 1, math.floor(p[0]))) for p, n in zip(places, shape, strict=True))
    high = tuple(
        max(0, min(n - 1, math.floor(p[-1]) + 1)) + 1 for p, n in zip(places, shape, strict=True)
    )
    return Box(low, high)


def interpolated(
    values: Floats, around: Box, places: tuple[Places, ...], shape: tuple[int, ...]
) -> Floats:
    """Linear interpolation at `places`, one rising set an axis, counted in voxels of the image.

    `values` are those of the image in `around`, which holds what is `needed`; `shape` is that of
    the image, beyond whose edges the last value goes on.
    """
    for axis, (place, first, side) in enumerate(zip(places, around.start, shape, strict=True)):
        at = np.clip(place, 0, side - 1)
        if np.array_equal(at, np.arange(first, first + values.shape[axis])):
            continue
        low = np.floor(at).astype(np.int64)
        high = np.minimum(low + 1, side - 1)
        weight = (at - low).astype(np.float32)
        across = (-1,) + (1,) * (values.ndim - axis - 1)
        weight = weight.reshape(across)
        values = (
            values.take(low - first, axis) * (1 - weight) + values.take(high - first, axis) * weight
        )
    return values
