"""What a stage that is asked again would do: make its result, or find it made, and why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline import bases, cards, former, label_images, readers, receipts, volumes
from pipeline.config import Campaign
from pipeline.schedule import Job

NOTHING = "nothing"
HASH_LETTERS = 8
"""Of an identity that changed, in a sentence."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What becomes of one job.

    Attributes
    ----------
    outcome: `made`; `taken back`, where its recipe made a result that waits beside the present
        one; or `kept`, where the job finds its result whole and made from the same recipe.
    reasons: each names what changed, the old and the new value.
    identity: of the receipt that the job will write; empty where that is not known beforehand.
    """

    job: Job
    outcome: Literal["made", "taken back", "kept"]
    reasons: tuple[str, ...]
    identity: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A result that may be there already: its recipe's hash, and the facts that its receipt has."""

    hash: str
    facts: Mapping[str, Any]


def prospects(campaign: Campaign, jobs: Sequence[Job]) -> list[Prospect]:
    """What becomes of each job, which come after those that they need.

    Reads receipts, attributes and fingerprints, but no shards: that a result in its place is
    whole is taken for granted. Raises ValueError where an input cannot be read.
    """
    found: dict[Path, Prospect] = {}
    for job in jobs:
        found[job.receipt] = _prospect(campaign, job, found)
    return list(found.values())


def _prospect(campaign: Campaign, job: Job, known: Mapping[Path, Prospect]) -> Prospect:
    settings = _settings(campaign, job)
    inputs = dict(_inputs(campaign, job, known))
    before = _before(job)
    whole = receipts.recipe(job.stage, settings, {k: v for k, v in inputs.items() if v})
    makers = {path: one.job.unit for path, one in known.items() if one.outcome == "made"}
    made_again = [unit for path, unit in makers.items() if path in job.inputs]
    if job.stage != "report" and not made_again:
        for outcome, standing in _standing(job):
            if standing.hash == whole["hash"]:
                identity = receipts.fingerprint({"recipe": whole, "facts": dict(standing.facts)})
                return Prospect(job, outcome, (_kept(job, outcome),), identity)
    reasons = [f"{unit} is made again" for unit in made_again]
    if before is None:
        return Prospect(job, "made", ("it is not made yet", *reasons), "")
    reasons += _differences(job, before, whole, inputs)
    return Prospect(job, "made", tuple(reasons or [_of_snakemake(job)]), "")


def _kept(job: Job, outcome: str) -> str:
    if outcome == "taken back":
        return "these settings and inputs made it before, and it still waits beside the present one"
    return f"{_of_snakemake(job)}, but it is there, made from the same recipe"


def _of_snakemake(job: Job) -> str:
    """Snakemake's reason in its own words, without the long list that may follow."""
    return f"Snakemake says: {job.reason.partition(':')[0].rstrip('.')}"


def _settings(campaign: Campaign, job: Job) -> dict[str, Any]:
    match job.stage:
        case "ingest":
            return campaign.ingest_task(job.name).model_dump(mode="json")
        case "pretrain":
            return campaign.pretrain_task(job.name).model_dump(mode="json")
        case "finetune":
            return campaign.finetune_task(job.name).model_dump(mode="json")
        case "predict":
            return campaign.predict_task().model_dump(mode="json")
        case "report":
            return campaign.report_task().model_dump(mode="json")
    return {}


def _inputs(
    campaign: Campaign, job: Job, known: Mapping[Path, Prospect]
) -> Iterator[tuple[str, str]]:
    """Identities of what the job starts from, as its recipe has them; empty: not known yet."""

    def identity(receipt: Path) -> str:
        return known[receipt].identity if receipt in known else receipts.identity(receipt)

    given = {path: identity(path) for path in job.inputs}
    match job.stage:
        case "ingest":
            acquisition = campaign.acquisitions[job.name]
            yield acquisition.path, readers.identity(readers.source(job.name, acquisition))
        case "pretrain":
            yield from (("parent", one) for one in given.values())
        case "finetune":
            yield from ((path.stem, one) for path, one in given.items())
            shots = campaign.models[job.name].shots
            yield from _labels(shot.labels.path for shot in shots if shot.labels)
            yield from _bases(campaign, job)
        case "predict":
            yield from (
                ("image" if path.parent.name == "ingest" else "model", one)
                for path, one in given.items()
            )
        case "plate":
            yield from ((campaign.acquisitions[p.stem].series, one) for p, one in given.items())
        case "report":
            yield from ((f"{p.parent.name}/{p.stem}", one) for p, one in given.items())
            models = campaign.models.values()
            yield from _labels(one.labels.path for model in models for one in model.references)


