"""Tables: parts of shards become one table of objects, with memory that stays flat."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.parquet

from pipeline import objects, receipts
from pipeline.tiles import Box

MANY_ROWS = 100_000
"""Fewer rows than these, some 30 MB, may wait to the end."""


@dataclass(frozen=True, slots=True)
class Group:
    """What one unit of work left.

    Attributes
    ----------
    start, stop: its box of the label volume, along the volume's axes, a time axis included.
    parts: Parquet files of `objects.parts`; together they hold every voxel of the box.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    parts: Sequence[Path]


@dataclass(frozen=True, slots=True)
class Measure:
    """How rows become measurements.

    Attributes
    ----------
    axes: the spatial axes, "yx" or "zyx".
    shape: sides of the label volume, a time axis included.
    margin: an object has no voxel further from its centre than this, along each spatial axis.
    """

    axes: str
    voxel_size_um: Mapping[str, float]
    channels: Sequence[str]
    shape: tuple[int, ...]
    margin: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finished table holds.

    Attributes
    ----------
    objects: its rows.
    per_frame: objects of each frame.
    orphans: ids of objects whose centre no box found in itself.
    waited: the most rows of parts that waited for further groups at once: the memory it took.
    sha256: of the file's bytes.
    """

    objects: int
    per_frame: tuple[int, ...]
    orphans: tuple[int, ...]
    waited: int
    sha256: str


def part(folder: Path, box: Box) -> Path:
    """The file in `folder` of a box's part of the table."""
    return folder / f"{'-'.join(map(str, box.start))}.parquet"


def finish(groups: Iterable[Group], target: Path, measure: Measure) -> Finished:
    """Write the table of all objects as Parquet, indexed by label, in one atomic step.

    Holds one group's rows at a time, and those of objects that groups to come may add to. With
    groups in the order of a volume's boxes these lie on the front between what was seen and what
    was not, which is as wide as the volume and not as long. Rows come in row groups, each sorted
    by label: objects that lie in one group alone, and from time to time, and at the end, those
    that crossed its faces. The bytes depend on the order of groups, not on that of their parts.

    Raises OSError where the disk is full, and RuntimeError where an object is wider than
    `measure.margin` says: it would be several.
    """
    frames = measure.shape[0] if len(measure.shape) > len(measure.axes) else 1
    per_frame = np.zeros(frames, np.int64)
    orphans: list[int] = []
    merge = _Merge(measure)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    writer = None
    try:
        for rows in merge.objects(groups):
            found = objects.measured(rows, measure.axes, measure.voxel_size_um, measure.channels)
            content = pyarrow.Table.from_pandas(found)
            writer = writer or pyarrow.parquet.ParquetWriter(partial, content.schema)
            if len(found):
                writer.write_table(content)
            per_frame += np.bincount(found["t"], minlength=frames)
            orphans += rows["label"][(rows["owned"] == 0) & (rows["voxels"] > 0)].tolist()
    finally:
        if writer is not None:
            writer.close()
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)
    return Finished(
        objects=int(per_frame.sum()),
        per_frame=tuple(per_frame.tolist()),
        orphans=tuple(sorted(orphans)),
        waited=merge.most,
        sha256=receipts.bytes_digest(target),
    )


class _Merge:
    """Brings the rows of each object together, and lets go of them once they are all there."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        # Rows wait as they are: added up twice, floating-point sums would depend on the groups.
        self.waiting: list[pd.DataFrame] = []
        self.most = 0

    def objects(self, groups: Iterable[Group]) -> Iterator[pd.DataFrame]:
        """Combined rows, each object's once."""
        limit = MANY_ROWS
        for group in groups:
            self.seen.append((group.start, group.stop))
            if group.parts:
                rows = pd.concat([pd.read_parquet(path) for path in group.parts], ignore_index=True)
                _check_reach(rows, self.measure)
                yield self._settled(rows, self.seen[-1:])
            if sum(map(len, self.waiting)) > limit:
                rows, self.waiting = pd.concat(self.waiting, ignore_index=True), []
                yield self._settled(rows, self.seen)
                # What is left is looked through again only when it has doubled.
                limit = max(MANY_ROWS, 2 * len(self.waiting[0]))
        rows = pd.concat(self.waiting or [_no_rows(self.measure)], ignore_index=True)
        yield objects.combined(rows)

    def _settled(
        self, rows: pd.DataFrame, boxes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> pd.DataFrame:
        """Those that no box but these can add to, combined; the others wait."""
        labels = rows["label"].to_numpy()
        whole = objects.settled_in(boxes, labels, self.measure.margin, self.measure.shape)
        self.waiting.append(rows[~whole])
        self.most = max(self.most, sum(map(len, self.waiting)))
        return objects.combined(rows[whole])


def _check_reach(rows: pd.DataFrame, measure: Measure) -> None:
    farthest = objects.farthest(rows, measure.axes, measure.shape)
    if any(far > most for far, most in zip(farthest, measure.margin, strict=True)):
        raise RuntimeError(
            f"objects have voxels {farthest} from their centres along {measure.axes}, where "
            f"{measure.margin} was taken for the most: their rows cannot be merged. No setting "
            "does this: the reach of the model's votes was reckoned wrong. Please report it."
        )


def _no_rows(measure: Measure) -> pd.DataFrame:
    """The parts of a volume of nothing."""
    sides = (0,) * len(measure.axes)
    return objects.parts(
        np.zeros(sides, np.uint64),
        [np.zeros(sides, np.float64)] * len(measure.channels),
        np.zeros(sides, np.uint16),
        np.zeros(sides, np.bool_),
        sides,
        measure.axes,
        measure.channels,
        0,
        np.zeros(0, np.uint64),
    )


def labels_of(rows: Path) -> npt.NDArray[np.int64]:
    """The ids in a table or in parts of one, in order; no other column is read."""
    ids = pyarrow.parquet.read_table(rows, columns=["label"])["label"]
    return np.sort(ids.to_numpy())
