"""Labels of a box from the network's output around it."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.instances import Geometry, assign, centres
from pipeline.tiles import Box

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint64]
INTERPOLATION = 2
"""Voxels beside a box that its interpolation to full resolution looks at."""


def window(space: Box, factors: tuple[int, ...], shape: tuple[int, ...], geometry: Geometry) -> Box:
    """Where output must be known, at the network's level, to label `space` at full resolution.

    `shape` is that of the image at the network's level.
    """
    halo = tuple(h + INTERPOLATION for h in geometry.halo)
    return space.coarsened(factors).grown(halo).clipped(shape)


def label(
    output: Floats,
    around: Box,
    space: Box,
    frame: int,
    factors: tuple[int, ...],
    full_shape: tuple[int, ...],
    geometry: Geometry,
    foreground: float,
) -> tuple[Ids, Ids]:
    """Labels of `space`, and the ids whose centres lie in it.

    `output` is the network's in `around`; `foreground` the probability that makes a voxel part of
    an object. An id is 1 + the address of its object's centre among all voxels of all frames at
    full resolution: equal whatever box it was found from.
    """
    threshold = math.log(foreground / (1 - foreground))
    unit = np.reshape(geometry.unit, (-1,) + (1,) * len(full_shape)).astype(np.float32)
    displacement = output[1:] * unit
    solid = output[0] > threshold
    is_centre = centres(solid, displacement, geometry)
    # Interpolation may make a voxel solid whose coarse voxel is not: neighbours get owners too.
    near = ndimage.maximum_filter(solid, size=3)
    owner = assign(near, displacement, is_centre, geometry)

    found = np.flatnonzero(is_centre)
    places = np.stack(np.unravel_index(found, around.shape)) + np.reshape(around.start, (-1, 1))
    step, sides = np.reshape(factors, (-1, 1)), np.reshape(full_shape, (-1, 1))
    full = np.minimum(places * step + step // 2, sides - 1)
    address = np.ravel_multi_index(tuple(full), full_shape) + frame * math.prod(full_shape)
    ids = np.zeros(is_centre.size + 1, np.uint64)
    ids[found + 1] = address.astype(np.uint64) + 1

    inner = space.coarsened(factors).grown((INTERPOLATION,) * len(factors))
    inner = Box(
        tuple(max(a, b) for a, b in zip(inner.start, around.start, strict=True)),
        tuple(min(a, b) for a, b in zip(inner.stop, around.stop, strict=True)),
    )
    cut = space.within(inner.refined(factors))
    fine = refined(output[0][inner.within(around)], factors)[cut]
    owners = owner[inner.within(around)]
    for axis, factor in enumerate(factors):
        owners = owners.repeat(factor, axis)
    labels = np.where(fine > threshold, ids[owners[cut]], np.uint64(0))

    low, high = (np.reshape(ends, (-1, 1)) for ends in (space.start, space.stop))
    here = ((full >= low) & (full < high)).all(axis=0)
    return labels, ids[found + 1][here]


def refined(values: Floats, factors: tuple[int, ...]) -> Floats:
    """Finer voxels by repeated linear interpolation between the centres of coarse ones.

    `factors` are powers of two. At the array's edges the last value continues.
    """
    for axis, factor in enumerate(factors):
        for _ in range(factor.bit_length() - 1):
            before = np.concatenate(
                [values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis
            )
            after = np.concatenate(
                [values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis
            )
            low, high = 0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after
            both = np.stack([low, high], axis + 1)
            values = both.reshape(
                *values.shape[:axis], 2 * values.shape[axis], *values.shape[axis + 1 :]
            ).astype(np.float32)
    return values