def _labels(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    for path in dict.fromkeys(paths):
        yield path, receipts.file_fingerprint(label_images.file_of(path))


def _bases(campaign: Campaign, job: Job) -> Iterator[tuple[str, str]]:
    """The bases that a model may start from: known once there is a model of these settings."""
    bundle = job.receipt.with_suffix(".model")
    if (bundle / cards.CARD).is_file():
        asked = campaign.finetune_task(job.name)
        network = cards.read(bundle).network
        fit = bases.of_points if asked.task == "points" else bases.fitting
        try:
            fitting = fit(asked.base, network, asked.network.object_voxels)
        except ValueError:
            return  # another network is asked for: another recipe, whatever it starts from
        yield from ((f"base {name}", bases.digest(name)) for name in fitting)


def _before(job: Job) -> dict[str, Any] | None:
    """The recipe of what is there now."""
    try:
        return dict(receipts.read(job.receipt)["recipe"])
    except (ValueError, KeyError):
        return _own(_store(job)).get("recipe")


def _store(job: Job) -> Path:
    """The Zarr store of a job's result; for what has none, a place where there is nothing."""
    if job.stage == "predict":
        volume = job.receipt.parents[2] / "ingest" / f"{job.receipt.stem}.ome.zarr"
        return volume / "labels" / job.receipt.parent.name
    return job.receipt.with_suffix(".ome.zarr")


def _own(store: Path) -> dict[str, Any]:
    return dict(volumes.attributes(store).get("equiscope", {}))


def _standing(job: Job) -> Iterator[tuple[Literal["kept", "taken back"], _Known]]:
    """Results that a job may find: in its place, or waiting beside it."""
    if job.stage == "finetune":
        bundle = job.receipt.with_suffix(".model")
        waiting = former.models(bundle.parent, bundle.suffix)
        for path in (bundle, *(p for p in waiting if p.name.startswith(f"{job.name}."))):
            if (path / cards.CARD).is_file():
                facts = cards.facts(path, bundle.name)
                outcome: Literal["kept", "taken back"] = "kept" if path == bundle else "taken back"
                yield outcome, _Known(cards.read(path).recipe, facts)
    elif job.stage == "pretrain":
        base = job.receipt.with_suffix(".base")
        if (base / bases.CARD).is_file():
            card = bases.read_card(str(base))
            facts = {"base": base.name, "weights": bases.digest(str(base)), "score": card.score}
            yield "kept", _Known(card.recipe, facts)
    else:
        store = _store(job)
        if own := _own(store):
            yield "kept", _Known(own["recipe"]["hash"], own.get("facts", {}))
        if job.stage == "predict":
            for said in former.labels(store.parents[1], store.name).values():
                yield "taken back", _Known(said["recipe"]["hash"], said["facts"])


def _differences(
    job: Job, before: Mapping[str, Any], now: Mapping[str, Any], inputs: Mapping[str, str]
) -> Iterator[str]:
    """What two recipes differ in, as sentences."""
    if before["version"] != now["version"]:
        yield f"version: {before['version']} -> {now['version']}"
    for place, old, new in changed(before["settings"], now["settings"]):
        yield f"{_named(job, place)}: {_said(old)} -> {_said(new)}"
    former_inputs = before["inputs"]
    for name in [*former_inputs, *(key for key in inputs if key not in former_inputs)]:
        old, new = former_inputs.get(name), inputs.get(name)
        if name.endswith(former.BEFORE):
            continue  # known once predictions are made, and asks for nothing by itself
        if old is None:
            yield f"{name}: new"
        elif new is None:
            yield f"{name}: no longer part of it"
        elif new and old != new:
            yield f"{name}: other content, {old[:HASH_LETTERS]} -> {new[:HASH_LETTERS]}"


def changed(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The settings that differ, by their full names; what one side lacks is `NOTHING`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from changed(old.get(key, NOTHING), new.get(key, NOTHING), inner)
    elif _is_entries(old) and _is_entries(new):
        numbered = [dict(enumerate(side)) for side in (old, new)]
        yield from changed(numbered[0], numbered[1], place)
    elif receipts.fingerprint(old) != receipts.fingerprint(new):
        yield place, old, new  # as JSON has them, where what is no number equals itself


def _is_entries(value: Any) -> bool:
    """Whether a value is a list of things with names, such as shots, and not one of numbers."""
    return isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)


def _named(job: Job, place: str) -> str:
    """The setting in config.yaml that a task's setting comes from."""
    first, _, rest = place.partition(".")
    match job.stage, first:
        case "ingest", "acquisition":
            return f"acquisitions.{job.name}.{rest}"
        case "finetune", "task" | "channel" | "optics" | "base" | "diameter_um" | "shots":
            return f"models.{job.name}.{place}"
        case "pretrain", "base":
            return f"pretrain.bases.{job.name}.{rest}"
        case "pretrain", "seed" | "threads" | "checkpoint_steps":
            return f"pretrain.{place}"
        case "report", "references":
            model, _, inner = rest.partition(".")
            return f"models.{model}.references" + (f".{inner}" if inner else "")
        case "report", "linking_um":
            return f"models.{rest}.linking_um"
    return place


def _said(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_said(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_said, value)) + "]"
    return str(value)
