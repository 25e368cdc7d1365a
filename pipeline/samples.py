"""What the stages take on voxels of this campaign: small pieces, run through the real thing.

A piece is read as ingest would read it, ingested, and predicted with the model that is there, or
with a base that the model would start from. What comes out is thrown away.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
import torch

from pipeline import (
    bases,
    cards,
    detecting,
    distances,
    finetune,
    grids,
    ingest,
    planning,
    predict,
    receipts,
    shards,
    steerable,
    volumes,
)
from pipeline import view as views
from pipeline.cards import Card
from pipeline.config import Campaign, FinetuneTask, IngestTask, PredictTask
from pipeline.lessons import Plan
from pipeline.readers import Source
from pipeline.sections import Acquisition, Model, VoxelSize
from pipeline.tiles import Box
from pipeline.topology import Architecture
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.doctor")
PIECE_VOXELS = {"yx": (512, 512), "zyx": (32, 128, 128)}
PIECES = 3
"""Of each model, and of each kind of image: enough for a spread, few enough to wait for."""
STEPS = 3


@dataclass(frozen=True, slots=True)
class Made:
    """What ingesting a piece took.

    Attributes
    ----------
    seconds: of one core, for each voxel of full resolution.
    bytes: on disk, of all levels, for each byte of theirs in memory.
    """

    seconds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """What predicting a piece took.

    Attributes
    ----------
    seconds: of one core, for each voxel that the network reads.
    bytes: on disk, of labels and table, for each voxel of full resolution.
    """

    seconds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Eye:
    """How a network sees: on a channel, at a voxel size, objects of a size."""

    channel: str
    voxel_size_um: tuple[float, ...]
    architecture: Architecture
    diameter_voxels: tuple[float, ...]
    unit_voxels: tuple[float, ...]
    hops: int

    @classmethod
    def of(cls, channel: str, plan: Plan) -> "Eye":
        """Of a model that is still to be trained."""
        return cls(
            channel,
            plan.voxel_size_um,
            plan.architecture,
            plan.diameter_voxels,
            plan.unit_voxels,
            plan.hops,
        )

    @classmethod
    def of_card(cls, card: Card) -> "Eye":
        """Of a model that there is."""
        return cls(
            card.channel,
            card.voxel_size_um,
            card.network,
            card.diameter_voxels,
            card.unit_voxels,
            card.hops,
        )


@dataclass(frozen=True, slots=True)
class Passes:
    """Shards of labels, forward passes at most, and voxels that the network reads in each."""

    shards: int
    passes: int
    read: int


def places(shape: Sequence[int], axes: str) -> list[Box]:
    """Where to take pieces: in the middle, and half way to two of the corners."""
    space = [axis for axis in axes if axis in "zyx"]
    sides = dict(zip(space, PIECE_VOXELS["zyx" if len(space) == 3 else "yx"], strict=True))
    found = []
    for part in (0.5, 0.25, 0.75)[:PIECES]:
        start, stop = [], []
        for axis, n in zip(axes, shape, strict=True):
            side = n if axis == "c" else min(n, sides.get(axis, 1))
            first = round((n - side) * part)
            start.append(first)
            stop.append(first + side)
        found.append(Box(tuple(start), tuple(stop)))
    return list(dict.fromkeys(found))


def piece(
    source: Source, box: Box, name: str, campaign: Campaign, folder: Path
) -> tuple[Path, Made]:
    """Read and ingest a piece. Returns the receipt of its volume."""
    begun = time.perf_counter()
    values = source.read(box)
    reading_s = time.perf_counter() - begun
    raw = folder / f"{name}.tif"
    axes = "".join(a for a, n in zip(source.axes, values.shape, strict=True) if a in "yx" or n > 1)
    sides = [n for a, n in zip(source.axes, values.shape, strict=True) if a in axes]
    tifffile.imwrite(raw, values.reshape(sides), metadata=None, photometric="minisblack")
    entry = Acquisition(
        path=str(raw),
        series="only",
        axes=axes,
        channels=source.channels,
        voxel_size_um=VoxelSize(**source.voxel_size_um),
        time_step_s="from file",
    )
    receipt = folder / "ingest" / f"{name}.json"
    ingest.ingest(receipt, IngestTask(acquisition=entry, ingest=campaign.ingest), _here)
    took = receipts.read(receipt.with_suffix(".cost.json"))["seconds_of_jobs"]
    levels = volumes.open_volume(receipts.result(receipt, "volume")).levels
    raw_bytes = sum(math.prod(level.shape) for level in levels) * source.dtype.itemsize
    stored = _stored(receipts.result(receipt, "volume"))
    return receipt, Made((reading_s + took) / values.size, stored / raw_bytes)


def _here(work: Any) -> None:
    work(work.missing())


def _stored(folder: Path) -> int:
    """Bytes of shards and tables. Descriptions weigh in a piece, and not in a volume."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"]
    return sum(path.stat().st_size for path in files)


