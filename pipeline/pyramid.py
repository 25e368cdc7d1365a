"""In which order the shards of a pyramid can be made, each from those beneath it."""

import threading
from collections.abc import Sequence

from pipeline import records
from pipeline.tiles import Box, Level

Shard = tuple[Level, Box]


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
