"""Drawn objects as label images: areas, ellipsoids, and the certain background around objects."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.tiles import Box

RIM = 0.25
"""Width of the certain background around an object, in diameters of the object."""


@dataclass(frozen=True, slots=True)
class Polygon:
    """An area in one plane, by the even-odd rule: a ring inside another is a hole.

    Attributes
    ----------
    rings: vertices `(n, 2)`, `y, x` in voxels; voxel 0 reaches from 0 to 1. The last vertex need
        not repeat the first.
    plane: `z` of the plane it lies in; None in planar images.
    """

    rings: tuple[npt.NDArray[np.float64], ...]
    plane: int | None = None

    def on(self, z: float, radius: float) -> "Polygon":
        """The same in plane `z` of a stack; it has no depth, whatever the `radius`."""
        return replace(self, plane=round(z))

    def bounds(self, times: float) -> Box:
        """The voxels whose centres its bounding box holds; it does not grow."""
        vertices = np.concatenate(self.rings)
        depth = () if self.plane is None else (self.plane + 0.5,)
        return _centres_between((*depth, *vertices.min(axis=0)), (*depth, *vertices.max(axis=0)))

    def distance(self, box: Box) -> npt.NDArray[np.float32]:
        """0 in voxels of `box` whose centres lie in the area, infinity elsewhere."""
        found = inside(self.rings, Box(box.start[-2:], box.stop[-2:]))
        planar = np.where(found, np.float32(0), np.float32(np.inf))
        return np.broadcast_to(planar, box.shape)


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipse or ellipsoid along the axes.

    Attributes
    ----------
    centre, radii: in voxels, along the spatial axes; voxel 0 reaches from 0 to 1.
    """

    centre: tuple[float, ...]
    radii: tuple[float, ...]

    def on(self, z: float, radius: float) -> "Ellipsoid":
        """An ellipse as ellipsoid in a stack, around the middle of plane `z`."""
        return Ellipsoid((z + 0.5, *self.centre), (radius, *self.radii))

    def bounds(self, times: float) -> Box:
        """The voxels whose centres its bounding box holds, once `times` as large."""
        return _centres_between(
            [c - times * r for c, r in zip(self.centre, self.radii, strict=True)],
            [c + times * r for c, r in zip(self.centre, self.radii, strict=True)],
        )

    def distance(self, box: Box) -> npt.NDArray[np.float32]:
        """How far the voxels of `box` lie from the centre: 1 is on the outline."""
        squares = (
            ((np.arange(a, b) + 0.5 - c) / r) ** 2
            for a, b, c, r in zip(box.start, box.stop, self.centre, self.radii, strict=True)
        )
        return np.sqrt(sum(np.ix_(*squares))).astype(np.float32)


Shape = Polygon | Ellipsoid


def inside(rings: Sequence[npt.NDArray[np.float64]], box: Box) -> npt.NDArray[np.bool_]:
    """Which voxels of a planar box have their centre inside the rings, by the even-odd rule.

    A row's centre line crosses the edges; each crossing flips what lies behind it:

        ....|====|....|===|..      areas that share an edge share no voxel, and leave none out
    """
    rows, columns = box.shape
    ends = [np.concatenate([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings]
    edges = np.concatenate(ends).reshape(-1, 2, 2)
    # From its upper end on: neighbours that share an edge compute the same crossings.
    edges = np.where((edges[:, 0, 0] > edges[:, 1, 0])[:, None, None], edges[:, ::-1], edges)
    crossed = np.ceil(edges[:, :, 0] - 0.5).astype(int) - box.start[0]
    first, last = np.clip(crossed, 0, rows).T
    count = last - first
    edge = np.repeat(np.arange(len(edges)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (y0, x0), (y1, x1) = edges[edge].transpose(1, 2, 0)
    x = x0 + (row + box.start[0] + 0.5 - y0) / (y1 - y0) * (x1 - x0)
    column = np.clip(np.ceil(x - 0.5).astype(int) - box.start[1], 0, columns)
    flips = np.zeros((rows, columns + 1), bool)
    np.logical_xor.at(flips, (row, column), True)
    return np.logical_xor.accumulate(flips, axis=1)[:, :columns]


def painted(
    shapes: Mapping[int, Shape], space: Box, times: float = 1
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Ids of the shapes in a spatial box, 0 outside of all, and the distance to the closest.

    Where shapes overlap, the one whose centre is closer, in units of its radii, has the voxel; of
    areas the last. Distances are right up to `times`, infinite further out.
    """
    labels, nearest = np.zeros(space.shape, np.int64), np.full(space.shape, np.inf, np.float32)
    for number, shape in shapes.items():
        box = common(shape.bounds(times), space)
        here, distance = box.within(space), shape.distance(box)
        is_closer = distance <= nearest[here]
        nearest[here] = np.where(is_closer, distance, nearest[here])
        labels[here] = np.where(is_closer & (distance <= 1), number, labels[here])
    return labels, nearest


def rim(
    labels: npt.NDArray[np.integer[Any]], voxel_size_um: Sequence[float]
) -> npt.NDArray[np.bool_]:
    """Certain background: what lies around an object, closer than `RIM` of its diameter.

    At least one voxel wide. It may cover a part of a touching object that nobody annotated, so it
    is narrow; what other annotated objects cover is left out.
    """
    found = np.zeros(labels.shape, bool)
    numbers, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape) + (0 if 0 in numbers else 1)
    whole = Box((0,) * labels.ndim, labels.shape)
    for number, slices in enumerate(ndimage.find_objects(dense), start=1):
        voxels = np.count_nonzero(dense[slices] == number)
        volume = voxels * math.prod(voxel_size_um)
        diameter = (
            math.cbrt(6 * volume / math.pi) if labels.ndim == 3 else math.sqrt(4 * volume / math.pi)
        )
        width = max(RIM * diameter, min(voxel_size_um))
        halo = tuple(math.ceil(width / size) for size in voxel_size_um)
        start, stop = (tuple(getattr(s, end) for s in slices) for end in ("start", "stop"))
        here = common(Box(start, stop).grown(halo), whole).slices
        away = ndimage.distance_transform_edt(dense[here] != number, sampling=voxel_size_um)
        found[here] |= away <= width
    return found & (labels == 0)


def common(one: Box, other: Box) -> Box:
    """The voxels that are in both boxes."""
    start = tuple(map(max, one.start, other.start))
    stop = tuple(map(min, one.stop, other.stop))
    return Box(start, tuple(map(max, start, stop)))


def _centres_between(low: Sequence[float], high: Sequence[float]) -> Box:
    return Box(
        tuple(math.ceil(edge - 0.5) for edge in low),
        tuple(math.floor(edge - 0.5) + 1 for edge in high),
    )
