"""Making a sharded store: who writes what, what is done, and when it may be published."""

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt

from pipeline import boundaries, checksums, progress, receipts, records, volumes
from pipeline.pyramid import Family, Growing, Pyramid, Sampling, coarsened, families
from pipeline.tiles import Box, Level, Tree, phases

MOST_SHARDS_PER_TREE = 64
"""Two halvings in 3-D: few enough to redo after a crash, enough that a terabyte has no more
than a few hundred units."""


class Put(Protocol):
    """Takes what was made of one box."""

    def __call__(
        self,
        box: Box,
        values: npt.NDArray[Any],
        facts: Mapping[str, Any],
        beside: Sequence[Path] = (),
    ) -> None:
        """Take a box's voxels, facts about them, and files that were left for it.

        The files lie in the folder of the records; once one is gone or torn, the box is not done.
        """


class Fill(Protocol):
    """Makes level 0: hands each box's voxels, and facts about them, to `put`."""

    @property
    def by_families(self) -> bool:
        """Whether it is called once for each family of shards that make one coarser shard.

        That one then grows in memory. Else it is called once for all, and they are read back.
        """

    def __call__(self, boxes: Sequence[Box], put: Put) -> None:
        """Make every box, in any order, from any thread."""

    def spent(self) -> Mapping[str, float]:
        """What this process has spent on it so far; see `progress.Spent`."""


@dataclass(frozen=True, slots=True)
class Shards:
    """A store in the making. Pickles to a job; a unit is a `Tree` of shards.

    Attributes
    ----------
    store: where it grows; `units` beside it holds one record per shard that is done.
    recipe: hash that a record must carry to count.
    trees: the units of the present phase.
    sampling: how a level is made from the one below.
    """

    store: Path
    levels: tuple[Level, ...]
    recipe: str
    trees: tuple[Tree, ...]
    fill: Fill
    sampling: Sampling

    @property
    def units(self) -> Path:
        """Where the records of shards lie."""
        return units_folder(self.store)

    def missing(self) -> list[Tree]:
        """Units with a shard that is not recorded, or not on disk as recorded.

        One listing tells which records there are; only units that have all are looked at closer.
        """
        present, missing, damaged = records.names(self.units), [], dict[str, str]()
        for tree in self.trees:
            names = [records.name(level, box) for level, box in tree.shards(self.levels)]
            faults = {}
            if present.issuperset(names):
                faults = {name: fault for name in names if (fault := self._fault(name))}
                damaged |= faults
            if faults or not present.issuperset(names):
                missing.append(tree)
        records.warn(damaged)
        return missing

    def size(self, unit: Tree) -> float:
        """Billions of voxels of the finest level that the unit makes."""
        finest, top = self.levels[unit.first], self.levels[unit.last]
        return math.prod(unit.box.refined(top.per(finest)).clipped(finest.shape).shape) / 1e9

    def only(self, share: Sequence[Tree]) -> "Shards":
        """The same work with these units alone."""
        return replace(self, trees=tuple(share))

    def trace(self) -> int:
        """How many shards are recorded."""
        return len(records.names(self.units))

    def watch(self) -> progress.Watch:
        """Begin to watch jobs that make the units of the present phase; all of them count."""
        finest = self.trees[0].first
        phase = self.levels[finest : self.trees[0].last + 1]
        return progress.Watch(
            self.units / progress.FOLDER,
            {level.number: level.shards for level in phase},
            math.prod(self.levels[finest].shape),
            lambda: Counter(int(name.partition("-")[0]) for name in records.names(self.units)),
        )

    def __call__(self, share: Sequence[Tree]) -> None:
        """Write what these units lack: a coarser shard as soon as all beneath it is written.

        Leaves the rest to another job where its own time would end within the next shard.
        """
        todo = [
            (level, box)
            for tree in share
            for level, box in tree.shards(self.levels)
            if self._fault(records.name(level, box))
        ]
        if not todo:
            return
        finest = [box for level, box in todo if level.number == 0]
        first = min(tree.first for tree in share)
        spent = self.fill.spent if finest else _nothing
        meter = progress.Meter(self.units / progress.FOLDER, first, len(todo), spent)
        making = _Making(self, meter, first, Pyramid(self.levels, todo))
        with boundaries.respected(), meter.running():
            making.coarser(making.pyramid.ready())
            if not self.fill.by_families:
                together = [Family(None, tuple(finest))] if finest else []
            else:
                together = families(self.levels, finest)
            for family in together:
                making.family(family)

    def write(
        self,
        level: Level,
        box: Box,
        values: npt.NDArray[Any],
        facts: Mapping[str, Any],
        beside: Sequence[Path],
    ) -> int:
        """Write a shard, then its record. Returns the bytes of the shard."""
        written = volumes.write_shard(self.store, level, box, values)
        sizes = {}
        for file in beside:
            # a record outlives a crash of the machine, so what it speaks of has to
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
            sizes[str(file.relative_to(self.units))] = file.stat().st_size
        record = {"recipe": self.recipe, "facts": dict(facts), "beside": sizes, **written}
        receipts.write(self.units / records.name(level, box), record)
        return int(written["bytes"])

    def _fault(self, name: str) -> str:
        return records.fault(name, self.recipe, self.store, self.units)


