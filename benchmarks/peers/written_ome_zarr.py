"""The writer of ome-zarr-py, `write_image`, with `local_mean`.

The stack comes as a dask array: of pages, as tifffile gives them, or cut into the shards to write.
"""

from typing import Any

import dask.array
import tifffile
import zarr
from ome_zarr.scale import Methods  # type: ignore[import-untyped]
from ome_zarr.writer import write_image  # type: ignore[import-untyped]

from benchmarks.peers.written import Job, layout


def from_pages(job: Job) -> None:
    """Write from an array whose chunks are pages."""
    pages = zarr.open_array(tifffile.imread(job.stack, aszarr=True), mode="r")
    _write(dask.array.from_zarr(pages), job)


def from_shards(job: Job) -> None:
    """Write from an array, mapped to memory, whose chunks are shards."""
    voxels = tifffile.memmap(job.stack, mode="r")
    _write(dask.array.from_array(voxels, chunks=job.levels[0].shard), job)


def _write(voxels: Any, job: Job) -> None:
    write_image(
        voxels,
        str(job.store),
        axes="zyx",
        scale=dict(zip("zyx", job.voxel_size_um, strict=True)),
        axes_units=dict.fromkeys("zyx", "micrometer"),
        scale_factors=[dict(zip("zyx", one.factors, strict=True)) for one in job.levels[1:]],
        method=Methods.LOCAL_MEAN,
        storage_options=[dict(layout(level)) for level in job.levels],
    )
