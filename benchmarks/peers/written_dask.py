"""A script as users of dask write it: pages of the TIFF to shards, each level from the one below.

Means are rounded half up; beyond an odd end its edge is taken once more.
"""

from typing import Any

import dask.array
import numpy as np
import tifffile
import zarr

from benchmarks.peers.written import Job, Layout, layout


def write(job: Job) -> None:
    """Write all levels, and what OME-Zarr 0.5 says of them."""
    group = zarr.create_group(job.store, zarr_format=3)
    pages = zarr.open_array(tifffile.imread(job.stack, aszarr=True), mode="r")
    _put(dask.array.from_zarr(pages), job, 0)
    for number, level in enumerate(job.levels[1:], 1):
        below = job.levels[number - 1]
        finer = dask.array.from_zarr(str(job.store / str(number - 1)), chunks=below.shard)
        ratio = tuple(a // b for a, b in zip(level.factors, below.factors, strict=True))
        _put(_coarser(finer, ratio, below), job, number)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [_described(job)]}


def _put(voxels: Any, job: Job, number: int) -> None:
    level = job.levels[number]
    voxels = voxels.rechunk(level.shard)
    voxels.to_zarr(str(job.store), component=str(number), zarr_format=3, **layout(level))


def _coarser(finer: Any, ratio: tuple[int, ...], below: Layout) -> Any:
    beyond = [(0, -n % step) for n, step in zip(finer.shape, ratio, strict=True)]
    even = tuple(-(-side // step) * step for side, step in zip(below.shard, ratio, strict=True))
    padded = dask.array.pad(finer, beyond, "edge").rechunk(even)
    mean = dask.array.coarsen(np.mean, padded, dict(enumerate(ratio)))
    return dask.array.floor(mean + 0.5).astype(finer.dtype)


def _described(job: Job) -> dict[str, Any]:
    datasets = []
    for number, level in enumerate(job.levels):
        sizes = list(zip(job.voxel_size_um, level.factors, strict=True))
        moves = [
            {"type": "scale", "scale": [size * f for size, f in sizes]},
            {"type": "translation", "translation": [size * (f - 1) / 2 for size, f in sizes]},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": moves})
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    return {"name": "stack", "axes": axes, "datasets": datasets}
