"""What around a shard decides on its labels: where to look, who votes, who may own its voxels."""

from dataclasses import dataclass

from pipeline import tiles
from pipeline.gathering import Reach
from pipeline.grids import Grid
from pipeline.kept import Key
from pipeline.tiles import Box


@dataclass(frozen=True, slots=True)
class Around:
    """Boxes of the network's voxels, each of which holds those before it.

    Attributes
    ----------
    frame: that the shard is of.
    core: the shard itself.
    owning: where centres may own voxels of the shard.
    voting: where voxels may vote for those centres.
    seen: where the network must have looked.
    """

    frame: int
    core: Box
    owning: Box
    voting: Box
    seen: Box


def around(frame: int, core: Box, reach: Reach, grid: Grid) -> Around:
    """What decides on the labels of a box, by how far votes reach."""
    owning = core.grown(reach.owning).clipped(grid.shape)
    voting = owning.grown(reach.voting).clipped(grid.shape)
    return Around(frame, core, owning, voting, voting.grown(reach.following).clipped(grid.shape))


def tiles_of(grid: Grid, frame: int, part: Box, halo: tuple[int, ...] = ()) -> list[Key]:
    """Tiles that have voxels in a box, or within `halo` voxels of it."""
    near = part.grown(halo).clipped(grid.shape) if halo else part
    return [(frame, tile) for tile in tiles.boxes(grid.shape, grid.tile, near)]