class _Making:
    """One job's share in the making: each shard is written, then what is made from it."""

    def __init__(self, work: Shards, meter: progress.Meter, first: int, pyramid: Pyramid) -> None:
        self.work, self.meter, self.first, self.pyramid = work, meter, first, pyramid
        self.growing: Growing | None = None
        self.later: list[tuple[Level, Box]] = []
        self.boundary = boundaries.Boundary()

    def family(self, family: Family) -> None:
        """Make shards of level 0, and all coarser ones that can be made then."""
        levels = self.work.levels
        self.growing = None
        if family.parent and records.name(*family.parent) in self.pyramid.shards:
            dtype = volumes.open_level(self.work.store, 0).dtype
            self.growing = Growing(levels, family.parent[1], dtype, self.work.sampling)
        self.work.fill(family.children, partial(self.write, levels[0]))
        self.coarser(self.later)

    def write(
        self,
        level: Level,
        box: Box,
        values: npt.NDArray[Any],
        facts: Mapping[str, Any],
        beside: Sequence[Path] = (),
    ) -> None:
        """Write a shard; what waited for it follows now or, to free its memory first, later."""
        written = self.work.write(level, box, values, facts, beside)
        self.meter.add(values.size if level.number == self.first else 0, written)
        self.boundary.cross()
        ready = self.pyramid.ready_after(level, box)
        if level.number or not self.work.fill.by_families:
            return self.coarser(ready)
        if self.growing:
            self.growing.take(box, values)
        self.later += ready
        return None

    def coarser(self, ready: list[tuple[Level, Box]]) -> None:
        """Make and write shards from those beneath them."""
        while ready:
            level, box = ready.pop()
            grown, self.growing = self.growing, None
            if grown and (level.number, box) == (1, grown.box):
                values = grown.values
            else:
                finer = self.work.levels[level.number - 1]
                values = coarsened(
                    self.work.store, finer, (level, box), self.work.sampling, self.work.units
                )
            self.write(level, box, values, {})


def _nothing() -> Mapping[str, float]:
    """What making coarser levels spends beyond what is counted anyway."""
    return {"read_bytes": 0.0}


def units_folder(store: Path) -> Path:
    """Where the records of a store in the making lie."""
    return store.with_name(f"{store.name}.units")


def begin(
    store: Path,
    recipe: Mapping[str, Any],
    levels: Sequence[Level],
    axes: str,
    dtype: npt.DTypeLike,
    kind: Literal["image", "labels"],
) -> None:
    """Go on with the store that this recipe began, or sweep what is there and begin it."""
    if volumes.attributes(store).get("equiscope", {}).get("recipe") == recipe:
        return
    shutil.rmtree(store, ignore_errors=True)
    shutil.rmtree(units_folder(store), ignore_errors=True)
    store.parent.mkdir(parents=True, exist_ok=True)
    volumes.create(store, levels, axes, dtype, kind)
    # The mark comes last: a store without it was not created whole.
    volumes.annotate(store, {"equiscope": {"recipe": dict(recipe)}})


def complete(work: Shards, run: Callable[[Shards], None], most: int) -> list[records.Written]:
    """Write a whole store, phase by phase, and check every byte. Returns what was written.

    `run` completes one phase, in which a unit has at most `most` shards of the finest level.
    Shards whose bytes are not those recorded are made again, once, and so are the coarser ones
    above them, which may have been made from such bytes.
    Raises OSError where bytes change a second time.
    """
    for _ in range(2):
        for trees in phases(work.levels, most):
            run(replace(work, trees=tuple(trees)))
        written, damaged = _checked(work)
        if not damaged:
            return written
        records.warn(damaged)
        _forget(work, (records.shard(work.levels, name) for name in damaged))
    raise OSError(f"{len(damaged)} shards of {work.store} changed on disk, twice: check the disk.")


def _checked(work: Shards) -> tuple[list[records.Written], dict[str, str]]:
    """What was written, in the order of names; and which records do not hold, and why."""
    written, damaged = [], {}
    for name in sorted(records.names(work.units)):
        said = receipts.read(work.units / name)
        harm, checksum = records.harm(said, work.store, work.units), ""
        if not harm:
            checksum = checksums.of(work.store / said["file"])
            harm = "" if checksum == said["checksum"] else "other bytes"
        if harm:
            damaged[name] = harm
        written.append(records.Written(said["file"], checksum))
    return written, damaged


def forget(work: Shards, boxes: Iterable[Box]) -> None:
    """Take these shards of level 0, and all coarser ones above them, for not done."""
    _forget(work, ((work.levels[0], box) for box in boxes))


def _forget(work: Shards, shards: Iterable[tuple[Level, Box]]) -> None:
    for name in {name for shard in shards for name in records.above(work.levels, *shard)}:
        (work.units / name).unlink(missing_ok=True)


def cost(units: Path) -> dict[str, float]:
    """What it took to make a store: see `progress.cost`. Ask before the records are swept."""
    return progress.cost(units / progress.FOLDER, len(records.names(units)))


def facts(work: Shards) -> Iterator[tuple[Box, Mapping[str, Any]]]:
    """What was found out about each shard of level 0, in the order of names."""
    for name in sorted(records.names(work.units)):
        level, box = records.shard(work.levels, name)
        if level.number == 0:
            yield box, receipts.read(work.units / name)["facts"]
