"""Labels at full resolution from what the network says at the level where it works.

`step` is how many voxels of full resolution one of the network's is wide, along each axis. Boxes
called coarse are counted in the network's voxels, boxes called fine in those of full resolution.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import instances, resample
from pipeline.distances import Geometry
from pipeline.instances import Bools, Floats, Places, Pointers
from pipeline.tiles import Box

Ids = npt.NDArray[np.uint64]
CERTAIN = np.iinfo(np.uint16).max
"""The certainty that stands for a foreground probability of 1."""
INTERPOLATION = 2
"""Voxels beside a box that its interpolation to full resolution looks at."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """How the network's voxels lie in those of full resolution.

    Attributes
    ----------
    step: see above.
    coarse, fine: sides of the image in either.
    """

    step: tuple[float, ...]
    coarse: tuple[int, ...]
    fine: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Whether the network works at full resolution."""
        return all(step == 1 for step in self.step)

    def coarsened(self, fine: Box) -> Box:
        """The network's voxels that hold the voxels of a box."""
        ends = [
            resample.holders(stop - 1, stop, step, side)[0] + 1
            for stop, step, side in zip(fine.stop, self.step, self.coarse, strict=True)
        ]
        starts = [
            resample.holders(start, start + 1, step, side)[0]
            for start, step, side in zip(fine.start, self.step, self.coarse, strict=True)
        ]
        return Box(tuple(map(int, starts)), tuple(map(int, ends)))

    def refined(self, coarse: Box) -> Box:
        """The voxels that a box of the network's holds; boxes that tile the one tile the other."""
        spans = [
            resample.held(*span)
            for span in zip(
                coarse.start, coarse.stop, self.step, self.coarse, self.fine, strict=True
            )
        ]
        return Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))

    def addressed(self, centres: Places) -> Places:
        """The voxel of full resolution in the middle of each of the network's, `(axes, n)`."""
        step, sides = np.reshape(self.step, (-1, 1)), np.reshape(self.fine, (-1, 1))
        return np.minimum(((centres + 0.5) * step).astype(np.int64), sides - 1)

    def ids(self, centres: Places, frame: int) -> Ids:
        """1 + the address of each centre's voxel among all voxels of all frames."""
        flat = np.ravel_multi_index(tuple(self.addressed(centres)), self.fine)
        return (flat + frame * math.prod(self.fine)).astype(np.uint64) + np.uint64(1)


@dataclass(frozen=True, slots=True)
class Labels:
    """What a fine box holds, voxel by voxel.

    Attributes
    ----------
    ids: 0 where there is no object.
    certainty: probability of the foreground, `CERTAIN` for 1; 0 where there is no object.
    agrees: whether a voxel of an object points into the box where its centre got its votes.
    """

    ids: Ids
    certainty: npt.NDArray[np.uint16]
    agrees: Bools

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Labels":
        """Nothing but background."""
        return cls(np.zeros(shape, np.uint64), np.zeros(shape, np.uint16), np.zeros(shape, bool))

    def put(self, place: tuple[slice, ...], found: "Labels") -> None:
        """Write what a box within this one holds."""
        self.ids[place], self.certainty[place] = found.ids, found.certainty
        self.agrees[place] = found.agrees


def threshold(foreground: float) -> float:
    """The logit of a probability."""
    return math.log(foreground / (1 - foreground))


def beside(lattice: Lattice, geometry: Geometry) -> tuple[int, ...]:
    """Voxels of the network beside a box whose pointers decide, besides centres, on its labels."""
    interpolated = 0 if lattice.same else INTERPOLATION
    return tuple(max(interpolated, far) for far in geometry.following)


def label(
    said: Pointers,
    around: Box,
    fine: Box,
    known: Places,
    frame: int,
    lattice: Lattice,
    geometry: Geometry,
    solid_above: float,
) -> Labels:
    """Labels of the box `fine`.

    `said` are the pointers in the coarse box `around`: what holds `fine`, and `beside` voxels more
    on either side unless the image ends there. `known` are the centres that may own what lies in
    it; solid is what has a logit above `solid_above`.
    """
    core = lattice.coarsened(fine)
    solid = said.logit > solid_above
    # Interpolation may make a voxel solid whose coarse voxel is not: neighbours get owners too.
    chosen = (solid if lattice.same else _spread(solid))[core.within(around)]
    if not chosen.any():
        return Labels.empty(fine.shape)
    owned = instances.owned(said, around, core, chosen, known, solid_above, geometry)
    logit, owner, agrees = said.logit[core.within(around)], owned.owner, owned.agrees
    if not lattice.same:
        spans = list(zip(fine.start, fine.stop, lattice.step, strict=True))
        places = tuple(resample.centres_in_coarse(*span) for span in spans)
        logit = resample.interpolated(said.logit, around, places, lattice.coarse)
        whose = np.ix_(
            *(
                resample.holders(*span, side) - first
                for span, side, first in zip(spans, lattice.coarse, core.start, strict=True)
            )
        )
        owner, agrees = owner[whose], agrees[whose]
    here = np.flatnonzero((logit > solid_above) & (owner > 0))
    result = Labels.empty(fine.shape)
    if len(here):
        ids = lattice.ids(known, frame)
        result.ids.reshape(-1)[here] = ids[owner.reshape(-1)[here] - 1]
        probability = 1 / (1 + np.exp(-logit.reshape(-1)[here].astype(np.float64)))
        result.certainty.reshape(-1)[here] = np.rint(CERTAIN * probability)
        result.agrees.reshape(-1)[here] = agrees.reshape(-1)[here]
    return result


def whole(
    output: Floats, lattice: Lattice, geometry: Geometry, foreground: float
) -> npt.NDArray[np.uint64]:
    """Labels of one image from the network's output `(1 + axes, *coarse)` for all of it."""
    box, fine = (Box((0,) * len(sides), sides) for sides in (lattice.coarse, lattice.fine))
    said, above = instances.pointers(output, geometry), threshold(foreground)
    shape = np.asarray(lattice.coarse)
    votes = instances.votes(said, box, box, above, geometry, shape)
    known = instances.centres([votes], box, geometry, shape)
    return label(said, box, fine, known, 0, lattice, geometry, above).ids


def _spread(solid: Bools) -> Bools:
    """Solid voxels and their neighbours, those at corners too."""
    for axis in range(solid.ndim):
        wider = solid.copy()
        here = [slice(None)] * solid.ndim
        for inner, outer in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            here[axis] = inner
            mine = tuple(here)
            here[axis] = outer
            wider[mine] |= solid[tuple(here)]
        solid = wider
    return solid
