"""Predict: a model and a volume become instance labels and a table of objects."""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import fields, ngff, objects, receipts, shards, tiles, volumes, weights
from pipeline.config import PredictTask
from pipeline.segment import Segment, View, part_name
from pipeline.tiles import Box, Level
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.predict")


def predict(
    receipt: Path,
    image: Path,
    model: Path,
    task: PredictTask,
    workers: int,
    run: Callable[[shards.Shards], None],
) -> None:
    """Write labels and table into the volume, then the receipt.

    `image` and `model` are the receipts of ingest and finetune. `workers` threads share a job's
    tiles; `run` completes the units that a phase lacks, wherever that is.
    Raises ValueError where the volume has no level or channel that the model can look at.
    """
    # plan
    volume = volumes.open_volume(receipts.result(image, "volume"))
    bundle = receipts.result(model, "model")
    card = weights.read_card(bundle)
    level = volumes.level_at(volume, card.voxel_size_um)
    view = View(volume, level, volume.channel(card.channel))
    recipe = receipts.recipe(
        "predict",
        task.model_dump(mode="json"),
        {"image": receipts.identity(image), "model": receipts.identity(model)},
    )
    axes = volume.axes.replace("c", "")
    levels = tuple(_without_channels(level, volume.axes) for level in volume.levels)
    target = volume.store / "labels" / model.stem
    building = receipt.with_suffix(".building")
    own = volumes.attributes(target).get("equiscope", {})
    if own.get("recipe") == recipe and shards.is_whole(target, levels, own["facts"]["digest"]):
        log.info("%s is there and whole, made from the same recipe", target)
        receipts.write(receipt, {"recipe": recipe, "facts": own["facts"]})
        _sweep(building)
        return
    _announce(view, bundle, task, levels)

    # act
    shards.begin(building, recipe, levels, axes, np.uint64, "labels")
    parts = _parts(building)
    parts.mkdir(parents=True, exist_ok=True)
    _forget_lost_parts(building, levels)
    labels = Segment(view, bundle, task.predict, parts, workers)
    work = shards.Shards(building, levels, recipe["hash"], (), labels, "first")
    records = shards.complete(work, run)
    pieces = [pd.read_parquet(path) for path in sorted(parts.glob("*.parquet"))]
    table = objects.table(pieces, volume.space, volume.voxel_size_um, volume.channels)
    facts = {
        "objects": len(table),
        "objects_per_frame": np.bincount(table["t"], minlength=_frames(volume)).tolist(),
        "orphans": objects.orphans(pieces),
        "digest": shards.digest(records),
        "table": receipts.fingerprint(table.reset_index().to_csv(index=False)),
    }
    _publish(view, model.stem, building, target, levels, table, {"recipe": recipe, "facts": facts})

    # receipt
    receipts.write(receipt, {"recipe": recipe, "facts": facts})
    _sweep(building)


def _without_channels(level: Level, axes: str) -> Level:
    """The level of a label volume that goes with an image's level."""
    at = axes.index("c")

    def kept(values: tiles.Index) -> tiles.Index:
        return values[:at] + values[at + 1 :]

    return Level(
        number=level.number,
        factors=kept(level.factors),
        shape=kept(level.shape),
        chunk=kept(level.chunk),
        shard=kept(level.shard),
    )


def _announce(view: View, bundle: Path, task: PredictTask, levels: Sequence[Level]) -> None:
    """Say what is about to happen: how much, in what pieces, at what cost in context."""
    network, card = weights.load(bundle)
    tile = task.predict.tile_voxels.of(view.volume.axes)
    grid = fields.grid(network, view.shape, tile)
    whole = Box((0,) * len(grid.tile), grid.tile)
    seen = math.prod(grid.reads(whole).shape) / math.prod(grid.tile)
    finest = levels[0]
    count = math.prod(-(-n // s) for n, s in zip(finest.shape, finest.shard, strict=True))
    log.info(
        "%d shards of labels, %s voxels; the network works at level %d (%s um) on tiles of %s "
        "voxels, reading %.1f voxels for each it answers",
        count,
        f"{math.prod(finest.shape):,}",
        view.level.number,
        " x ".join(f"{size:g}" for size in card.voxel_size_um),
        " x ".join(str(side) for side in grid.tile),
        seen,
    )


def _parts(building: Path) -> Path:
    """Where shards leave their parts of the table: beside their records, to be swept with them."""
    return shards.units_folder(building) / "parts"


def _forget_lost_parts(building: Path, levels: Sequence[Level]) -> None:
    """A shard whose part of the table is gone counts as not done."""
    for box in tiles.boxes(levels[0].shape, levels[0].shard):
        if not (_parts(building) / f"{part_name(box)}.parquet").is_file():
            shards.record_file(shards.units_folder(building), levels[0], box).unlink(
                missing_ok=True
            )


def _frames(volume: Volume) -> int:
    return volume.levels[0].shape[0] if "t" in volume.axes else 1


def _publish(
    view: View,
    model: str,
    building: Path,
    target: Path,
    levels: Sequence[Level],
    table: pd.DataFrame,
    own: dict[str, Any],
) -> None:
    volume = view.volume
    blocks = ngff.multiscales(
        model,
        volume.axes.replace("c", ""),
        levels,
        volume.voxel_size_um,
        volume.time_step_s,
        "first",
    )
    described = {"levels": [asdict(level) for level in levels], **own}
    image_label = {"version": ngff.OME_VERSION, "source": {"image": "../../"}}
    ome = {"version": ngff.OME_VERSION, "multiscales": [blocks], "image-label": image_label}
    volumes.annotate(building, {"ome": ome, "equiscope": described})
    rows = building.with_name(f"{building.name}.table")
    shutil.rmtree(rows, ignore_errors=True)
    volumes.write_table(rows, table, model, own)
    volumes.publish(rows, volume.store / "tables" / model)
    volumes.publish(building, target)
    volumes.list_children(volume.store / "tables", "tables")
    volumes.list_children(volume.store / "labels", "labels")


def _sweep(building: Path) -> None:
    shutil.rmtree(shards.units_folder(building), ignore_errors=True)
