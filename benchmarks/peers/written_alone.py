"""Compressing and writing alone: voxels of all levels are there, and zarr-python writes them."""

import itertools
import json
import resource
import time

import numpy as np
import tifffile
import zarr

from benchmarks.peers.written import Job, layout

SPENT = "spent.json"
"""Beside the store: the seconds and the CPU seconds that writing took."""


def write(job: Job) -> None:
    """Write every level shard by shard. Reading a shard's voxels counts as neither time."""
    seconds = cpu_s = 0.0
    group = zarr.create_group(job.store, zarr_format=3)
    for number, (level, file) in enumerate(zip(job.levels, job.voxels, strict=True)):
        voxels = np.load(file, mmap_mode="r") if file.suffix == ".npy" else tifffile.memmap(file)
        array = group.create_array(
            str(number), shape=level.shape, dtype=voxels.dtype, **layout(level)
        )
        starts = (range(0, n, side) for n, side in zip(level.shape, level.shard, strict=True))
        for start in itertools.product(*starts):
            box = tuple(slice(a, a + side) for a, side in zip(start, level.shard, strict=True))
            values = np.array(voxels[box])
            began, before = time.perf_counter(), _cpu_s()
            array[box] = values
            cpu_s += _cpu_s() - before
            seconds += time.perf_counter() - began
    said = {"seconds": seconds, "cpu_s": cpu_s}
    job.store.with_name(SPENT).write_text(json.dumps(said), "utf-8")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
