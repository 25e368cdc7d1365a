"""How far votes for objects go and gather: what decides what a piece of an image must know."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

HOPS = 2
"""How often a pointer is followed, of long objects: more gain little. Round ones that touch would
be merged by it more often than long ones are mended, and have pointers as they are."""


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
    hops: how often a pointer goes on by that of the voxel it has led to.
    """

    unit: tuple[float, ...]
    reach: tuple[int, ...]
    blur: tuple[int, ...]
    apart: tuple[int, ...]
    catch: tuple[int, ...]
    votes: int
    hops: int

    @property
    def following(self) -> tuple[int, ...]:
        """Voxels beside a box whose pointers decide where those of the box lead in the end."""
        return self.reach if self.hops else (0,) * len(self.reach)

    @property
    def voting(self) -> tuple[int, ...]:
        """Voxels beside a box whose targets decide which centres the box has."""
        return tuple(map(sum, zip(self.reach, self.blur, self.apart, strict=True)))

    @property
    def owning(self) -> tuple[int, ...]:
        """Voxels beside a box whose centres may own voxels of the box."""
        return tuple(map(sum, zip(self.reach, self.catch, strict=True)))

    @property
    def halo(self) -> tuple[int, ...]:
        """Voxels beside a box whose network output decides which labels the box gets."""
        return tuple(map(sum, zip(self.following, self.voting, self.owning, strict=True)))


def geometry(
    diameter: tuple[float, ...], smallest: float, unit: tuple[float, ...], hops: int
) -> Geometry:
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
        hops=hops,
    )


class Sized(Protocol):
    """What a plan and a card know of the objects looked for, as `geometry` has it."""

    @property
    def diameter_voxels(self) -> tuple[float, ...]:
        """Of a typical object."""
        ...

    @property
    def unit_voxels(self) -> tuple[float, ...]:
        """What a displacement of 1 stands for."""
        ...

    @property
    def hops(self) -> int:
        """How often pointers are followed."""
        ...


def geometry_for(objects: Sized, smallest: float) -> Geometry:
    """Distances for the objects of a plan or a card."""
    return geometry(objects.diameter_voxels, smallest, objects.unit_voxels, objects.hops)
