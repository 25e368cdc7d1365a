"""How a campaign's estimate comes about: counts from sizes, times and bytes from measured rates.

The lowest and the highest of the rates bound what is said.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline import adoption, calibration, cluster, ingest, samples, shards, tiles
from pipeline.allocations import Given
from pipeline.calibration import Rates, Whole, kind
from pipeline.cluster import Allocation
from pipeline.config import Campaign
from pipeline.forecast import Between, Estimate, Stage
from pipeline.formats_arrays import ZARR
from pipeline.readers import Source
from pipeline.tiles import Level

DESCRIPTIONS = 10
"""Files of a result besides its shards and one for each level, at most: metadata, checksums, a
table, receipts."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one result takes. `seconds` and `bytes` are None where nothing was measured."""

    jobs: int
    files: int
    passing: int = 0
    raw_bytes: int = 0
    seconds: Between | None = None
    bytes: Between | None = None


@functools.lru_cache(maxsize=1024)
def _dealt(levels: tuple[Level, ...], most: int, asked: Allocation, without_gvoxel: float) -> int:
    """Jobs over all phases, but for coarse ones so small that the stage makes them itself."""
    nothing: Any = None  # nobody fills the shards
    count = 0
    for trees in tiles.phases(levels, most):
        work = shards.Shards(Path(), levels, "", tuple(trees), nothing, "mean")
        if not trees[0].first or sum(map(work.size, trees)) > without_gvoxel:
            count += len(cluster.deal(work, work.trees, asked))
    return count


def _total(parts: Sequence[Between | None]) -> Between | None:
    known = [part for part in parts if part]
    return (
        functools.reduce(Between.plus, known, Between(0, 0, 0))
        if len(known) == len(parts)
        else None
    )


def _rated(rates: Sequence[float], amount: float) -> Between | None:
    return Between.of(rates).times(amount) if rates else None


def counted(campaign: Campaign, sources: Mapping[str, Source], given: Given) -> Estimate:
    """What follows from sizes alone: in seconds, even for thousands of acquisitions."""
    return _estimate(Whole(campaign, sources, given), Rates())


def measured(campaign: Campaign, sources: Mapping[str, Source], given: Given) -> Estimate:
    """The same, with what pieces of the images say of time and bytes. Takes about a minute.

    Pieces are written to the folder for temporary files, and deleted.
    """
    whole = Whole(campaign, sources, given)
    return _estimate(whole, calibration.measure(whole))


def _estimate(whole: Whole, rates: Rates) -> Estimate:
    campaign = whole.campaign
    ingests = [_ingest(whole, name, rates) for name in _left(whole, "ingest", whole.sources)]
    trainings = [
        _finetune(whole, name, rates) for name in _left(whole, "finetune", campaign.models)
    ]
    passes: dict[Any, samples.Passes] = {}
    predictions = [
        _predict(whole, model, name, rates, passes)
        for model, name in campaign.pairs
        if name in whole.sources and not whole.receipt("predict", model, name).is_file()
    ]
    pairs = sum(name in whole.sources for _, name in campaign.pairs)
    stages = (
        _stage(whole, "ingest", len(whole.sources), rates, ingests),
        _stage(whole, "finetune", len(campaign.models), rates, trainings),
        _stage(whole, "predict", pairs, rates, predictions),
    )
    return Estimate(stages, sum(map(len, rates.made.values())), torch.cuda.is_available())


def _left(whole: Whole, stage: str, names: Mapping[str, Any]) -> list[str]:
    return [name for name in names if not whole.receipt(stage, name).is_file()]


