"""The shards of a pyramid, each made from those beneath it, and in which order they can be."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline import records, volumes
from pipeline.sampling import block_mean, every
from pipeline.tiles import Box, Index, Level, boxes

Shard = tuple[Level, Box]
Sampling = Literal["mean", "first"]
SAMPLES: dict[Sampling, Callable[[npt.NDArray[Any], Index], npt.NDArray[Any]]] = {
    "mean": block_mean,
    "first": every,
}


@dataclass(frozen=True, slots=True)
class Family:
    """A shard of the second level and those of the first that it is made from."""

    parent: Shard | None
    children: tuple[Box, ...]


def families(levels: Sequence[Level], finest: Sequence[Box]) -> list[Family]:
    """Boxes of level 0, those beside each other that make one coarser shard.

    A family has a parent where it is complete, so that the parent can grow as its children come.
    """
    if len(levels) == 1:
        return [Family(None, (box,)) for box in finest]
    fine, coarse = levels[:2]
    step = coarse.per(fine)
    found: dict[Box, list[Box]] = {}
    for box in finest:
        over = next(boxes(coarse.shape, coarse.shard, box.coarsened(step)))
        found.setdefault(over, []).append(box)
    result = []
    for over, children in found.items():
        beneath = list(boxes(fine.shape, fine.shard, over.refined(step).clipped(fine.shape)))
        whole = beneath == children and all(
            a % n == 0 and (b % n == 0 or b == side)
            for box in children
            for a, b, n, side in zip(box.start, box.stop, step, fine.shape, strict=True)
        )
        result.append(Family((coarse, over) if whole else None, tuple(children)))
    return result


class Growing:
    """A shard of the second level that grows while those beneath it are still in memory."""

    def __init__(self, levels: Sequence[Level], box: Box, dtype: Any, sampling: Sampling) -> None:
        self.box, self.step = box, levels[1].per(levels[0])
        self.sample, self.values = SAMPLES[sampling], np.empty(box.shape, dtype)

    def take(self, box: Box, values: npt.NDArray[Any]) -> None:
        """Take the voxels of a shard of level 0."""
        self.values[box.coarsened(self.step).within(self.box)] = self.sample(values, self.step)


def coarsened(
    store: Path, finer: Level, shard: Shard, sampling: Sampling, receipt: Path
) -> npt.NDArray[Any]:
    """A shard from the level below it, of which a row of chunks is read at a time.

    Raises OSError, which names `receipt`, where a shard beneath it is lost or damaged.
    """
    level, box = shard
    step, sample = level.per(finer), SAMPLES[sampling]
    result = np.empty(box.shape, volumes.open_level(store, level.number).dtype)
    for part in boxes(level.shape, (*level.chunk[:-1], level.shard[-1]), box):
        below = part.refined(step).clipped(finer.shape)
        values = volumes.read_box(store, finer, below, receipt)
        result[part.within(box)] = sample(values, step)
    return result


class Pyramid:
    """Shards that are to be made, and which of them still wait for others. For any thread."""

    def __init__(self, levels: Sequence[Level], todo: Sequence[Shard]) -> None:
        self.levels, self.gate = levels, threading.Lock()
        self.shards = {records.name(*shard): shard for shard in todo}
        self.beneath: dict[str, set[str]] = {name: set() for name in self.shards}
        for name, shard in self.shards.items():
            for over in self._over(*shard):
                self.beneath[over].add(name)

    def ready(self) -> list[Shard]:
        """Coarser shards that wait for none."""
        return [
            shard
            for name, shard in self.shards.items()
            if shard[0].number and not self.beneath[name]
        ]

    def ready_after(self, level: Level, box: Box) -> list[Shard]:
        """Coarser shards that waited for this one last, now that it is written."""
        name, found = records.name(level, box), []
        with self.gate:
            for over in self._over(level, box):
                self.beneath[over].discard(name)
                if not self.beneath[over]:
                    found.append(self.shards[over])
        return found

    def _over(self, level: Level, box: Box) -> list[str]:
        """Names of the shards to be made of which this one is a part, one level above."""
        _, *over = records.above(self.levels[: level.number + 2], level, box)
        return [name for name in over if name in self.beneath]
