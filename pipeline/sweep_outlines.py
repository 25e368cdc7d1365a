"""A sweep that finds objects with their outlines: each voxel belongs to the centre it points to."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pipeline import instances, labelling
from pipeline.instances import Geometry, Pointers
from pipeline.kept import Key
from pipeline.labelling import INTERPOLATION
from pipeline.sweep import Sweep
from pipeline.tiles import Box


class Outlines(Sweep):
    """One way through some shards; the reader's geometry is a `Geometry`."""

    @property
    def _above(self) -> float:
        return labelling.threshold(self.reader.foreground)

    @property
    def _geometry(self) -> Geometry:
        return cast(Geometry, self.geometry)

    def _beneath(self, box: Box) -> list[Key]:
        """Tiles whose pointers decide labels of a shard."""
        frame, fine = self._split(box)
        return self._tiles(frame, self._telling(fine))

    def _telling(self, fine: Box) -> Box:
        """Voxels whose pointers decide, interpolated if need be, the labels in a box."""
        halo = 0 if self.lattice.same else INTERPOLATION
        return (
            self.lattice.coarsened(fine).grown((halo,) * len(self.shape)).clipped(self.grid.shape)
        )

    def _understood(self, output: npt.NDArray[np.float32]) -> Pointers:
        return instances.pointers(output, self._geometry)

    def _keep(self, key: Key, understood: Any, *, shared: bool) -> None:
        tile = key[1]
        mine = understood.cut(tile, self._whole(tile))
        blank = not bool((mine.logit > self._above).any())
        votes = instances.votes(mine, tile, self._above, self._geometry, self.shape)
        self.kept.keep(key, mine, votes, blank=blank, shared=shared)

    def _find(self, key: Key) -> None:
        votes = [self.kept.votes[k] for k in self._voting([key])]
        self.kept.centres[key] = instances.centres(votes, key[1], self._geometry, self.shape)

    def _label(self, box: Box, key: Key) -> None:
        frame, space = self._split(box)
        fine, around = self._shared(box, key)
        known = np.concatenate([self.kept.centres[k] for k in self._owning([key])], axis=1)
        here = instances.inside_of(self.lattice.addressed(known), fine)
        self.owned[box].append(self.lattice.ids(known[:, here], frame))
        from_tiles = self._tiles(frame, around)
        if self.kept.blank.issuperset(from_tiles):
            return
        said = self._assembled(from_tiles, around)
        found = labelling.label(
            said, around, fine, known, frame, self.lattice, self._geometry, self._above
        )
        self.labels[box].put(fine.within(space), found)

    def _assembled(self, keys: Sequence[Key], around: Box) -> Pointers:
        if len(keys) == 1:
            return self.kept.pointers[keys[0]].cut(around, keys[0][1])
        first = self.kept.pointers[keys[0]]
        logit = np.empty(around.shape, first.logit.dtype)
        steps = np.empty((len(first.steps), *around.shape), first.steps.dtype)
        for key in keys:
            shared = key[1].intersection(around)
            part, place = self.kept.pointers[key].cut(shared, key[1]), shared.within(around)
            logit[place] = part.logit
            steps[(slice(None), *place)] = part.steps
        return Pointers(logit, steps)
