"""Large volumes, most of whose voxels are zeros: written shard by shard, never held in memory."""

import itertools
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import staging
from pipeline import receipts, tiles, volumes
from pipeline.tiles import Box, Level

TYPE = np.dtype("uint16")
AXES = "czyx"
FULL = (2, 1, 1)
"""So many shards along z, y and x, from the corner of any volume, have objects."""
FILLED = tuple((16, y, x) for y in range(32, 512, 128) for x in range(32, 512, 128))
"""Where, in such a shard, lie blocks of objects: amid tiles, so that their neighbours see none.

There are so many that what can coincide in a job does so in a small volume, too, and as many in a
large one: memory is then compared over sizes, not over how often one was lucky.
"""
BLOCK = (32, 64, 64)
WINDOW = (100.0, 250.0)
CROWD = 2500
"""Voxels per object there."""


def levels_of(sides: tuple[int, ...]) -> tuple[Level, ...]:
    """The pyramid of a volume of one channel, as config.yaml has it."""
    settings = staging.campaign().ingest
    return tiles.pyramid(
        AXES,
        (1, *sides),
        staging.VOXEL_UM,
        settings.chunk_voxels.of(AXES),
        settings.shard_voxels.of(AXES),
        settings.smallest_level_voxels,
        settings.shard_frames.of(AXES),
    )


def described(receipt: Path, sides: tuple[int, ...]) -> Path:
    """The metadata of a published volume, without a voxel. Returns its receipt."""
    levels = levels_of(sides)
    recipe = receipts.recipe("ingest", {"sides": list(sides)}, {})
    facts = {"volume": f"{receipt.stem}.ome.zarr", "axes": AXES, "dtype": TYPE.name}
    own = {
        "name": receipt.stem,
        "axes": AXES,
        "levels": [asdict(level) for level in levels],
        "voxel_size_um": staging.VOXEL_UM,
        "time_step_s": None,
        "channels": [staging.CHANNEL],
        "windows": [WINDOW],
        "recipe": recipe,
        "facts": facts,
    }
    store = receipt.with_name(f"{receipt.stem}.ome.zarr")
    store.parent.mkdir(parents=True, exist_ok=True)
    volumes.create(store, levels, AXES, TYPE, "image")
    volumes.annotate(store, {"equiscope": own})
    receipts.write(receipt, {"recipe": recipe, "facts": facts})
    return receipt


def written(receipt: Path, gigabytes: float) -> Path:
    """A volume of so many GB, in whole shards. Returns its receipt.

    Equal shards are one file with many names. Coarser levels stay without voxels.
    """
    shard = staging.campaign().ingest.shard_voxels.zyx
    count = max(1, round(gigabytes * 1e9 / TYPE.itemsize / math.prod(shard)))
    grid = _grid(count)
    described(receipt, tuple(n * side for n, side in zip(grid, shard, strict=True)))
    store = receipts.result(receipt, "volume")
    level = levels_of(tuple(n * side for n, side in zip(grid, shard, strict=True)))[0]
    originals: dict[bool, Path] = {}
    for index in itertools.product(*map(range, grid)):
        start = (0, *(i * side for i, side in zip(index, shard, strict=True)))
        box = Box(start, (1, *(a + side for a, side in zip(start[1:], shard, strict=True))))
        full = all(i < n for i, n in zip(index, FULL, strict=True))
        file = store / volumes.shard_file(level, box)
        if full in originals:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.hardlink_to(originals[full])
        else:
            volumes.write_shard(store, level, box, _voxels(shard, full)[np.newaxis])
            originals[full] = file
    return receipt


def _grid(count: int) -> tuple[int, int, int]:
    """Shards along each axis, `count` in all or some more."""
    deep = max(1, round(count ** (1 / 3)))
    wide = max(1, round(math.sqrt(count / deep)))
    return deep, wide, math.ceil(count / deep / wide)


def _voxels(shard: tuple[int, ...], full: bool) -> npt.NDArray[np.uint16]:
    voxels = np.zeros(shard, TYPE)
    if full:
        block, _ = staging.scattered(BLOCK, math.prod(BLOCK) // CROWD, np.random.default_rng(0))
        for start in FILLED:
            voxels[tuple(slice(a, a + n) for a, n in zip(start, BLOCK, strict=True))] = block
    return voxels
