"""Predict: a model and a volume become instance labels and a table of objects."""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from dask.delayed import Delayed, delayed

from pipeline import (
    fields,
    instances,
    labelling,
    objects,
    receipts,
    shards,
    tiles,
    volumes,
    weights,
)
from pipeline.config import Predict, PredictTask
from pipeline.fields import Grid
from pipeline.instances import Geometry
from pipeline.network import UNet
from pipeline.tiles import Box, Level, placed
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.predict")


@dataclass(frozen=True, slots=True)
class View:
    """The image as the model sees it: one channel at the level where the model works.

    All boxes and shapes here are spatial. `factors` lead from this level to full resolution.
    """

    volume: Volume
    level: Level
    channel: int

    @property
    def factors(self) -> tuple[int, ...]:
        """How many voxels of full resolution one of the model's is, along each axis."""
        return self.volume.spatial(self.level.factors)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides of the image at the model's level."""
        return self.volume.spatial(self.level.shape)

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Sides of the image at full resolution."""
        return self.volume.spatial(self.volume.levels[0].shape)

    def read(self, box: Box, frame: int) -> npt.NDArray[np.float32]:
        """The normalised image in `box`, mirrored beyond the edges."""
        inner, places = fields.mirrored(box, self.shape)
        image = self.volume.normalised(self.level.number, inner, frame, self.channel)
        return image[np.ix_(*places)]


@dataclass(frozen=True)
class Segment:
    """Makes labels, and parts of the table, for whole shards. Pickles to a job.

    Within one call, a tile's forward pass serves all shards that need it.
    """

    view: View
    bundle: Path
    settings: Predict
    parts: Path
    workers: int

    @cached_property
    def _loaded(self) -> tuple[UNet, Geometry, Grid]:
        network, card = weights.load(self.bundle)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        geometry = instances.geometry(card.diameter_voxels, self.settings.smallest_object)
        tile = self.settings.tile_voxels.of(self.view.volume.axes)
        return network.to(device), geometry, fields.grid(network, self.view.shape, tile)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_loaded"}

    def __call__(self, boxes: Sequence[Box], put: shards.Put) -> None:
        """Label every box (of the label volume) and hand it to `put`."""
        torch.set_num_threads(1)
        _, geometry, grid = self._loaded
        passes: dict[tuple[int, Box], Delayed] = {}

        def tile_of(frame: int, box: Box) -> Delayed:
            if (frame, box) not in passes:
                passes[frame, box] = delayed(self._forward, pure=False)(frame, box)
            return passes[frame, box]

        tasks = []
        for box in boxes:
            frame, space = self._split(box)
            window = labelling.window(space, self.view.factors, self.view.shape, geometry)
            needed = list(tiles.boxes(grid.shape, grid.tile, over=window))
            outputs = [tile_of(frame, tile) for tile in needed]
            tasks.append(delayed(self._label, pure=False)(box, window, needed, outputs, put))
        dask.compute(*tasks, scheduler="threads", num_workers=self.workers)

    def _split(self, box: Box) -> tuple[int, Box]:
        """Frame and spatial box of a box of the label volume, which has no channels."""
        axes = self.view.volume.axes.replace("c", "")
        frame = box.start[0] if "t" in axes else 0
        skip = 1 if "t" in axes else 0
        return frame, Box(box.start[skip:], box.stop[skip:])

    def _forward(self, frame: int, tile: Box) -> npt.NDArray[np.float32]:
        network, _, grid = self._loaded
        return fields.forward(network, self.view.read(grid.reads(tile), frame), grid, tile)

    def _label(
        self,
        box: Box,
        window: Box,
        needed: Sequence[Box],
        outputs: Sequence[npt.NDArray[np.float32]],
        put: shards.Put,
    ) -> None:
        frame, space = self._split(box)
        output = np.empty((outputs[0].shape[0], *window.shape), np.float32)
        for tile, values in zip(needed, outputs, strict=True):
            shared = Box(
                tuple(max(a, b) for a, b in zip(tile.start, window.start, strict=True)),
                tuple(min(a, b) for a, b in zip(tile.stop, window.stop, strict=True)),
            )
            every = (slice(None),)
            output[every + shared.within(window)] = values[every + shared.within(tile)]
        _, geometry, _ = self._loaded
        labels, owned = labelling.label(
            output,
            window,
            space,
            frame,
            self.view.factors,
            self.view.full_shape,
            geometry,
            self.settings.foreground,
        )
        volume = self.view.volume
        images = [
            volume.read(0, placed(volume.axes, space, frame, channel)).reshape(space.shape)
            for channel in range(len(volume.channels))
        ]
        part = objects.parts(
            labels, images, space.start, volume.space, volume.channels, frame, owned
        )
        partial = self.parts / f".{_name(box)}.partial"
        part.to_parquet(partial)
        partial.replace(self.parts / f"{_name(box)}.parquet")
        put(box, labels.reshape(box.shape), {})


def _name(box: Box) -> str:
    return "-".join(str(a) for a in box.start)


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
    segment = Segment(view, bundle, task.predict, parts, workers)
    work = shards.Shards(building, levels, recipe["hash"], (), segment, "first")
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
        if not (_parts(building) / f"{_name(box)}.parquet").is_file():
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
    blocks = volumes.multiscales(
        model,
        volume.axes.replace("c", ""),
        levels,
        volume.voxel_size_um,
        volume.time_step_s,
        "first",
    )
    described = {"levels": [asdict(level) for level in levels], **own}
    image_label = {"version": volumes.OME_VERSION, "source": {"image": "../../"}}
    ome = {"version": volumes.OME_VERSION, "multiscales": [blocks], "image-label": image_label}
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
