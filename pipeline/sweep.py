"""Shards, one group after the other: forward passes over tiles, then labels and measurements.

Each group is one Dask graph. What the network says of a tile is kept for later groups:

    read --> see (network) --> votes --> centres --> labels of a block --> shard
                 |                                     ^
                 +-------------------------------------+

Votes and centres are a shard's own, from as many voxels around it as decide on them: a tile that
two shards look at gives them to both anew, which is little work beside a forward pass. Tasks leave
their results in the sweep; the graph knows what waits for what.
"""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import fields, objects, shards, tables
from pipeline.around import Around, around, tiles_of
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
        self.votes: dict[Box, dict[Key, Any]] = {}
        self.centres: dict[Box, dict[Key, Any]] = {}
        self.labels: dict[Box, Labels] = {}
        self.owned: dict[Box, list[Ids]] = {}
        self.writing: list[Future[None]] = []
        self.flat: dict[float, Any] = {}
        self.chunks = Chunks(self.view.volume)
        self.kept = Kept(kept_bytes, reader.parts)
        self.around: dict[Box, Around] = {}
        for number, box in enumerate(self.boxes):
            frame, fine = self._split(box)
            near = around(frame, self.lattice.coarsened(fine), self.geometry, self.grid)
            self.around[box] = near
            self.kept.expect(number, self._tiles(frame, near.seen))

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
                self.kept.forget(first + self.group)
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

    def _labelling(self, boxes: Sequence[Box], tasks: Tasks) -> dict[Box, list[str]]:
        """Add what labels some shards, block by block. Returns the last tasks for each shard."""
        seen_boxes = [(self.around[box].frame, self.around[box].seen) for box in boxes]
        needed = dict.fromkeys(key for where in seen_boxes for key in self._tiles(*where))
        new = [key for key in needed if key not in self.kept.said]
        size = AT_ONCE if self.reader.on_gpu else 1
        seen: dict[Key, str] = {}
        for batch in (new[i : i + size] for i in range(0, len(new), size)):
            seen |= dict.fromkeys(batch, tasks.add(partial(self._see, batch)))
        return {box: self._labelling_one(box, tasks, seen) for box in boxes}

    def _labelling_one(self, box: Box, tasks: Tasks, seen: Mapping[Key, str]) -> list[str]:
        """Add what labels a shard from tiles that are seen, or will be by these tasks."""
        near, reach = self.around[box], self.geometry
        self.votes[box], self.centres[box] = {}, {}
        self.labels[box], self.owned[box] = Labels.empty(self._split(box)[1].shape), []

        def after(done: Mapping[Key, str], part: Box, halo: tuple[int, ...]) -> list[str]:
            return [done[key] for key in self._tiles(near.frame, part, halo) if key in done]

        voted, found, last = {}, {}, []
        for key in self._tiles(near.frame, near.voting):
            part = key[1].intersection(near.voting)
            call = partial(self._vote, box, key, part)
            voted[key] = tasks.add(call, after(seen, part, reach.following))
        for key in self._tiles(near.frame, near.owning):
            part = key[1].intersection(near.owning)
            call = partial(self._find, box, key, part)
            found[key] = tasks.add(call, after(voted, part, reach.voting))
        for key in self._tiles(near.frame, near.core):
            part = key[1].intersection(near.core)
            last.append(tasks.add(partial(self._label, box, key), after(found, part, reach.owning)))
        return last

    def _vote(self, box: Box, key: Key, part: Box) -> None:
        self.votes[box][key] = self._cast(key, part)

    def _find(self, box: Box, key: Key, part: Box) -> None:
        near = self._tiles(key[0], part, self.geometry.voting)
        votes = self.votes[box]
        self.centres[box][key] = self._found(key[0], part, [votes[k] for k in near])

    def _known(self, box: Box, key: Key) -> list[Any]:
        """Centres that may own what a shard and a tile share."""
        part = key[1].intersection(self.around[box].core)
        return [self.centres[box][k] for k in self._tiles(key[0], part, self.geometry.owning)]

    def _split(self, box: Box) -> tuple[int, Box]:
        """Frame and spatial box of a box of the label volume, which has no channels."""
        skip = 1 if "t" in self.view.volume.axes else 0
        return box.start[0] if skip else 0, Box(box.start[skip:], box.stop[skip:])

    def _shared(self, box: Box, key: Key) -> Box:
        """What a shard and a tile share at full resolution."""
        return self.lattice.refined(key[1]).intersection(self._split(box)[1])

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

    def _tiles(self, frame: int, part: Box, halo: tuple[int, ...] = ()) -> list[Key]:
        return tiles_of(self.grid, frame, part, halo)

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
            understood = self._understood(said[key]) if value is None else self.flat[value]
            self._keep(key, understood, shared=value is not None)
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
    def _understood(self, output: npt.NDArray[np.float32]) -> Any:
        """As much of a tile's output as labels need."""

    @abstractmethod
    def _keep(self, key: Key, understood: Any, *, shared: bool) -> None:
        """Keep what is said of a tile: of the last along an axis, only what lies in the image."""

    @abstractmethod
    def _cast(self, key: Key, part: Box) -> Any:
        """The votes of the voxels that a tile has in a box."""

    @abstractmethod
    def _found(self, frame: int, part: Box, votes: Sequence[Any]) -> Any:
        """The centres in a box, from the votes of the tiles around it."""

    @abstractmethod
    def _label(self, box: Box, key: Key) -> None:
        """Label what a tile and a shard share."""

    def _completed(self, box: Box, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of a shard's objects, with what the sweep knows besides."""
        return rows

    def _hand_over(self, writer: Executor, box: Box) -> None:
        del self.votes[box], self.centres[box]
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
