"""One job's work of predict, as a value that travels to the job."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import cards, distances, grids, memory, shards, volumes
from pipeline.cards import Card
from pipeline.distances import Geometry
from pipeline.footprint import Footprint, footprint
from pipeline.gathering import Discs, Gathering
from pipeline.grids import Grid
from pipeline.sections import Predict
from pipeline.tiles import Box
from pipeline.view import View

if TYPE_CHECKING:
    from pipeline.forward import Forward
    from pipeline.points import Trial
    from pipeline.sweep import Reader


VOTE_BYTES = 12
"""Of a voxel of which a detector's vote is kept."""


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
        trial = self._trial(card.detector) if card.detector else None
        forward = self.forward(card) if card.detector else None
        return Reader(
            view=self.view,
            network=fields.prepared(network.to(device), grid),
            geometry=self.geometry(card),
            grid=grid,
            foreground=self.settings.foreground,
            precision=self.settings.precision,
            parts=self.parts,
            trial=trial,
            forward=None if isinstance(forward, str) else forward,
            refine=self.settings.refinement != "none",
        )

    def _trial(self, said: cards.Detector) -> "Trial":
        from pipeline.points import Trial
        from pipeline.templates import Template

        template = Template(said.profile)
        return Trial(said.threshold, said.correction, said.f1, template, said.least)

    def forward(self, card: Card) -> "Forward | str":
        """How a point's light becomes the image that this model sees, or why that is not known."""
        from pipeline.defocus import WIDER, defocus
        from pipeline.forward import Forward, reach
        from pipeline.noise import Camera
        from pipeline.optics import Optics

        volume = self.view.volume
        camera = volumes.statistics(volume.store).get(card.channel, {}).get("camera", {})
        if card.optics is None:
            return "the model knows no optics: set those of its channel, or of the model"
        if not self.view.lattice.same:
            return "the model works on other voxels than those of full resolution"
        if "gain_counts_per_electron" not in camera:
            return f"the image does not tell the gain of the camera of channel {card.channel}"
        optics, voxel_um = Optics(**card.optics), card.voxel_size_um[-1]
        sigma = optics.sigma_um("x")[0] / voxel_um
        deep = self.settings.refinement == "maximum_likelihood_3d"
        return Forward(
            sigma=sigma,
            camera=Camera(
                camera["gain_counts_per_electron"],
                camera["offset_counts"],
                camera["read_noise_electrons"],
            ),
            low=volume.windows[self.view.channel][0],
            high=volume.windows[self.view.channel][1],
            defocus=defocus(optics, voxel_um, WIDER * reach(sigma)) if deep else None,
        )

    def unrefined(self, card: Card) -> str | None:
        """What is not refined although that is asked for, and why; None where all is."""
        if not card.detector or self.settings.refinement == "none":
            return None
        known = self.forward(card)
        if isinstance(known, str):
            return f"places are as the network gave them, not refined: {known}"
        if self.settings.refinement == "maximum_likelihood_3d" and not known.defocus:
            modality = (card.optics or {})["modality"]
            return (
                "places are refined in the plane alone: depth is told where light out of focus "
                f"stays, with widefield optics, and the model's are {modality}"
            )
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_reader"}

    def geometry(self, card: Card) -> Geometry | Discs:
        """How far votes go, for the objects that the model knows."""
        if card.detector:
            said, (unit, *_) = card.detector, card.unit_voxels
            how = Gathering(unit, said.reach, said.catch, said.apart)
            return Discs(how, max(card.diameter_voxels) / 2)
        return distances.geometry_for(card, self.settings.smallest_object)

    def grid(self, card: Card) -> Grid:
        """The tiles of the image."""
        tile = self.settings.tile_voxels.of(self.view.volume.axes)
        return grids.grid(card.network, self.view.shape, tile)

    def footprint(self, card: Card) -> Footprint:
        """What a job takes in memory."""
        step, halo = self.view.lattice.step, self.geometry(card).halo
        kept = VOTE_BYTES if card.detector else None
        return footprint(card.network, self.grid(card), self.shard, step, halo, kept)

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

        from pipeline.sweep_outlines import Outlines
        from pipeline.sweep_points import Search

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
        sweep = Search if self._reader.trial else Outlines
        sweep(self._reader, boxes, put, workers, group, kept_bytes).run()


def too_little(takes: Footprint, granted_mb: float) -> str:
    """The sentence that refuses to begin what would run out of memory."""
    return (
        f"a job of predict takes about {takes.total_mb(1):.0f} MB, and has {granted_mb:.0f}: raise "
        "predict's mem_mb in the profile, or lower predict.tile_voxels (a forward pass takes "
        f"{takes.forward_mb:.0f} MB) or ingest.shard_voxels (a shard takes "
        f"{takes.total_mb(1) - takes.total_mb(1, 0) + takes.writing_mb:.0f} MB)."
    )
