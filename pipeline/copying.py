"""Level 0 of a volume, read from its raw file."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import intensities, shards
from pipeline.readers import Source
from pipeline.sections import Ingest
from pipeline.tiles import Box, Level, pyramid

MOST_READ_BYTES = 2**30
"""What is read of a file at once, where its strips, tiles or planes reach over several shards."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Reads level 0 from the raw file. A class, not a closure, so that it pickles to a job."""

    source: Source
    by_families: bool = True
    counted: Counter[str] = field(default_factory=Counter, compare=False)

    def spent(self) -> Mapping[str, float]:
        """Bytes of voxels that this process has read so far."""
        return {"read_bytes": self.counted["read_bytes"]}

    def __call__(self, boxes: Sequence[Box], put: shards.Put) -> None:
        """Read every box and hand it on.

        Raises ValueError where a voxel is no number.
        """
        with self.source.reading() as opened:
            for group in together(boxes, self.source, opened.decoded_at_once):
                around = Box(group[0].start, group[-1].stop)
                values = opened.read(around)
                self.counted["read_bytes"] += values.nbytes
                for box in group:
                    self._put(box, values[box.within(around)], put)

    def _put(self, box: Box, values: npt.NDArray[Any], put: shards.Put) -> None:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(
                f"{self.source.path} holds voxels that are no numbers (NaN or infinite), the "
                f"first ones between {box.start} and {box.stop} ({self.source.axes})."
            )
        put(box, values, intensities.measure(values))


def levels(source: Source, settings: Ingest) -> tuple[Level, ...]:
    """The levels of the volume that a source becomes."""
    return pyramid(
        source.axes,
        source.shape,
        source.voxel_size_um,
        settings.chunk_voxels.of(source.axes),
        settings.shard_voxels.of(source.axes),
        settings.smallest_level_voxels,
        settings.shard_frames.of(source.axes),
    )


def together(
    boxes: Sequence[Box], source: Source, decoded_at_once: Mapping[str, int]
) -> list[list[Box]]:
    """Boxes to read in one go, so that what the file gives at once is decoded once.

    That is, boxes beside each other in a plane, where a strip, tile or plane of the file reaches
    over several of them; never more than `MOST_READ_BYTES`.
    """
    largest = max(math.prod(box.shape) for box in boxes) * source.dtype.itemsize
    side = dict(zip(source.axes, boxes[0].shape, strict=True))
    spans = {axis: decoded_at_once.get(axis, 1) > side[axis] for axis in "yx"}
    free = 2 if spans["y"] else 1 if spans["x"] else 0
    for axes in range(free, 0, -1):
        rows: dict[tuple[int, ...], list[Box]] = {}
        for box in boxes:
            rows.setdefault(box.start[:-axes], []).append(box)
        groups = list(rows.values())
        if all(map(_is_box, groups)) and max(map(len, groups)) * largest <= MOST_READ_BYTES:
            return groups
    return [[box] for box in boxes]


def _is_box(group: Sequence[Box]) -> bool:
    """Whether boxes, in order, fill the one from the first's start to the last's stop."""
    around = Box(group[0].start, group[-1].stop)
    return sum(math.prod(box.shape) for box in group) == math.prod(around.shape)
