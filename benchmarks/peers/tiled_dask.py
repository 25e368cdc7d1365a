"""`dask.array.map_overlap`, and the merge by contact of dask-image (BSD-3).

The merge is that of `dask_image.ndmeasure.label`, whose parts Cellpose's distributed segmentation
and others use for labels of their own: objects that touch across the face of two chunks are one.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np

from benchmarks.peers.tiled import Chunks

VERSION = "2026.5.0"
MERGE = "dask_image.ndmeasure._utils._label"


def labelled(chunks: Chunks, target: Path, workers: int) -> None:
    """Label a volume into the Zarr array `target`, its chunks numbered first and merged then."""
    merge = import_module(MERGE)
    level = chunks.volume.store / "0"
    skipped = len(chunks.volume.axes) - len(chunks.sides)
    raw = dask.array.from_zarr(str(level))[(0,) * skipped].rechunk(chunks.sides)
    with dask.config.set(scheduler="threads", num_workers=workers):
        local = dask.array.map_overlap(
            chunks, raw, depth=chunks.depth, boundary="reflect", dtype=np.int32, meta=raw._meta
        )
        alone = target.with_name("unmerged.zarr")
        local.to_zarr(str(alone))
        local = dask.array.from_zarr(str(alone))
        counts = local.map_blocks(_highest, dtype=np.int64, chunks=(1,) * local.ndim).compute()
        before = np.concatenate([[0], np.cumsum(counts)[:-1]]).reshape(counts.shape)
        offsets = dask.array.from_array(before, chunks=1)
        every = dask.array.map_blocks(
            _numbered, local, offsets, dtype=merge.LABEL_DTYPE, chunks=local.chunks
        )
        touching = merge.label_adjacency_graph(every, None, int(counts.sum()))
        new = merge.connected_components_delayed(touching)
        merge.relabel_blocks(every, new).to_zarr(str(target))


def _highest(block: Any) -> Any:
    return np.max(block, keepdims=True, initial=0).astype(np.int64)


def _numbered(block: Any, offset: Any) -> Any:
    return np.where(block > 0, block + offset, 0)
