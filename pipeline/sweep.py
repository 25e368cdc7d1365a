"""Shards, one group after the other: forward passes over tiles, then labels and measurements.

Each group is one Dask graph. What a later group needs of a tile is kept until then.

    read --> see (network) --> centres of a tile --> labels of a block --> shard
                 |                                     ^
                 +---------------- pointers -----------+

Tasks leave their results in the sweep, under the tile's key; the graph knows what waits for what.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import fields, objects, shards, tables, tiles
from pipeline.chunks import Chunks
from pipeline.fields import Precision, Prepared
from pipeline.forward import Forward
from pipeline.gathering import Reach
from pipeline.grids import Grid
from pipeline.kept import Kept, Key
from pipeline.labelling import Ids, Labels
from pipeline.points import Trial
from pipeline.tasks import Tasks
from pipeline.tiles import Box, placed
from pipeline.view import View

log = logging.getLogger("equiscope.sweep")
AT_ONCE = 4
"""Tiles that a GPU gets at once; a core of a CPU works on one."""


@dataclass(frozen=True)
class Reader:
    """A model before an image, and where its findings go.

    Attributes
    ----------
    foreground: probability above which a voxel belongs to an object.
    trial: what a detector's votes mean; None of a model that finds outlines.
    forward: how a point's light becomes the image; None where that is not known.
    refine: whether places are searched on with it.
    parts: folder for the parts of the table.
    spent: seconds of the network, bytes read, passes made and passes spared; they grow.
    """

    view: View
    network: Prepared
    geometry: Reach
    grid: Grid
    foreground: float
    precision: Precision
    parts: Path
    trial: Trial | None = None
    forward: Forward | None = None
    refine: bool = False
    spent: dict[str, float] = field(
        default_factory=lambda: {"busy_s": 0.0, "read_bytes": 0.0, "passes": 0.0, "spared": 0.0}
    )

    @property
    def on_gpu(self) -> bool:
        """Whether the network lies on a GPU."""
        return next(self.network.parameters()).device.type == "cuda"


class Sweep(ABC):
    """One way through some shards of the label volume."""

    def __init__(
        self,
        reader: Reader,
        boxes: Sequence[Box],
        put: shards.Put,
        workers: int,
        group: int,
        kept_bytes: float,
    ) -> None:
        self.reader, self.put = reader, put
        self.workers, self.group = workers, group
        self.view, self.lattice = reader.view, reader.view.lattice
        self.geometry, self.grid = reader.geometry, reader.grid
        self.shape = np.asarray(self.grid.shape)
        self.boxes = self._ordered(boxes)
        self.device = threading.Lock()
        self.labels: dict[Box, Labels] = {}
        self.owned: dict[Box, list[Ids]] = {}
        self.writing: list[Future[None]] = []
        self.flat: dict[float, Any] = {}
        self.chunks = Chunks(self.view.volume)
        self.kept = Kept(kept_bytes, reader.parts)
        for number, box in enumerate(self.boxes):
            voting = self._voting(self._owning(self._mine(box)))
            self.kept.expect(number, self._beneath(box), voting)

    def run(self) -> None:
        """Make all shards. One thread writes what is labelled while others go on."""
        with ThreadPoolExecutor(1) as writer:
            for first in range(0, len(self.boxes), self.group):
                before, self.writing = self.writing, []
                now = self.boxes[first : first + self.group]
                tasks = Tasks()
                for box, labelled in self._labelling(now, tasks).items():
                    tasks.add(partial(self._hand_over, writer, box), labelled)
                tasks.run(self.workers)
                self._forget(first + self.group)
                for written in before:
                    written.result()
            for written in self.writing:
                written.result()
        if self.reader.spent["spared"]:
            log.info(
                "%d forward passes made, %d spared: all that the network would have seen there "
                "had one value",
                self.reader.spent["passes"],
                self.reader.spent["spared"],
            )

    def _forget(self, number: int) -> None:
        """Forget what no shard from `number` on needs."""
        self.kept.forget(number)

    def _labelling(self, boxes: Sequence[Box], tasks: Tasks) -> dict[Box, list[str]]:
        """Add what labels some shards, block by block. Returns the last tasks for each shard."""
        owning = {key: None for box in boxes for key in self._owning(self._mine(box))}
        beneath = {key for box in boxes for key in self._beneath(box)}
        kept = self.kept
        voting = [
            key
            for key in self._voting(owning)
            if key not in kept.votes or (key in beneath and key not in kept.pointers)
        ]
        size = AT_ONCE if self.reader.on_gpu else 1
        seen: dict[Key, str] = {}
        for batch in (voting[i : i + size] for i in range(0, len(voting), size)):
            seen |= dict.fromkeys(batch, tasks.add(partial(self._see, batch)))
        centres = {
            key: tasks.add(
                partial(self._find, key), [seen[k] for k in self._voting([key]) if k in seen]
            )
            for key in owning
            if key not in kept.centres
        }
        last: dict[Box, list[str]] = {}
        for box in boxes:
            self.labels[box], self.owned[box] = Labels.empty(self._split(box)[1].shape), []
            last[box] = [
                tasks.add(
                    partial(self._label, box, key),
                    [centres[k] for k in self._owning([key]) if k in centres]
                    + [
                        seen[k] for k in self._tiles(key[0], self._shared(box, key)[1]) if k in seen
                    ],
                )
                for key in self._mine(box)
            ]
        return last

    def _split(self, box: Box) -> tuple[int, Box]:
        """Frame and spatial box of a box of the label volume, which has no channels."""
        skip = 1 if "t" in self.view.volume.axes else 0
        return box.start[0] if skip else 0, Box(box.start[skip:], box.stop[skip:])

    def _mine(self, box: Box) -> list[Key]:
        """Tiles that a shard has voxels of."""
        frame, fine = self._split(box)
        return self._tiles(frame, self.lattice.coarsened(fine))

    def _shared(self, box: Box, key: Key) -> tuple[Box, Box]:
        """What a shard and a tile share at full resolution, and the voxels that tell of it."""
        fine = self.lattice.refined(key[1]).intersection(self._split(box)[1])
        return fine, self._telling(fine)

    def _whole(self, tile: Box) -> Box:
        """What the network says of a tile, beyond the image's edge, too."""
        return Box(
            tile.start, tuple(a + n for a, n in zip(tile.start, self.grid.tile, strict=True))
        )

    def _ordered(self, boxes: Sequence[Box]) -> list[Box]:
        """Frame by frame, and slowest along the side that has most tiles: then fewest wait."""
        if not boxes:
            return []
        spans = [self._split(box)[1] for box in boxes]
        skip = len(boxes[0].start) - len(self.shape)
        tiles_along = [
            (max(span.stop[i] for span in spans) - min(span.start[i] for span in spans))
            / (self.grid.tile[i] * self.lattice.step[i])
            for i in range(len(self.shape))
        ]
        axes = sorted(range(len(self.shape)), key=lambda i: -tiles_along[i])
        return sorted(
            boxes, key=lambda box: (*box.start[:skip], *(box.start[skip + i] for i in axes))
        )

    def _owning(self, keys: Iterable[Key]) -> list[Key]:
        """Tiles whose centres may own voxels of these."""
        return self._around(keys, self.geometry.owning)

    def _voting(self, keys: Iterable[Key]) -> list[Key]:
        """Tiles whose voxels vote for centres in these."""
        return self._around(keys, self.geometry.voting)

    def _around(self, keys: Iterable[Key], reach: tuple[int, ...]) -> list[Key]:
        near = (
            self._tiles(frame, box.grown(reach).clipped(self.grid.shape)) for frame, box in keys
        )
        return list(dict.fromkeys(key for some in near for key in some))

    def _tiles(self, frame: int, over: Box) -> list[Key]:
        return [(frame, tile) for tile in tiles.boxes(self.grid.shape, self.grid.tile, over)]

    def _read(self, key: Key) -> npt.NDArray[np.float32]:
        frame, tile = key
        box = self.grid.reads(tile)
        value = self.view.nothing(box, frame)
        if value is not None:
            return np.broadcast_to(np.float32(value), box.shape)
        image = self.view.read(box, frame, self.chunks.read)
        self.reader.spent["read_bytes"] += image.size * self.view.volume.dtype.itemsize
        return image

    def _see(self, batch: Sequence[Key]) -> None:
        """Read tiles, and pass them forward but for those that have one value all over.

        What the network says of such a tile is the same for each, so it is asked once. Images go
        no further: there are as many as threads, while the tasks that wait are many.
        """
        images = {key: self._read(key) for key in batch}
        flat = {key: _value(image) for key, image in images.items()}
        asked = [key for key, value in flat.items() if value is None or value not in self.flat]
        said = dict(zip(asked, self._ask([images[k] for k in asked]), strict=True))
        for key, value in flat.items():
            if value is not None and value not in self.flat:
                self.flat[value] = self._understood(said[key])
            if value is None:
                self._keep(key, self._understood(said[key]), shared=False)
            else:
                self._keep(key, self.flat[value], shared=True)
        self.reader.spent["passes"] += len(asked)
        self.reader.spent["spared"] += len(batch) - len(asked)

    def _ask(self, images: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        if not images:
            return []
        if not self.reader.on_gpu:
            return fields.forward(self.reader.network, images, self.reader.precision)
        with self.device:
            begun = time.monotonic()
            said = fields.forward(self.reader.network, images, self.reader.precision)
            self.reader.spent["busy_s"] += time.monotonic() - begun
        return said

    @abstractmethod
    def _beneath(self, box: Box) -> list[Key]:
        """Tiles of which pointers are kept until a shard is labelled."""

    @abstractmethod
    def _telling(self, fine: Box) -> Box:
        """Voxels of the network that decide, besides centres, on the labels in a box."""

    @abstractmethod
    def _understood(self, output: npt.NDArray[np.float32]) -> Any:
        """As much of a tile's output as labels need."""

    @abstractmethod
    def _keep(self, key: Key, understood: Any, *, shared: bool) -> None:
        """Keep what is said of a tile: of the last along an axis, only what lies in the image."""

    @abstractmethod
    def _find(self, key: Key) -> None:
        """Find the centres in a tile."""

    @abstractmethod
    def _label(self, box: Box, key: Key) -> None:
        """Label what a tile and a shard share."""

    def _completed(self, box: Box, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of a shard's objects, with what the sweep knows besides."""
        return rows

    def _hand_over(self, writer: Executor, box: Box) -> None:
        self.writing.append(writer.submit(self._write, box))

    def _write(self, box: Box) -> None:
        """Measure what a shard holds, and hand it on."""
        frame, space = self._split(box)
        labels, volume = self.labels.pop(box), self.view.volume
        owned = np.concatenate([*self.owned.pop(box), np.zeros(0, np.uint64)])
        # A shard without a voxel of any object needs no image.
        channels = range(len(volume.channels)) if labels.ids.any() else ()
        images = [
            volume.read(0, placed(volume.axes, space, frame, channel)).reshape(space.shape)
            for channel in channels
        ] or [np.zeros(space.shape, volume.dtype)] * len(volume.channels)
        rows = objects.parts(
            labels.ids,
            images,
            labels.certainty,
            labels.agrees,
            space.start,
            volume.space,
            volume.channels,
            frame,
            owned,
        )
        file = tables.part(self.reader.parts, box)
        partial = file.with_name(f".{file.name}.partial")
        self._completed(box, rows).to_parquet(partial)
        partial.replace(file)
        self.put(box, labels.ids.reshape(box.shape), {}, (file,))


def _value(image: npt.NDArray[np.float32]) -> float | None:
    """The one value that an image has everywhere; None where it has several."""
    if not any(image.strides):
        return float(image.flat[0])
    low = float(image.min())
    return low if low == float(image.max()) else None