def model(name: str, campaign: Campaign, image: Path, plan: Plan, folder: Path) -> Path | None:
    """The receipt of a base as it is, to measure with; None where none has the model's network."""
    task = campaign.finetune_task(name)
    wanted = task.base if task.base != "none" else "auto"
    fitting = bases.fitting(wanted, plan.architecture, task.network.object_voxels)
    if not fitting:
        return None
    alone = {"task": "segment", "shots": (), "base": fitting[0], "diameter_um": plan.diameter_um}
    receipt = folder / "finetune" / f"{name}.json"
    given = FinetuneTask.model_validate(task.model_dump() | alone)
    finetune.finetune(receipt, {image.stem: image}, given, _here)
    return receipt


def labelled(image: Path, using: Path, campaign: Campaign, folder: Path) -> Labelled:
    """Predict a piece."""
    receipt = folder / "predict" / using.stem / image.name
    task = PredictTask(predict=campaign.predict)
    predict.predict(receipt, image, using, task, predict.Means(), _here)
    took = receipts.read(receipt.with_suffix(".cost.json"))["seconds_of_jobs"]
    volume = volumes.open_volume(receipts.result(image, "volume"))
    card = cards.read(receipts.result(using, "model"))
    need = passes_of(volume, Eye.of_card(card), campaign)
    stored = sum(_stored(volume.store / kind / using.stem) for kind in ("labels", "tables"))
    voxels = math.prod(volume.label_levels[0].shape)
    return Labelled(took / (need.passes * need.read), stored / voxels)


def passes_of(volume: Volume, eye: Eye, campaign: Campaign) -> Passes:
    """What the labels of a volume take, by a network that sees so."""
    view = views.view(volume, eye.channel, eye.voxel_size_um)
    tile = campaign.predict.tile_voxels.of(volume.axes)
    grid = grids.grid(eye.architecture, view.shape, tile)
    geometry = distances.geometry_for(eye, campaign.predict.smallest_object)
    levels, axes = volume.label_levels, volume.axes.replace("c", "")
    shard_count, _, _, passes = planning.count(
        levels, axes, view.lattice, grid, geometry, shards.MOST_SHARDS_PER_TREE
    )
    read = math.prod(grid.reads(Box((0,) * len(grid.tile), grid.tile)).shape)
    return Passes(shard_count, passes, read)


def trainings(architecture: Architecture, campaign: Campaign, model: Model) -> list[float]:
    """Seconds that a training would take, one for each step that was tried; crops come on top."""
    settings, axes = campaign.finetune, architecture.axes
    network = steerable.build(architecture).train()
    if model.task == "points":
        batch = torch.rand(settings.points.scenes, 1, *(detecting.LEAST_SIDE,) * 2)
        steps = settings.points.steps
    else:
        batch = torch.rand(settings.crops.of(axes), 1, *settings.crop_voxels.of(axes))
        start = settings.start.nothing if model.base == "none" else settings.start.base
        steps = start.steps.of(axes)
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        tried = [
            _timed(lambda: network(batch).square().mean().backward()) for _ in range(STEPS + 1)
        ]
    finally:
        torch.set_num_threads(before)
    return [step_s * steps for step_s in tried[1:]]


def _timed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
