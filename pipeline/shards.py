"""Making a sharded store: who writes what, what is done, and when it may be published."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pipeline import receipts, volumes
from pipeline.tiles import Box, Level, Tree, phases

Put = Callable[[Box, npt.NDArray[Any], Mapping[str, Any]], None]
MOST_SHARDS_PER_TREE = 64
"""Two halvings in 3-D: few enough to redo after a crash, enough that a terabyte has no more
than a hundred units."""


class Fill(Protocol):
    """Makes level 0: hands each box's voxels, and facts about them, to `put`."""

    def __call__(self, boxes: Sequence[Box], put: Put) -> None:
        """Make every box, in any order, from any thread."""


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
    sampling: Literal["mean", "first"]

    @property
    def units(self) -> Path:
        """Where the records of shards lie."""
        return units_folder(self.store)

    def missing(self) -> list[Tree]:
        """Units with a shard that is not recorded, or not on disk as recorded."""
        return [
            tree
            for tree in self.trees
            if not all(self._is_done(level, box) for level, box in tree.shards(self.levels))
        ]

    def __call__(self, share: Sequence[Tree]) -> None:
        """Write what these units lack, finest level first."""
        todo = [
            (level, box)
            for tree in share
            for level, box in tree.shards(self.levels)
            if not self._is_done(level, box)
        ]
        todo.sort(key=lambda shard: shard[0].number)
        finest = [box for level, box in todo if level.number == 0]
        with tqdm(total=len(todo), unit="shard", desc="writing", mininterval=5) as progress:

            def put(box: Box, values: npt.NDArray[Any], facts: Mapping[str, Any]) -> None:
                self._write(self.levels[0], box, values, facts)
                progress.update()

            if finest:
                self.fill(finest, put)
            for level, box in todo:
                if level.number:
                    self._write(level, box, self._coarsen(level, box), {})
                    progress.update()

    def _write(
        self, level: Level, box: Box, values: npt.NDArray[Any], facts: Mapping[str, Any]
    ) -> None:
        written = volumes.write_shard(self.store, level, box, values)
        record = {"recipe": self.recipe, "facts": dict(facts), **written}
        receipts.write(record_file(self.units, level, box), record)

    def _coarsen(self, level: Level, box: Box) -> npt.NDArray[Any]:
        finer = self.levels[level.number - 1]
        ratio = tuple(a // b for a, b in zip(level.factors, finer.factors, strict=True))
        below = box.refined(ratio).clipped(finer.shape)
        values = np.asarray(volumes.open_level(self.store, finer.number)[below.slices])
        return block_mean(values, ratio) if self.sampling == "mean" else every(values, ratio)

    def _is_done(self, level: Level, box: Box) -> bool:
        record = record_file(self.units, level, box)
        if not receipts.is_of(record, self.recipe):
            return False
        said = receipts.read(record)
        file = self.store / said["file"]
        return (file.stat().st_size if file.exists() else 0) == said["bytes"]


def units_folder(store: Path) -> Path:
    """Where the records of a store in the making lie."""
    return store.with_name(f"{store.name}.units")


def record_file(units: Path, level: Level, box: Box) -> Path:
    """The record of one shard."""
    return units / ("-".join(str(part) for part in (level.number, *box.start)) + ".json")


def block_mean(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """Mean over blocks of `ratio` voxels, integers rounded half up.

    An edge block that is cut by the end of the volume is the mean of the voxels it has.
    """
    for axis, step in enumerate(ratio):
        if step > 1 and values.shape[axis] % step:
            values = np.pad(
                values, [(0, step - 1 if i == axis else 0) for i in range(values.ndim)], "edge"
            )
            keep = [slice(None)] * values.ndim
            keep[axis] = slice(values.shape[axis] // step * step)
            values = values[tuple(keep)]
    shape = [
        n for side, step in zip(values.shape, ratio, strict=True) for n in (side // step, step)
    ]
    within = tuple(range(1, 2 * len(ratio), 2))
    count = int(np.prod(ratio))
    if values.dtype.kind == "f":
        return values.reshape(shape).mean(axis=within, dtype=np.float64).astype(values.dtype)
    total = values.reshape(shape).sum(axis=within, dtype=np.int64)
    return ((2 * total + count) // (2 * count)).astype(values.dtype)


def every(values: npt.NDArray[Any], ratio: tuple[int, ...]) -> npt.NDArray[Any]:
    """The first voxel of every block: ids stay ids."""
    return values[tuple(slice(None, None, step) for step in ratio)]


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


def complete(work: Shards, run: Callable[[Shards], None]) -> list[dict[str, Any]]:
    """Write a whole store, phase by phase, and check every byte. Returns the shards' records.

    `run` completes one phase. Shards whose bytes are not those recorded are made again, once.
    Raises OSError where bytes change a second time.
    """
    for _ in range(2):
        for trees in phases(work.levels, MOST_SHARDS_PER_TREE):
            run(replace(work, trees=tuple(trees)))
        records = {path: receipts.read(path) for path in sorted(work.units.glob("*.json"))}
        damaged = [
            path
            for path, said in records.items()
            if receipts.bytes_digest(work.store / said["file"]) != said["sha256"]
        ]
        if not damaged:
            return list(records.values())
        for path in damaged:
            path.unlink()
    raise OSError(f"{len(damaged)} shards of {work.store} changed on disk, twice: check the disk.")


def digest(records: Sequence[Mapping[str, Any]]) -> str:
    """One hash over the bytes of every shard."""
    return receipts.fingerprint(sorted([said["file"], said["sha256"]] for said in records))


def is_whole(store: Path, levels: Sequence[Level], expected: str) -> bool:
    """Whether a published store's shards are, byte for byte, those of `expected`."""
    found = []
    for level in levels:
        whole = Tree(level.number, level.number, Box((0,) * len(level.shape), level.shape))
        for _, box in whole.shards(tuple(levels)):
            file = volumes.shard_file(level, box)
            found.append({"file": file, "sha256": receipts.bytes_digest(store / file)})
    return digest(found) == expected