def _ingest(whole: Whole, name: str, rates: Rates) -> Part:
    source, levels = whole.sources[name], whole.volume(name).levels
    files = len(levels) + DESCRIPTIONS
    if _is_adopted(source, whole.campaign):
        return Part(0, files, 0, 0, Between(0, 0, 0), Between(0, 0, 0))
    raw = sum(math.prod(level.shape) for level in levels) * source.dtype.itemsize
    made = rates.made.get(kind(source.axes), [])
    return Part(
        jobs=_jobs(whole, "ingest", levels, ingest.most_per_unit(levels)),
        files=files + sum(level.shards for level in levels),
        passing=sum(level.shards for level in levels),  # a record for each
        raw_bytes=raw,
        seconds=_rated([one.seconds for one in made], math.prod(source.shape)),
        bytes=_rated([one.bytes for one in made], raw),
    )


def _is_adopted(source: Source, campaign: Campaign) -> bool:
    if not campaign.ingest.adopt or source.form != ZARR.name:
        return False
    try:
        adoption.fit(source)
    except adoption.UnfitError:
        return False
    return True


def _finetune(whole: Whole, name: str, rates: Rates) -> Part:
    model = whole.campaign.models[name]
    if not model.shots:
        return Part(0, DESCRIPTIONS, 0, 0, Between(0, 0, 0), Between(0, 0, 0))
    members = 1 if model.task == "points" else 1 + len(whole.campaign.finetune.gate.members)
    asked = whole.given.stages.get("finetune")
    jobs = min(members, asked.jobs) if asked else 1
    seconds = _rated(rates.trainings.get(name, []), members)
    return Part(jobs, DESCRIPTIONS, members, 0, seconds, Between(0, 0, 0))


def _predict(
    whole: Whole, model: str, name: str, rates: Rates, passes: dict[Any, samples.Passes]
) -> Part:
    volume = whole.volume(name)
    levels = volume.label_levels
    labelled = rates.labelled.get((kind(volume.axes), model), [])
    voxels = math.prod(levels[0].shape)
    seconds = None
    if labelled:
        key = (model, volume.axes, levels, tuple(volume.voxel_size_um.values()))
        if key not in passes:
            passes[key] = samples.passes_of(volume, rates.eyes[model], whole.campaign)
        need = passes[key]
        seconds = _rated([one.seconds for one in labelled], need.passes * need.read)
    return Part(
        jobs=_jobs(whole, "predict", levels, shards.MOST_SHARDS_PER_TREE),
        files=sum(level.shards for level in levels) + len(levels) + DESCRIPTIONS,
        passing=sum(level.shards for level in levels) + levels[0].shards,  # and parts of the table
        raw_bytes=8 * sum(math.prod(level.shape) for level in levels),
        seconds=seconds,
        bytes=_rated([one.bytes for one in labelled], voxels),
    )


def _jobs(whole: Whole, stage: str, levels: tuple[Level, ...], most: int) -> int:
    """Jobs that make a store, all phases together; one for each where nothing is asked for."""
    asked = whole.given.stages.get(stage)
    alone = ingest.SMALL_GVOXEL if stage == "ingest" else 0.0
    return _dealt(levels, most, asked, alone) if asked else len(tiles.phases(levels, most))


def _stage(whole: Whole, name: str, wanted: int, rates: Rates, parts: Sequence[Part]) -> Stage:
    """What is still to be made, added up."""
    asked = whole.given.stages.get(name)
    jobs = sum(part.jobs for part in parts)
    seconds = _total([part.seconds for part in parts])
    started = seconds.shifted(jobs * rates.start_s) if seconds else None
    most = asked.jobs * asked.cpus_per_task * whole.given.at_once(name) if asked else 1
    return Stage(
        name=name,
        results=wanted,
        done=wanted - len(parts),
        jobs=jobs,
        files=sum(part.files for part in parts),
        seconds=started,
        bytes=_total([part.bytes for part in parts]),
        raw_bytes=sum(part.raw_bytes for part in parts),
        passing=sum(part.passing for part in parts),
        gpus=bool(asked and asked.gpu),
        at_once=max(1, min(jobs * (asked.cpus_per_task if asked else 1), most)),
    )
