"""Gathering: how far the votes of a detector go, and how far around a piece of image it looks."""

import math
from dataclasses import dataclass
from typing import Protocol


class Reach(Protocol):
    """How far around a box decides what is found in it, in the network's voxels."""

    @property
    def voting(self) -> tuple[int, ...]:
        """Voxels beside a box whose votes decide which centres the box has."""
        ...

    @property
    def owning(self) -> tuple[int, ...]:
        """Voxels beside a box whose centres may own voxels of the box."""
        ...

    @property
    def following(self) -> tuple[int, ...]:
        """Voxels beside a box that decide, by what the network says there, on votes from it."""
        ...

    @property
    def halo(self) -> tuple[int, ...]:
        """Voxels beside a box that decide, by what the network says there, what is found in it."""
        ...


@dataclass(frozen=True, slots=True)
class Gathering:
    """How far votes go and gather, in voxels.

    Attributes
    ----------
    unit: what a displacement of 1 in the network's output stands for.
    reach: a vote that goes further along an axis is void.
    catch: votes within this distance from an object's place are for it.
    apart: no two objects lie within so many voxels along both axes.
    """

    unit: float
    reach: int
    catch: float
    apart: int

    @property
    def halo(self) -> int:
        """Voxels beside a box whose votes decide what is detected in it."""
        return self.reach + 2 * (self.apart + 1) + math.ceil(2 * self.catch) + 1


def gathering(diameter: float, extent: float, unit: float) -> Gathering:
    """Distances for objects of this diameter, whose outline is at most `extent` from the middle."""
    return Gathering(
        unit=unit,
        reach=math.ceil(extent + 3),
        catch=max(1.5, 0.3 * diameter),
        apart=max(1, round(0.25 * diameter)),
    )


@dataclass(frozen=True, slots=True)
class Discs:
    """How far around a box of voxels decides what is found in it, and drawn into it.

    Attributes
    ----------
    how: the detector's votes gather so.
    radius: of the disc that is drawn around each object's place, in voxels along each axis.
    """

    how: Gathering
    radius: float

    @property
    def voting(self) -> tuple[int, int]:
        """Voxels beside a box whose votes decide what is detected in it."""
        return (self.how.halo, self.how.halo)

    @property
    def following(self) -> tuple[int, int]:
        """A vote is its voxel's own."""
        return (0, 0)

    @property
    def owning(self) -> tuple[int, int]:
        """Voxels beside a box whose objects may have discs in it.

        The votes for an object lie within `catch` + 1 of its voxel, and so does their mean.
        """
        far = math.ceil(self.radius + self.how.catch) + 2
        return (far, far)

    @property
    def halo(self) -> tuple[int, int]:
        """Voxels beside a box whose network output decides which discs it shows."""
        far = self.voting[0] + self.owning[0]
        return (far, far)
