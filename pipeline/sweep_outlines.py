"""A sweep that finds objects with their outlines: each voxel belongs to the centre it points to."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pipeline import instances, labelling
from pipeline.distances import Geometry
from pipeline.instances import Places, Pointers, Votes
from pipeline.kept import Key
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

    def _understood(self, output: npt.NDArray[np.float32]) -> Pointers:
        return instances.pointers(output, self._geometry)

    def _keep(self, key: Key, understood: Any, *, shared: bool) -> None:
        mine = understood.cut(key[1], self._whole(key[1]))
        blank = not bool((mine.logit > self._above).any())
        self.kept.keep(key, mine, blank=blank, shared=shared)

    def _cast(self, key: Key, part: Box) -> Votes:
        if key in self.kept.blank:
            return Votes(np.empty((len(part.start), 0), np.int64), np.empty(0, np.int32))
        around = part.grown(self._geometry.following).clipped(self.grid.shape)
        said = self._assembled(self._tiles(key[0], around), around)
        return instances.votes(said, around, part, self._above, self._geometry, self.shape)

    def _found(self, frame: int, part: Box, votes: Sequence[Votes]) -> Places:
        return instances.centres(votes, part, self._geometry, self.shape)

    def _label(self, box: Box, key: Key) -> None:
        frame, fine, space = key[0], self._shared(box, key), self._split(box)[1]
        known = np.concatenate(self._known(box, key), axis=1)
        here = instances.inside_of(self.lattice.addressed(known), fine)
        self.owned[box].append(self.lattice.ids(known[:, here], frame))
        far = labelling.beside(self.lattice, self._geometry)
        around = self.lattice.coarsened(fine).grown(far).clipped(self.grid.shape)
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
            return self.kept.said[keys[0]].cut(around, keys[0][1])
        first = self.kept.said[keys[0]]
        logit = np.empty(around.shape, first.logit.dtype)
        steps = np.empty((len(first.steps), *around.shape), first.steps.dtype)
        for key in keys:
            shared = key[1].intersection(around)
            part, place = self.kept.said[key].cut(shared, key[1]), shared.within(around)
            logit[place] = part.logit
            steps[(slice(None), *place)] = part.steps
        return Pointers(logit, steps)
