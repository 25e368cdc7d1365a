"""Objects from votes: a centre is where many voxels point, and owns the voxels that point to it.

Everything here is a function of a voxel's neighbourhood, in integers, with ties broken by
address. So a piece of the image that holds the neighbourhood gives what the whole image gives,
and no stitching follows.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How far votes go and gather, in voxels per axis.

    Attributes
    ----------
    unit: what a displacement of 1 in the network's output stands for.
    reach: a vote that goes further is void; no object is wider than twice this.
    blur: half-width of the box that votes are gathered in.
    apart: two centres are at least this far from each other along one axis.
    catch: a voxel belongs to the nearest centre within this distance from where it points.
    votes: a centre has at least so many votes in its box.
    """

    unit: tuple[float, ...]
    reach: tuple[int, ...]
    blur: tuple[int, ...]
    apart: tuple[int, ...]
    catch: tuple[int, ...]
    votes: int

    @property
    def halo(self) -> tuple[int, ...]:
        """Voxels beside a box whose network output decides which labels the box gets."""
        parts = (self.reach, self.catch, self.apart, self.blur, self.reach)
        return tuple(sum(part) for part in zip(*parts, strict=True))


def geometry(diameter: tuple[float, ...], smallest: float, unit: tuple[float, ...]) -> Geometry:
    """Distances for objects of this typical diameter (voxels per axis).

    `smallest` is the fraction of a typical object's voxels that must agree on one centre.
    """

    def fraction(of: float, at_least: int) -> tuple[int, ...]:
        return tuple(max(at_least, round(of * side)) for side in diameter)

    ellipsoid = {2: np.pi / 4, 3: np.pi / 6}[len(diameter)]
    return Geometry(
        unit=unit,
        reach=fraction(1.25, 2),
        blur=fraction(0.1, 1),
        apart=fraction(0.3, 1),
        catch=fraction(0.35, 1),
        votes=max(1, round(smallest * ellipsoid * float(np.prod(diameter)))),
    )


def pointed(displacement: Floats, reach: tuple[int, ...]) -> tuple[Integers, Bools]:
    """The voxel that each voxel points to, `(axes, *shape)`, and whether that is within reach."""
    steps = np.rint(displacement).astype(np.int64)
    limit = np.reshape(reach, (-1,) + (1,) * (steps.ndim - 1))
    within = np.asarray((np.abs(steps) <= limit).all(axis=0))
    return np.indices(steps.shape[1:]) + steps, within


def centres(foreground: Bools, displacement: Floats, geometry: Geometry) -> Bools:
    """True at the centres of objects.

    `displacement` has shape `(axes, *shape)`, in voxels. A centre has enough votes in its box,
    and more than any voxel within `geometry.apart` when near votes count more (a tent as wide as
    the box); of equals, the first in address order.
    """
    shape = foreground.shape
    target, within = pointed(displacement, geometry.reach)
    sides = np.reshape(shape, (-1,) + (1,) * len(shape))
    valid = foreground & within & ((target >= 0) & (target < sides)).all(axis=0)
    address = np.ravel_multi_index(tuple(target[:, valid]), shape)
    votes = near = np.bincount(address, minlength=foreground.size).reshape(shape)
    for axis, half in enumerate(geometry.blur):
        box = np.ones(2 * half + 1, int)
        tent = half + 1 - np.abs(np.arange(-half, half + 1))
        votes = ndimage.convolve1d(votes, box, axis, mode="constant")
        near = ndimage.convolve1d(near, tent, axis, mode="constant")
    first = np.arange(foreground.size - 1, -1, -1).reshape(shape)
    rank = near * foreground.size + first
    window = tuple(2 * apart + 1 for apart in geometry.apart)
    best = ndimage.maximum_filter(rank, size=window, mode="constant", cval=-1)
    return (rank == best) & (votes >= geometry.votes)


def assign(chosen: Bools, displacement: Floats, is_centre: Bools, geometry: Geometry) -> Integers:
    """For each chosen voxel, 1 + the flat index of the centre it belongs to; 0 where none is.

    The nearest centre to where the voxel points, within `geometry.catch`; of equally near ones,
    the first in address order.
    """
    shape = chosen.shape
    target, within = pointed(displacement, geometry.reach)
    waiting = np.flatnonzero(chosen & within)
    places = target.reshape(len(shape), -1)[:, waiting]
    owner = np.zeros(chosen.size, np.int64)
    for offset in _nearest_first(geometry.catch):
        found = places + np.reshape(offset, (-1, 1))
        inside = ((found >= 0) & (found < np.reshape(shape, (-1, 1)))).all(axis=0)
        flat = np.ravel_multi_index(tuple(found[:, inside]), shape)
        hit = np.zeros(len(waiting), bool)
        hit[inside] = is_centre.reshape(-1)[flat]
        flat_hit = np.ravel_multi_index(tuple(found[:, hit]), shape)
        owner[waiting[hit]] = 1 + flat_hit
        waiting, places = waiting[~hit], places[:, ~hit]
        if not len(waiting):
            break
    return owner.reshape(shape)


def _nearest_first(catch: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Offsets in the ellipsoid `catch`, nearest first, then in address order."""
    distance = {
        offset: sum((step / radius) ** 2 for step, radius in zip(offset, catch, strict=True))
        for offset in itertools.product(*(range(-radius, radius + 1) for radius in catch))
    }
    return sorted((o for o, d in distance.items() if d <= 1), key=lambda o: (distance[o], o))
