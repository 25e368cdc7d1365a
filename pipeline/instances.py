"""Objects from votes: a centre is where many voxels point, and owns the voxels that point to it.

Everything here is a function of a voxel's neighbourhood, in integers, with ties broken by
address. So a piece of the image that holds the neighbourhood gives what the whole image gives,
and no stitching follows. Work is done for voxels of objects alone: most of an image is none.

    output of a tile --pointers--> where its voxels point, at first
    pointers around a box --targets--> where its voxels point in the end
    targets of a box --votes--> how often each place is meant
    votes around a box --centres--> centres in it
    centres around a box, its targets --owned--> the centre that each voxel belongs to
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.distances import Geometry
from pipeline.tiles import Box

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Steps = npt.NDArray[np.int8] | npt.NDArray[np.int16]
Counts = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Pointers:
    """What the network says of a box of voxels: as little of it as labels need.

    Attributes
    ----------
    logit: of the foreground, `(*box)`.
    steps: whole voxels from each voxel to where it points, `(axes, *box)`; where that is beyond
        reach, the first of them is `void`.
    """

    logit: Floats
    steps: Steps

    @property
    def void(self) -> int:
        """A step that none can take."""
        return int(np.iinfo(self.steps.dtype).max)

    def cut(self, inner: Box, outer: Box) -> "Pointers":
        """Those of the box `inner`, where these are of `outer`."""
        inside = inner.within(outer)
        return Pointers(self.logit[inside], self.steps[(slice(None), *inside)])


@dataclass(frozen=True, slots=True)
class Votes:
    """How often the voxels of a box point to each place that they point to.

    Attributes
    ----------
    places: each place once, `(axes, n)`, in voxels of the whole image.
    counts: how often it is meant, `(n,)`.
    """

    places: Places
    counts: Counts


def pointers(output: Floats, geometry: Geometry) -> Pointers:
    """What the network's output `(1 + axes, *box)` says, displacements in whole voxels."""
    dtype = np.int8 if max(geometry.reach) < np.iinfo(np.int8).max else np.int16
    steps = np.empty((len(output) - 1, *output.shape[1:]), dtype)
    within = np.ones(output.shape[1:], bool)
    for axis, (unit, reach) in enumerate(zip(geometry.unit, geometry.reach, strict=True)):
        far = np.rint(output[1 + axis] * np.float32(unit))
        # What is no number is not within reach either.
        within &= np.abs(far) <= reach
        steps[axis] = np.clip(np.nan_to_num(far), -reach, reach)
    steps[0][~within] = np.iinfo(dtype).max
    return Pointers(np.ascontiguousarray(output[0]), steps)


def targets(
    of: Pointers, around: Box, box: Box, voxels: Indices, threshold: float, geometry: Geometry
) -> Places:
    """Where voxels of `box` point in the end, `(axes, n)`, in voxels of the whole image.

    A pointer that leads to a solid voxel goes on by that voxel's own, `geometry.hops` times, but
    never out of reach of where it began. A network knows a centre better the nearer it is: from
    the ends of a long object one pointer falls short, and two or three arrive.

    `of` are the pointers of `around`, which holds what of the image lies within
    `geometry.following` of `box`; `voxels` are flat indices in `box`, none of them void. Solid is
    what has a logit above `threshold`.
    """
    sides, reach = _column(around.shape), _column(geometry.reach)
    logit, steps = of.logit.reshape(-1), of.steps.reshape(len(sides), -1)
    own = np.stack(np.unravel_index(voxels, box.shape)) + _column(box.start) - _column(around.start)
    moved = steps[:, np.ravel_multi_index(tuple(own), around.shape)].astype(np.int64)
    for _ in range(geometry.hops):
        place = own + moved
        inside = np.flatnonzero(((place >= 0) & (place < sides)).all(axis=0))
        there = np.ravel_multi_index(tuple(place[:, inside]), around.shape)
        further = moved[:, inside] + steps[:, there]
        goes_on = (logit[there] > threshold) & (steps[0][there] != of.void)
        goes_on &= (np.abs(further) <= reach).all(axis=0)
        moved[:, inside[goes_on]] = further[:, goes_on]
    return own + moved + _column(around.start)


def votes(
    of: Pointers, around: Box, box: Box, threshold: float, geometry: Geometry, shape: Places
) -> Votes:
    """The votes of the solid voxels of `box`; `shape` is that of the image.

    `of` and `threshold` as in `targets`. A vote for a place outside the image is void.
    """
    mine = of.cut(box, around)
    solid = np.flatnonzero((mine.logit > threshold) & (mine.steps[0] != of.void))
    # Places are counted from the corner of what the box's voxels can reach.
    area = box.grown(geometry.reach)
    target = targets(of, around, box, solid, threshold, geometry)
    inside = ((target >= 0) & (target < shape.reshape(-1, 1))).all(axis=0)
    counts = np.bincount(
        np.ravel_multi_index(tuple(target[:, inside] - _column(area.start)), area.shape),
        minlength=math.prod(area.shape),
    )
    meant = np.flatnonzero(counts)
    places = np.stack(np.unravel_index(meant, area.shape)) + _column(area.start)
    return Votes(places, counts[meant].astype(np.int32))


