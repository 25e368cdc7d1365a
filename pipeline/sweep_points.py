"""A sweep that finds points: places where votes gather, each with a disc drawn around it."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import detections, discs, instances, objects
from pipeline.detections import Votes
from pipeline.gathering import Discs
from pipeline.kept import Key
from pipeline.points import Points, Trial, calibrated, margin, refined
from pipeline.sweep import Sweep
from pipeline.tiles import Box

Known = tuple[npt.NDArray[np.uint64], dict[str, npt.NDArray[np.float64]]]
"""Ids of objects whose centres lie in a piece of a shard, and what is known of each."""
Found = tuple[Points, dict[str, npt.NDArray[np.float64]]]
"""Points in a box, and what the optics tell of each."""


class Search(Sweep):
    """One way through some shards; the reader's geometry is `Discs`, and it has a trial."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.owned_points: dict[Box, list[Known]] = {box: [] for box in self.boxes}

    @property
    def _discs(self) -> Discs:
        return cast(Discs, self.geometry)

    @property
    def _trial(self) -> Trial:
        return cast(Trial, self.reader.trial)

    def _understood(self, output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return output

    def _keep(self, key: Key, understood: Any, *, shared: bool) -> None:
        tile = key[1]
        mine = understood[(slice(None), *tile.within(self._whole(tile)))]
        cast_votes = detections.votes(mine, tile, self._discs.how)
        # A frame has less than 2^23 voxels along a side, and a weight is bounded.
        said = Votes(cast_votes.places.astype(np.int32), cast_votes.weights.astype(np.int32))
        self.kept.keep(key, said, blank=not len(said.weights), shared=False)

    def _cast(self, key: Key, part: Box) -> Votes:
        return cast(Votes, self.kept.said[key])

    def _found(self, frame: int, part: Box, votes: Sequence[Votes]) -> Found:
        together = Votes(
            np.concatenate([one.places for one in votes]).astype(np.int64),
            np.concatenate([one.weights for one in votes]).astype(np.int64),
        )
        how, trial = self._discs.how, self._trial
        said = detections.detect(together, part, how, trial.faintest)
        forward = self.reader.forward
        beyond = margin(trial, how)
        if forward:
            beyond = max(beyond, forward.reach + math.ceil(how.catch) + 3)
        around = part.grown((beyond,) * 2)
        image = self.view.read(around, frame, self.chunks.read) if len(said.bins) else _NO_IMAGE
        found = calibrated(said, trial, image, around.start)
        optical: dict[str, npt.NDArray[np.float64]] = {}
        if forward:
            depths_um = None
            if self.reader.refine:
                found, best = refined(found, forward, image, around.start)
                optical["refined"] = best.taken.astype(np.float64)
                if forward.defocus:
                    depths_um = best.depths_um
                    optical["depth_um"], optical["depth_deviation_um"] = depths_um.T
            # in voxels of the volume: there is no forward model of others
            optical["bound"] = forward.bounds(image, around.start, found.places, depths_um)
        return found, optical

    def _label(self, box: Box, key: Key) -> None:
        frame, fine, space = key[0], self._shared(box, key), self._split(box)[1]
        near, optical = zip(*self._known(box, key), strict=True)
        known = Points(
            *(
                np.concatenate([getattr(one, name) for one in near])
                for name in ("bins", "places", "deviations", "scores")
            )
        )
        step = np.array(self.lattice.step)
        ids, bins = self.lattice.ids(known.bins.T, frame), self.lattice.addressed(known.bins.T).T
        places = (known.places + 0.5) * step - 0.5
        here = instances.inside_of(bins.T, fine)
        mine = {
            "y": places[here, 0],
            "x": places[here, 1],
            "deviation": known.deviations[here] * step[-1],
            "score": known.scores[here],
        }
        for name in optical[0]:
            mine[name] = np.concatenate([one[name] for one in optical])[here]
        self.owned[box].append(ids[here])
        self.owned_points[box].append((ids[here], mine))
        radii = [self._discs.radius * s for s in step]
        found = discs.drawn(fine, ids, bins, places, known.scores, radii)
        self.labels[box].put(fine.within(space), found)

    def _completed(self, box: Box, rows: pd.DataFrame) -> pd.DataFrame:
        every, known = zip(*self.owned_points.pop(box), strict=True)
        together = {name: np.concatenate([one[name] for one in known]) for name in known[0]}
        return objects.placed(rows, np.concatenate(every), together)


_NO_IMAGE = np.zeros((0, 0), np.float32)
