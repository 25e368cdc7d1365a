"""Ways to label a volume with one network: ours, peers', and the least that any of them does.

Each is a function of a `Task`, to be called in a process of its own. It returns the seconds from
the open files to the end of its work; loading Python and packages does not count, for any.
"""

import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zarr

from benchmarks import staging
from benchmarks.peers import tiled, tiled_dask, tiled_ngio
from benchmarks.peers.tiled import Chunks
from pipeline import fields, grids, predict, receipts, tiles, volumes, weights
from pipeline import view as views
from pipeline.config import PredictTask

Contender = Callable[["Task"], float]
TILED_PEERS = staging.ROOT / ".venv-peers" / "tiled"
"""Where `make peers` puts what peers that label in chunks need beyond our own requirements."""
LABELS = "labels.zarr"


@dataclass(frozen=True, slots=True)
class Task:
    """What all are given.

    Attributes
    ----------
    image, model: receipts.
    workers: threads, of which each runs the network on one core.
    memory_mb: what a job of ours is promised.
    chunk: sides of what peers label at once.
    out: where labels go; none is there before.
    """

    image: Path
    model: Path
    workers: int
    memory_mb: int
    chunk: tuple[int, ...]
    out: Path

    @property
    def store(self) -> Path:
        """The volume."""
        return receipts.result(self.image, "volume")

    @property
    def settings(self) -> PredictTask:
        """Those of config.yaml."""
        return staging.campaign().predict_task()


def limit(task: Task) -> float:
    """Forward passes alone: what each tile sees lies in memory, and each is passed once."""
    torch.set_num_threads(1)
    network, card = weights.load(receipts.result(task.model, "model"))
    view = views.view(volumes.open_volume(task.store), card.channel, card.voxel_size_um)
    tile = task.settings.predict.tile_voxels.of(card.network.axes)
    grid = grids.grid(card.network, view.shape, tile)
    ready = fields.prepared(network, grid)
    seen = [view.read(grid.reads(box), 0) for box in tiles.boxes(grid.shape, grid.tile)]
    fields.forward(ready, seen[:1])
    with ThreadPoolExecutor(task.workers) as pool:
        began = time.perf_counter()
        for _ in pool.map(lambda image: fields.forward(ready, [image]), seen):
            pass
        return time.perf_counter() - began


def ours(task: Task) -> float:
    """The whole stage: from the volume to published labels, pyramid and table."""
    receipt = task.out / "predict" / task.model.stem / task.image.name
    means = predict.Means(task.workers, task.memory_mb)
    began = time.perf_counter()
    predict.predict(receipt, task.image, task.model, task.settings, means, staging.here)
    return time.perf_counter() - began


def dask(task: Task) -> float:
    """`dask.array.map_overlap`, and dask-image's merge of labels that touch across chunks."""
    sys.path.append(str(TILED_PEERS))
    began = time.perf_counter()
    tiled_dask.labelled(_chunks(task), task.out / LABELS, task.workers)
    return time.perf_counter() - began


def ngio(task: Task) -> float:
    """The segmentation iterator of ngio: tiles with a halo, objects stitched by their overlap."""
    import_module("ngio")
    store = task.out / "volume.ome.zarr"
    shutil.copytree(task.store, store, ignore=shutil.ignore_patterns("labels", "tables"))
    began = time.perf_counter()
    tiled_ngio.labelled(_chunks(task), store, task.workers)
    seconds = time.perf_counter() - began
    (store / "labels" / tiled_ngio.NAME / "0").rename(task.out / LABELS)
    return seconds


def _chunks(task: Task) -> Chunks:
    bundle = receipts.result(task.model, "model")
    return tiled.chunks(task.store, bundle, task.settings.predict, task.chunk)


def labels_of(task: Task) -> npt.NDArray[Any]:
    """The finest labels that a contender left: ours in the volume, a peer's in `out`."""
    peers = task.out / LABELS
    array = peers if peers.exists() else task.store / "labels" / task.model.stem / "0"
    return np.asarray(zarr.open_array(array, mode="r")[:])


def forget(task: Task) -> None:
    """Take away what ours has published, so that it is made again."""
    for group in ("labels", "tables"):
        shutil.rmtree(task.store / group, ignore_errors=True)
