"""How a campaign's estimate comes about: counts from sizes, rates from pieces of its images.

Rates are of one core of this machine, or of its GPU; the lowest and the highest of them bound
what is said.
"""

import contextlib
import functools
import io
import logging
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline import (
    adoption,
    annotations,
    cluster,
    copying,
    ingest,
    lessons,
    receipts,
    samples,
    shards,
    tiles,
    weights,
)
from pipeline.allocations import Given
from pipeline.cluster import Allocation
from pipeline.config import Campaign
from pipeline.forecast import Between, Estimate, Stage
from pipeline.formats_arrays import ZARR
from pipeline.readers import Source
from pipeline.samples import Eye, Labelled, Made
from pipeline.tiles import Level
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.doctor")
DESCRIPTIONS = 4
"""Files of a result besides its shards and one for each level, at most: metadata, a table."""


@dataclass(slots=True)
class Rates:
    """What was measured: by the axes of images; by those and the model; by model.

    Attributes
    ----------
    trainings: seconds of one training.
    eyes: how each model sees.
    unknown: why nothing could be measured with a model.
    start_s: what it takes a job to start, besides waiting.
    """

    made: dict[str, list[Made]] = field(default_factory=dict)
    labelled: dict[tuple[str, str], list[Labelled]] = field(default_factory=dict)
    trainings: dict[str, list[float]] = field(default_factory=dict)
    eyes: dict[str, Eye] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Whole:
    """A campaign, its images, and what its jobs may use."""

    campaign: Campaign
    sources: Mapping[str, Source]
    given: Given

    @property
    def results(self) -> Path:
        """Where results lie."""
        return Path(self.campaign.results)

    def receipt(self, *parts: str) -> Path:
        """A receipt, whether it is there or not."""
        return self.results.joinpath(*parts[:-1], f"{parts[-1]}.json")

    def volume(self, name: str) -> Volume:
        """The volume that an acquisition becomes; it need not be there yet."""
        source = self.sources[name]
        return Volume(
            store=Path(name),
            axes=source.axes,
            levels=copying.levels(source, self.campaign.ingest),
            voxel_size_um=source.voxel_size_um,
            time_step_s=source.time_step_s,
            channels=source.channels,
            windows=((0.0, 1.0),) * len(source.channels),
            recipe="",
            facts={"dtype": source.dtype.name},
            position_um=source.position_um,
        )

    def jobs(self, stage: str, levels: tuple[Level, ...], most: int) -> int:
        """Jobs that make a store, all phases together; one for each where nothing is asked for."""
        asked = self.given.stages.get(stage)
        return _jobs(levels, most, asked) if asked else len(tiles.phases(levels, most))

    def stage(self, name: str, wanted: int, rates: Rates, parts: Sequence["Part"]) -> Stage:
        """What is still to be made, added up."""
        asked = self.given.stages.get(name)
        jobs = sum(part.jobs for part in parts)
        seconds = _total([part.seconds for part in parts])
        started = seconds.shifted(jobs * rates.start_s) if seconds else None
        most = asked.jobs * asked.cpus_per_task * self.given.at_once if asked else 1
        return Stage(
            name=name,
            results=wanted,
            done=wanted - len(parts),
            jobs=jobs,
            files=sum(part.files for part in parts),
            seconds=started,
            bytes=_total([part.bytes for part in parts]),
            raw_bytes=sum(part.raw_bytes for part in parts),
            gpus=bool(asked and asked.gpu),
            at_once=max(1, min(jobs * (asked.cpus_per_task if asked else 1), most)),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """What one result takes. `seconds` and `bytes` are None where nothing was measured."""

    jobs: int
    files: int
    raw_bytes: int = 0
    seconds: Between | None = None
    bytes: Between | None = None


@functools.lru_cache(maxsize=1024)
def _jobs(levels: tuple[Level, ...], most: int, asked: Allocation) -> int:
    phases = tiles.phases(levels, most)
    nothing: Any = None  # nobody fills the shards
    works = (shards.Shards(Path(), levels, "", tuple(trees), nothing, "mean") for trees in phases)
    return sum(len(cluster.deal(work, work.trees, asked)) for work in works)


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
    return _estimate(whole, _measured(whole))


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
        whole.stage("ingest", len(whole.sources), rates, ingests),
        whole.stage("finetune", len(campaign.models), rates, trainings),
        whole.stage("predict", pairs, rates, predictions),
    )
    return Estimate(stages, sum(map(len, rates.made.values())), torch.cuda.is_available())


def _left(whole: Whole, stage: str, names: Mapping[str, Any]) -> list[str]:
    return [name for name in names if not whole.receipt(stage, name).is_file()]


def _kind(axes: str) -> str:
    return "zyx" if "z" in axes else "yx"


