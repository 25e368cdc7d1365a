"""One job's work of predict, as a value that travels to the job."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cards, grids, instances, memory, shards
from pipeline.cards import Card
from pipeline.footprint import Footprint, footprint
from pipeline.grids import Grid
from pipeline.instances import Geometry
from pipeline.sections import Predict
from pipeline.tiles import Box
from pipeline.view import View

if TYPE_CHECKING:
    from pipeline.sweep import Reader


@dataclass(frozen=True)
class Segment:
    """Makes labels, and parts of the table, for whole shards. Pickles to a job.

    What plans with it loads no torch, which takes seconds and hundreds of megabytes: of the drivers
    of a campaign many run at once, on one machine.

    Attributes
    ----------
    shard: sides of a shard, spatial.
    parts: folder for the parts of the table.
    workers: threads; on a CPU each runs the network on a tile of its own.
    memory_mb: what the job was promised; 0 sets no limit but the machine's.
    """

    view: View
    bundle: Path
    settings: Predict
    shard: tuple[int, ...]
    parts: Path
    workers: int
    memory_mb: int
    by_families: bool = False

    @cached_property
    def _reader(self) -> "Reader":
        import torch

        from pipeline import fields, weights
        from pipeline.sweep import Reader

        network, card = weights.load(self.bundle)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        grid = self.grid(card)
        return Reader(
            view=self.view,
            network=fields.prepared(network.to(device), grid),
            geometry=self.geometry(card),
            grid=grid,
            foreground=self.settings.foreground,
            precision=self.settings.precision,
            parts=self.parts,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_reader"}

    def geometry(self, card: Card) -> Geometry:
        """How far votes go, for the objects that the model knows."""
        smallest = self.settings.smallest_object
        return instances.geometry(card.diameter_voxels, smallest, card.unit_voxels)

    def grid(self, card: Card) -> Grid:
        """The tiles of the image."""
        tile = self.settings.tile_voxels.of(self.view.volume.axes)
        return grids.grid(card.network, self.view.shape, tile)

    def footprint(self, card: Card) -> Footprint:
        """What a job takes in memory."""
        step, halo = self.view.lattice.step, self.geometry(card).halo
        return footprint(card.network, self.grid(card), self.shard, step, halo)

    def spent(self) -> Mapping[str, float]:
        """What this process has spent so far; `devices` is how many can be busy at once."""
        reader = self._reader
        return {
            "busy_s": reader.spent["busy_s"] if reader.on_gpu else time.process_time(),
            "devices": 1.0 if reader.on_gpu else float(self.workers),
            "read_bytes": reader.spent["read_bytes"],
        }

    def __call__(self, boxes: Sequence[Box], put: shards.Put) -> None:
        """Label every box (of the label volume), and hand it to `put`.

        Raises ValueError where the memory that the job got does not hold the work.
        """
        import torch

        from pipeline.sweep import Sweep

        torch.set_num_threads(1)
        takes = self.footprint(cards.read(self.bundle))
        granted = memory.granted_mb(self.memory_mb)
        workers = takes.workers(granted, self.workers)
        if not workers:
            raise ValueError(too_little(takes, granted))
        group = takes.group(granted, workers)
        spare_mb = max(0.0, granted - takes.total_mb(workers, group))
        # No more than around one shard, so that a larger volume takes no more memory.
        kept_bytes = 1e6 * min(spare_mb, takes.seen_mb)
        Sweep(self._reader, boxes, put, workers, group, kept_bytes).run()


def too_little(takes: Footprint, granted_mb: float) -> str:
    """The sentence that refuses to begin what would run out of memory."""
    return (
        f"a job of predict takes about {takes.total_mb(1):.0f} MB, and has {granted_mb:.0f}: raise "
        "predict's mem_mb in the profile, or lower predict.tile_voxels (a forward pass takes "
        f"{takes.forward_mb:.0f} MB) or ingest.shard_voxels (a shard takes "
        f"{takes.total_mb(1) - takes.total_mb(1, 0) + takes.writing_mb:.0f} MB)."
    )