def centres(around: Sequence[Votes], box: Box, geometry: Geometry, shape: Places) -> Places:
    """Places of the centres in `box`, `(axes, n)`, from all votes for what lies around it.

    A centre has enough votes in its box, and more than any voxel within `geometry.apart` when
    near votes count more (a tent as wide as the box); of equals, the first in address order.
    """
    if not any(some.counts.size for some in around):
        return np.empty((len(box.start), 0), np.int64)
    area = box.grown(geometry.apart).grown(geometry.blur)
    cast = np.zeros(area.shape, np.int32)
    for some in around:
        inside = inside_of(some.places, area)
        # Each place stands once in `some`, so none is added to twice.
        cast[tuple(some.places[:, inside] - _column(area.start))] += some.counts[inside]
    gathered, near = cast, cast
    for axis, half in enumerate(geometry.blur):
        weights = [half + 1 - abs(i) for i in range(-half, half + 1)]
        gathered = _weighed(gathered, axis, [1] * len(weights))
        near = _weighed(near, axis, weights)
    enough = gathered[box.within(box.grown(geometry.apart))] >= geometry.votes
    if not enough.any():
        return np.empty((len(box.start), 0), np.int64)
    reached = box.grown(geometry.apart)
    beyond = np.full(near.shape, -1, np.int32)
    held = reached.clipped(tuple(int(n) for n in shape)).within(reached)
    beyond[held] = near[held]
    best = beyond
    for axis, half in enumerate(geometry.apart):
        best = _highest(best, axis, 2 * half + 1)
    found = np.stack(np.nonzero(enough & (beyond[box.within(reached)] == best)))
    alone = np.ones(found.shape[1], bool)
    middle = found + _column(geometry.apart)
    height = beyond[tuple(middle)]
    for offset in _earlier(geometry.apart):
        alone &= beyond[tuple(middle + _column(offset))] != height
    return found[:, alone] + _column(box.start)


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose the voxels of a box are.

    Attributes
    ----------
    owner: 1 + the number of the centre that a voxel belongs to; 0 where none is, `(*box)`.
    agrees: whether the voxel points into the box that its centre's votes were gathered in.
    """

    owner: Counts
    agrees: Bools


def owned(
    of: Pointers,
    around: Box,
    box: Box,
    chosen: Bools,
    known: Places,
    threshold: float,
    geometry: Geometry,
) -> Owned:
    """The centre that each chosen voxel of `box` belongs to, of those `known`, `(axes, n)`.

    The nearest centre to where the voxel points, within `geometry.catch`; of equally near ones,
    the first in address order. `of`, `around` and `threshold` as in `targets`.
    """
    area = box.grown(geometry.reach)
    caught = np.zeros(area.shape, np.int32)
    number = np.arange(1, known.shape[1] + 1, dtype=np.int32)
    # The last to be written stays: the nearest comes last.
    for offset in reversed(_nearest_first(geometry.catch)):
        places = known - _column(offset)
        inside = inside_of(places, area)
        caught[tuple(places[:, inside] - _column(area.start))] = number[inside]
    mine = np.flatnonzero(chosen & (of.cut(box, around).steps[0] != of.void))
    target = targets(of, around, box, mine, threshold, geometry)
    caught_by = caught[tuple(target - _column(area.start))]
    owner, agrees = np.zeros(box.shape, np.int32), np.zeros(box.shape, bool)
    owner.reshape(-1)[mine] = caught_by
    caught_at = known[:, caught_by - 1] if known.size else target
    off = np.abs(caught_at - target)
    agrees.reshape(-1)[mine] = (caught_by > 0) & (off <= _column(geometry.blur)).all(axis=0)
    return Owned(owner, agrees)


def _column(values: Sequence[int]) -> Places:
    return np.asarray(values, np.int64).reshape(-1, 1)


def inside_of(places: Places, box: Box) -> Bools:
    """Which of the places, `(axes, n)`, lie in a box."""
    inside = (places >= _column(box.start)) & (places < _column(box.stop))
    return np.asarray(inside.all(axis=0))


def _along(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))


def _weighed(values: Counts, axis: int, weights: Sequence[int]) -> Counts:
    """Sums of neighbours along an axis, where all neighbours are there."""
    left = values.shape[axis] - len(weights) + 1
    total = np.zeros_like(values[_along(axis, 0, left)])
    for i, weight in enumerate(weights):
        part = values[_along(axis, i, i + left)]
        total += part if weight == 1 else weight * part
    return total


def _highest(values: Counts, axis: int, width: int) -> Counts:
    """Maxima of `width` neighbours along an axis, in as many steps as `width` has binary digits."""
    whole, have = values.shape[axis], 1
    while have < width:
        step = min(have, width - have)
        left = whole - (have + step) + 1
        values = np.maximum(values[_along(axis, 0, left)], values[_along(axis, step, step + left)])
        have += step
    return values


def _offsets(half: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All offsets of a box around a voxel, in address order."""
    return itertools.product(*(range(-radius, radius + 1) for radius in half))


@cache
def _earlier(apart: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Offsets within `apart` to voxels whose address is lower."""
    return [offset for offset in _offsets(apart) if offset < (0,) * len(apart)]


@cache
def _nearest_first(catch: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Offsets in the ellipsoid `catch`, nearest first, then in address order."""
    distance = {
        offset: sum((step / radius) ** 2 for step, radius in zip(offset, catch, strict=True))
        for offset in _offsets(catch)
    }
    return sorted((o for o, d in distance.items() if d <= 1), key=lambda o: (distance[o], o))
