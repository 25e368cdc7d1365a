"""How much memory a job of predict takes, from the sizes of what it holds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.grids import Grid
from pipeline.topology import GROUPS, Architecture

PROCESS_MB = 600.0
"""Python, torch and what else is loaded."""
TENSORS = 5
"""Of the width and sides of the finest level, that a forward pass holds at its height."""
LABEL_BYTES = 11
"""Of a voxel of full resolution: its id, certainty and agreement."""
WRITING_BYTES = 40
"""Of a voxel of a shard that is measured, encoded, read back and compared."""

MOST_AT_ONCE = 8
"""Shards that are lost, at most, with a job that is killed."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the parts of a job take, in MB.

    Attributes
    ----------
    forward_mb: one forward pass.
    seen_mb: what the network says of one shard and of what lies around it.
    labels_mb: the labels of one shard.
    writing_mb: besides those, one shard while it is measured and written.
    """

    forward_mb: float
    seen_mb: float
    labels_mb: float
    writing_mb: float

    def total_mb(self, workers: int, group: int = 1) -> float:
        """Of `workers` threads that make `group` shards at once, and write those before."""
        shards_mb = group * (self.seen_mb + 2 * self.labels_mb) + self.writing_mb
        return PROCESS_MB + workers * self.forward_mb + shards_mb

    def workers(self, granted_mb: float, most: int) -> int:
        """How many threads the memory allows; 0 where it allows none."""
        return next((n for n in range(most, 0, -1) if self.total_mb(n) <= granted_mb), 0)

    def group(self, granted_mb: float, workers: int) -> int:
        """How many shards to make at once: then threads rarely wait for the last tile of them.

        Half of what memory is left stays for tiles that later shards need.
        """
        if workers == 1:
            return 1
        spare = max(0.0, granted_mb - self.total_mb(workers)) / 2
        return min(MOST_AT_ONCE, 1 + math.floor(spare / (self.seen_mb + 2 * self.labels_mb)))


def footprint(
    architecture: Architecture,
    grid: Grid,
    shard: Sequence[int],
    step: Sequence[float],
    halo: Sequence[int],
    kept_bytes: int | None = None,
) -> Footprint:
    """Of a network on these tiles, for shards of these sides at full resolution.

    `step` is how many voxels of full resolution one of the network's is wide; `halo` how far
    around a shard the network is asked, in its own voxels; `kept_bytes` what is kept of what it
    says of one of these, by default pointers.
    """
    width = architecture.fields * GROUPS[architecture.group].order
    read = math.prod(t + 2 * c for t, c in zip(grid.tile, grid.context, strict=True))
    reached = math.prod(
        min(n, t * (1 + math.ceil((side / s + 2 * h) / t)))
        for side, s, h, t, n in zip(shard, step, halo, grid.tile, grid.shape, strict=True)
    )
    voxels = math.prod(shard)
    return Footprint(
        forward_mb=TENSORS * width * read * 4 / 1e6,
        seen_mb=(kept_bytes or 4 + len(grid.tile)) * reached / 1e6,
        labels_mb=LABEL_BYTES * voxels / 1e6,
        writing_mb=WRITING_BYTES * voxels / 1e6,
    )
