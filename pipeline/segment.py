"""One job's work of predict: forward passes over tiles, labels and parts of the table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import torch
from dask.delayed import Delayed, delayed

from pipeline import fields, instances, labelling, objects, shards, tiles, weights
from pipeline.fields import Grid, Prepared
from pipeline.instances import Geometry
from pipeline.sections import Predict
from pipeline.tiles import Box, Level, placed
from pipeline.volumes import Volume


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
    def _loaded(self) -> tuple[Prepared, Geometry, Grid]:
        network, card = weights.load(self.bundle)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        geometry = instances.geometry(
            card.diameter_voxels, self.settings.smallest_object, card.unit_voxels
        )
        tile = self.settings.tile_voxels.of(self.view.volume.axes)
        grid = fields.grid(network, self.view.shape, tile)
        return fields.prepared(network.to(device), grid), geometry, grid

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
        return fields.forward(network, self.view.read(grid.reads(tile), frame))

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
        partial = self.parts / f".{part_name(box)}.partial"
        part.to_parquet(partial)
        partial.replace(self.parts / f"{part_name(box)}.parquet")
        put(box, labels.reshape(box.shape), {})


def part_name(box: Box) -> str:
    """Name of a box's part of the table, without its suffix."""
    return "-".join(str(a) for a in box.start)
