"""Rates of the stages, measured on pieces of a campaign's own images.

Rates are of one core of this machine, or of its GPU.
"""

import contextlib
import io
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import annotations, cards, copying, lessons, receipts, samples
from pipeline.allocations import Given
from pipeline.config import Campaign
from pipeline.readers import Source
from pipeline.samples import Eye, Labelled, Made
from pipeline.sections import Model
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.doctor")


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


def kind(axes: str) -> str:
    """The spatial axes of an image: "yx" or "zyx"."""
    return "zyx" if "z" in axes else "yx"


def measure(whole: Whole) -> Rates:
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
    for space in ("yx", "zyx"):
        names = [name for name, source in whole.sources.items() if kind(source.axes) == space]
        for number, name in enumerate(_spread(names)):
            source = whole.sources[name]
            box = samples.places(source.shape, source.axes)[number]
            receipt, made = samples.piece(source, box, f"{space}-{number}", whole.campaign, folder)
            pieces.setdefault(space, []).append((name, receipt))
            rates.made.setdefault(space, []).append(made)
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
    kinds = {kind(whole.sources[name].axes) for name in settings.acquisitions}
    usable = [piece for space in sorted(kinds) for piece in pieces.get(space, [])]
    made = whole.receipt("finetune", model)
    using: Path | None = made
    try:
        if made.is_file():
            card = cards.read(receipts.result(made, "model"))
            rates.eyes[model] = Eye.of_card(card)
        else:
            plan = _plan(whole, model)
            rates.eyes[model] = Eye.of(settings.channel, plan)
            rates.trainings[model] = samples.trainings(plan.architecture, campaign, settings)
            first = next(receipt for _, receipt in usable)
            using = samples.model(model, campaign, first, plan, folder)
        for name, receipt in usable if using else ():
            if settings.channel in whole.sources[name].channels:
                one = samples.labelled(receipt, using or made, campaign, folder)
                space = kind(whole.sources[name].axes)
                rates.labelled.setdefault((space, model), []).append(one)
    except (ValueError, OSError, RuntimeError, StopIteration) as fault:
        rates.unknown[model] = str(fault)


def _plan(whole: Whole, model: str) -> lessons.Plan:
    """What the shots say about the network."""
    settings = whole.campaign.models[model]
    if settings.task == "points":
        return _crop_plan(whole, settings)
    pairs = []
    for number, shot in enumerate(settings.shots):
        volume = whole.volume(shot.acquisition)
        assert shot.labels is not None  # the settings were checked
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


def _crop_plan(whole: Whole, settings: Model) -> lessons.Plan:
    """The same of crops, of whose sides an object takes about half: nothing is read of them."""
    shot = settings.shots[0]
    volume, region = whole.volume(shot.acquisition), shot.region
    side = min(region[axis][1] - region[axis][0] for axis in "yx")
    diameter = side / 2 * volume.voxel_size_um["x"]
    if settings.diameter_um != "from shots":
        diameter = settings.diameter_um
    sizes = [volume.voxel_um(level) for level in volume.levels]
    count = len(settings.shots)
    return lessons.fitted(sizes, diameter, diameter, 1.0, count, whole.campaign.network)


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
