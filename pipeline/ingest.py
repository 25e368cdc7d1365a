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

from pipeline import ngff, publication, readers, receipts, shards, volumes
from pipeline.config import IngestTask
from pipeline.readers import Source
from pipeline.tiles import Box, Level, pyramid

log = logging.getLogger("equiscope.ingest")
SAMPLED_VOXELS = 2**22
"""Quantiles are taken at the finest level with at most so many voxels per channel."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Reads level 0 from the raw file. A class, not a closure, so that it pickles to a job."""

    source: Source
    counted: Counter[str] = field(default_factory=Counter, compare=False)

    def spent(self) -> Mapping[str, float]:
        """Bytes of voxels that this process has read so far."""
        return {"read_bytes": self.counted["read_bytes"]}

    def __call__(self, boxes: Sequence[Box], put: shards.Put) -> None:
        """Read every box and hand it on.

        Raises ValueError where a voxel is no number.
        """
        for box in boxes:
            values = self.source.read(box)
            self.counted["read_bytes"] += values.nbytes
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(
                    f"{self.source.path} holds voxels that are no numbers (NaN or infinite), the "
                    f"first ones between {box.start} and {box.stop} ({self.source.axes})."
                )
            put(box, values, {})


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
    )
    target = receipt.with_suffix(".ome.zarr")
    own = volumes.attributes(target).get("equiscope", {})
    building = target.with_name(f"{target.name}.building")
    if own.get("recipe") == recipe and shards.is_whole(target, levels, own["facts"]["digest"]):
        log.info("%s is there and whole, made from the same recipe", target)
        receipts.write(receipt, {"recipe": recipe, "facts": own["facts"]})
        shutil.rmtree(shards.units_folder(building), ignore_errors=True)
        return
    log.info("%s %s %s from %s", source.axes, source.shape, source.dtype, source.path)

    # act
    shards.begin(building, recipe, levels, source.axes, source.dtype, "image")
    work = shards.Shards(building, levels, recipe["hash"], (), Copy(source), "mean")
    records = shards.complete(work, run)
    facts = {
        "volume": target.name,
        "axes": source.axes,
        "shape": list(source.shape),
        "dtype": source.dtype.name,
        "channels": list(source.channels),
        "voxel_size_um": source.voxel_size_um,
        "digest": shards.digest(records),
    }
    volumes.annotate(building, _attributes(source, task, building, levels, recipe, facts))
    if own.get("recipe") == recipe and own["facts"]["digest"] == facts["digest"]:
        # A harmed volume comes back as it was: what was found in it stays true.
        publication.hand_over(target, building)
    publication.publish(building, target)

    # receipt
    receipts.write(receipt.with_suffix(".cost.json"), shards.cost(work.units))
    receipts.write(receipt, {"recipe": recipe, "facts": facts})
    shutil.rmtree(work.units)


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
    blocks = ngff.multiscales(
        name, source.axes, levels, source.voxel_size_um, source.time_step_s, "mean"
    )
    return {
        "ome": {
            "version": ngff.OME_VERSION,
            "multiscales": [blocks],
            "omero": ngff.omero(source.channels, windows, source.dtype),
        },
        "equiscope": {
            "name": name,
            "axes": source.axes,
            "levels": [asdict(level) for level in levels],
            "voxel_size_um": source.voxel_size_um,
            "time_step_s": source.time_step_s,
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
