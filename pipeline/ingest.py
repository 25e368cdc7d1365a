"""Ingest: a raw file becomes a sharded OME-Zarr volume with a pyramid and measured intensities."""

import logging
import math
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import (
    checksums,
    intensities,
    ngff,
    publication,
    readers,
    receipts,
    shards,
    survey,
    volumes,
)
from pipeline.config import IngestTask
from pipeline.readers import Source
from pipeline.tiles import Box, Level, pyramid

log = logging.getLogger("equiscope.ingest")
MOST_READ_BYTES = 2**30
"""What is read of a file at once, where its strips, tiles or planes reach over several shards."""
FEWEST_SHARDS, UNITS = 8, 32
"""Shards that a unit may have at least, one halving in 3-D; units that a volume shall have."""
SMALL_GVOXEL = 0.1
"""Coarse shards of no more billions of voxels in all are made here, by no job."""
SAMPLED_VOXELS = 2**22
"""Quantiles are taken at the finest level with at most so many voxels per channel."""


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


def ingest(receipt: Path, task: IngestTask, run: Callable[[shards.Shards], None]) -> None:
    """Write the volume beside its receipt, then the receipt.

    `run` completes the units that a phase lacks, wherever that is.
    Raises ValueError where the raw file cannot be read or does not say enough.
    """
    # plan
    source = readers.source(receipt.stem, task.acquisition)
    recipe = receipts.recipe(
        "ingest",
        task.model_dump(mode="json"),
        {task.acquisition.path: readers.identity(source)},
    )
    levels = pyramid(
        source.axes,
        source.shape,
        source.voxel_size_um,
        task.ingest.chunk_voxels.of(source.axes),
        task.ingest.shard_voxels.of(source.axes),
        task.ingest.smallest_level_voxels,
        task.ingest.shard_frames.of(source.axes),
    )
    target = receipt.with_suffix(".ome.zarr")
    own = volumes.attributes(target).get("equiscope", {})
    building = target.with_name(f"{target.name}.building")
    if own.get("recipe") == recipe:
        harmed = checksums.harmed(target, levels, own["facts"]["digest"])
        if not harmed:
            log.info("%s is there and whole, made from the same recipe", target)
            receipts.write(receipt, {"recipe": recipe, "facts": own["facts"]})
            shutil.rmtree(shards.units_folder(building), ignore_errors=True)
            return
        log.warning("%s has %d harmed shards, which are made again", target, len(harmed))
        checksums.reopen(target, building, shards.units_folder(building), harmed)
    log.info("%s %s %s from %s", source.axes, source.shape, source.dtype, source.path)

    # act
    shards.begin(building, recipe, levels, source.axes, source.dtype, "image")
    work = shards.Shards(building, levels, recipe["hash"], (), Copy(source), "mean")
    facts = {
        "volume": target.name,
        "axes": source.axes,
        "shape": list(source.shape),
        "dtype": source.dtype.name,
        "channels": list(source.channels),
        "voxel_size_um": source.voxel_size_um,
        "digest": checksums.keep(
            building, shards.complete(work, _here_if_small(run), _most_per_unit(levels))
        ),
    }
    if own.get("recipe") == recipe and own["facts"]["digest"] != facts["digest"]:
        log.warning("%s is no longer what it was: labels and tables in it are dropped", target)
        for group in ("labels", "tables"):
            shutil.rmtree(building / group, ignore_errors=True)
    _describe_intensities(receipt.with_suffix(".statistics.json"), work, source)
    volumes.annotate(building, _attributes(source, task, building, levels, recipe, facts))
    publication.publish(building, target)

    # receipt
    receipts.write(receipt.with_suffix(".cost.json"), shards.cost(work.units))
    receipts.write(receipt, {"recipe": recipe, "facts": facts})
    shutil.rmtree(work.units)


def _here_if_small(run: Callable[[shards.Shards], None]) -> Callable[[shards.Shards], None]:
    """`run`, but for the last few coarse shards: to start a job for them would take longer."""

    def chosen(phase: shards.Shards) -> None:
        missing = phase.missing()
        coarse = all(tree.first > 0 for tree in phase.trees)
        if missing and coarse and sum(map(phase.size, missing)) <= SMALL_GVOXEL:
            phase(missing)
        else:
            run(phase)

    return chosen


def _most_per_unit(levels: Sequence[Level]) -> int:
    """How many shards a unit may have: fewer in a small volume, so that several jobs share it."""
    return max(FEWEST_SHARDS, min(shards.MOST_SHARDS_PER_TREE, levels[0].shards // UNITS))


def _describe_intensities(path: Path, work: shards.Shards, source: Source) -> None:
    """Write down what the intensities are like.

    Shards of a volume that was reopened tell nothing: what was written when it was made stays.
    """
    if not receipts.is_of(path, work.recipe):
        found = survey.survey(work, source.axes, source.channels)
        receipts.write(path, {"recipe": work.recipe, "channels": found})


def _attributes(
    source: Source,
    task: IngestTask,
    building: Path,
    levels: tuple[Level, ...],
    recipe: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    windows = _windows(building, levels, source.axes, task.ingest.quantiles)
    name = facts["volume"].removesuffix(".ome.zarr")
    placed = ngff.Calibration(source.voxel_size_um, source.time_step_s, source.position_um)
    blocks = ngff.multiscales(name, source.axes, levels, placed, "mean")
    return {
        "ome": {
            "version": ngff.OME_VERSION,
            "multiscales": [blocks],
            "omero": ngff.omero(source.channels, source.colours, windows, source.dtype),
        },
        "equiscope": {
            "name": name,
            "axes": source.axes,
            "levels": [asdict(level) for level in levels],
            "voxel_size_um": source.voxel_size_um,
            "time_step_s": source.time_step_s,
            "position_um": source.position_um,
            "channels": list(source.channels),
            "windows": windows,
            "recipe": recipe,
            "facts": facts,
        },
    }


def _windows(
    store: Path, levels: tuple[Level, ...], axes: str, quantiles: tuple[float, float]
) -> list[tuple[float, float]]:
    """Low and high intensity of each channel over the whole volume, all times together."""
    at = axes.index("c")
    level = next(
        (level for level in levels if math.prod(level.shape) // level.shape[at] <= SAMPLED_VOXELS),
        levels[-1],
    )
    windows = []
    for channel in range(level.shape[at]):
        start = tuple(channel if i == at else 0 for i in range(len(axes)))
        stop = tuple(channel + 1 if i == at else n for i, n in enumerate(level.shape))
        values = np.asarray(volumes.open_level(store, level.number)[Box(start, stop).slices])
        low, high = (float(v) for v in np.quantile(values.astype(np.float64), quantiles))
        # Next to a large number one more makes no difference.
        windows.append((low, high if high > low else low + max(1.0, float(np.spacing(abs(low))))))
    return windows
