"""What predicting a volume will take, from the sizes of its parts alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import tiles
from pipeline.gathering import Reach
from pipeline.grids import Grid
from pipeline.labelling import Lattice
from pipeline.tiles import Box, Level


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a prediction, before it starts.

    Attributes
    ----------
    voxels: of the labels at full resolution, all frames.
    shards, units: files of labels over all levels, and what a job takes of them as one.
    jobs: that the units are dealt to.
    tiles: that the image is cut into.
    context: voxels that the network reads for each one that a tile owns.
    passes: forward passes, at most: those that a unit needs around it count for each unit.
    files: that stay, at most: shards, metadata and table.
    label_bytes: of the labels before they are compressed.
    memory_mb: what a job takes.
    """

    voxels: int
    shards: int
    units: int
    jobs: int
    tiles: int
    context: float
    passes: int
    files: int
    label_bytes: int
    memory_mb: float

    def __str__(self) -> str:
        """The plan in sentences."""
        return (
            f"{self.voxels:,} voxels to label in {self.shards:,} shards, {self.units:,} units and "
            f"{self.jobs:,} jobs; {self.tiles:,} tiles, up to {self.passes:,} forward passes, "
            f"reading {self.context:.1f} voxels for each that a tile owns; at most "
            f"{self.files:,} files, {_size(self.label_bytes)} of labels before compression; "
            f"a job takes about {self.memory_mb:,.0f} MB"
        )


def count(
    levels: Sequence[Level],
    axes: str,
    lattice: Lattice,
    grid: Grid,
    geometry: Reach,
    most_shards: int,
) -> tuple[int, int, int, int]:
    """Shards, units, tiles and forward passes of a label volume with these levels and axes."""
    shards = sum(level.shards for level in levels)
    first, *others = tiles.phases(tuple(levels), most_shards)
    units = len(first) + sum(map(len, others))
    frames = levels[0].shape[0] if "t" in axes else 1
    per_frame = math.prod(-(-n // t) for n, t in zip(grid.shape, grid.tile, strict=True))
    passes = 0
    for tree in first:
        top = levels[tree.last].factors
        box = tree.box.refined(top).clipped(levels[0].shape)
        skip = 1 if "t" in axes else 0
        space = Box(box.start[skip:], box.stop[skip:])
        seen = _tiled(lattice.coarsened(space).grown(geometry.halo).clipped(grid.shape), grid)
        held = math.prod(-(-n // t) for n, t in zip(seen.shape, grid.tile, strict=True))
        passes += held * (box.shape[0] if skip else 1)
    return shards, units, per_frame * frames, passes


def _tiled(box: Box, grid: Grid) -> Box:
    """The box of whole tiles that holds a box."""
    return box.coarsened(grid.tile).refined(grid.tile).clipped(grid.shape)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