def _ingest(whole: Whole, name: str, rates: Rates) -> Part:
    source, levels = whole.sources[name], whole.volume(name).levels
    files = len(levels) + DESCRIPTIONS
    if _is_adopted(source, whole.campaign):
        return Part(0, files, 0, Between(0, 0, 0), Between(0, 0, 0))
    raw = sum(math.prod(level.shape) for level in levels) * source.dtype.itemsize
    made = rates.made.get(_kind(source.axes), [])
    return Part(
        jobs=whole.jobs("ingest", levels, ingest.most_per_unit(levels)),
        files=files + sum(level.shards for level in levels),
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
    if not whole.campaign.models[name].shots:
        return Part(0, DESCRIPTIONS, 0, Between(0, 0, 0), Between(0, 0, 0))
    members = 1 + len(whole.campaign.finetune.gate.members)
    asked = whole.given.stages.get("finetune")
    jobs = min(members, asked.jobs) if asked else 1
    seconds = _rated(rates.trainings.get(name, []), members)
    return Part(jobs, DESCRIPTIONS, 0, seconds, Between(0, 0, 0))


def _predict(
    whole: Whole, model: str, name: str, rates: Rates, passes: dict[Any, samples.Passes]
) -> Part:
    volume = whole.volume(name)
    levels = volume.label_levels
    labelled = rates.labelled.get((_kind(volume.axes), model), [])
    voxels = math.prod(levels[0].shape)
    seconds = None
    if labelled:
        key = (model, volume.axes, levels, tuple(volume.voxel_size_um.values()))
        if key not in passes:
            passes[key] = samples.passes_of(volume, rates.eyes[model], whole.campaign)
        need = passes[key]
        seconds = _rated([one.seconds for one in labelled], need.passes * need.read)
    return Part(
        jobs=whole.jobs("predict", levels, shards.MOST_SHARDS_PER_TREE),
        files=sum(level.shards for level in levels) + len(levels) + DESCRIPTIONS,
        raw_bytes=8 * sum(math.prod(level.shape) for level in levels),
        seconds=seconds,
        bytes=_rated([one.bytes for one in labelled], voxels),
    )


# --- rates --------------------------------------------------------------------------------------


def _measured(whole: Whole) -> Rates:
    """Run pieces of the images through what there is."""
    rates = Rates(start_s=_start_s())
    with tempfile.TemporaryDirectory(prefix="equiscope-doctor-") as name, _quiet():
        folder = Path(name)
        pieces = _pieces(whole, folder, rates)
        for model in whole.campaign.models:
            _measure_model(whole, model, pieces, folder, rates)
    for model, reason in rates.unknown.items():
        log.warning("models.%s: nothing could be measured: %s", model, reason)
    return rates


def _pieces(whole: Whole, folder: Path, rates: Rates) -> dict[str, list[tuple[str, Path]]]:
    """Ingest pieces of some images of each kind. Returns their acquisitions and receipts."""
    pieces: dict[str, list[tuple[str, Path]]] = {}
    for kind in ("yx", "zyx"):
        names = [name for name, source in whole.sources.items() if _kind(source.axes) == kind]
        for number, name in enumerate(_spread(names)):
            source = whole.sources[name]
            box = samples.places(source.shape, source.axes)[number]
            receipt, made = samples.piece(source, box, f"{kind}-{number}", whole.campaign, folder)
            pieces.setdefault(kind, []).append((name, receipt))
            rates.made.setdefault(kind, []).append(made)
    return pieces


def _spread(names: Sequence[str]) -> list[str]:
    """Some of them, evenly; of fewer, some several times."""
    return [names[len(names) * i // samples.PIECES] for i in range(samples.PIECES) if names]


def _measure_model(
    whole: Whole,
    model: str,
    pieces: Mapping[str, Sequence[tuple[str, Path]]],
    folder: Path,
    rates: Rates,
) -> None:
    campaign, settings = whole.campaign, whole.campaign.models[model]
    kinds = {_kind(whole.sources[name].axes) for name in settings.acquisitions}
    usable = [piece for kind in sorted(kinds) for piece in pieces.get(kind, [])]
    made = whole.receipt("finetune", model)
    using: Path | None = made
    try:
        if made.is_file():
            card = weights.read_card(receipts.result(made, "model"))
            rates.eyes[model] = Eye.of_card(card)
        else:
            plan = _plan(whole, model)
            rates.eyes[model] = Eye.of(settings.channel, plan)
            rates.trainings[model] = samples.trainings(plan.architecture, campaign, settings.base)
            first = next(receipt for _, receipt in usable)
            using = samples.model(model, campaign, first, plan, folder)
        for name, receipt in usable if using else ():
            if settings.channel in whole.sources[name].channels:
                one = samples.labelled(receipt, using or made, campaign, folder)
                kind = _kind(whole.sources[name].axes)
                rates.labelled.setdefault((kind, model), []).append(one)
    except (ValueError, OSError, RuntimeError, StopIteration) as fault:
        rates.unknown[model] = str(fault)


def _plan(whole: Whole, model: str) -> lessons.Plan:
    """What the shots say about the network."""
    settings = whole.campaign.models[model]
    pairs = []
    for number, shot in enumerate(settings.shots):
        volume = whole.volume(shot.acquisition)
        known = annotations.annotated(
            f"models.{model}.shots.{number}",
            shot.labels,
            dict(shot.region),
            volume.axes,
            volume.levels[0].shape,
            volume.voxel_size_um,
        )
        pairs.append((volume, known))
    diameter = None if settings.diameter_um == "from shots" else settings.diameter_um
    volume = pairs[0][0] if pairs else whole.volume(settings.acquisitions[0])
    return lessons.plan(volume, pairs, diameter, whole.campaign.network)


def _start_s() -> float:
    """Seconds of one core until a job of this package is ready to work."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import pipeline.ingest, pipeline.predict"], check=True)
    return time.perf_counter() - begun


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what stages say of results that are thrown away."""
    logger = logging.getLogger("equiscope")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
