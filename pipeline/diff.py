"""Diff: what would be made again now, why, and what that costs; nothing is written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import campaigns, prospects, provenance, readers, receipts, schedule
from pipeline.config import Campaign
from pipeline.prospects import Prospect
from pipeline.sentences import listed

NAMED = 8
"""Results that a sentence lists at most."""
QUANTITIES = ("core_hours", "gpu_hours", "bytes")
OUTCOMES = {
    "made": "made anew",
    "taken back": "taken back from beside",
    "kept": "looked at, and kept",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What making a result takes: as it took before, or estimated from others; NaN: unknown."""

    core_hours: float
    gpu_hours: float
    bytes: float
    estimated: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """One job, what becomes of it, and what it costs if its result is made."""

    prospect: Prospect
    cost: Cost | None


def diff(path: Path, arguments: Sequence[str]) -> list[Expected]:
    """All that Snakemake, with these options, would run for the campaign in `path` now.

    Raises ValueError where the campaign cannot run.
    """
    campaign = campaigns.load(path, schedule.overrides(arguments)).campaign
    jobs = schedule.jobs(arguments, Path(campaign.results))
    return [
        Expected(one, _cost(campaign, one) if one.outcome == "made" else None)
        for one in prospects.prospects(campaign, jobs)
    ]


def text(found: Sequence[Expected]) -> str:
    """The answer as people read it."""
    if not found:
        return "Nothing would run: every result is there, made from these settings and files."
    lines = []
    for outcome, said in OUTCOMES.items():
        those = [one for one in found if one.prospect.outcome == outcome]
        if those:
            lines.append(f"{len(those)} {said}:")
        for one in those:
            cost = f"  ({_said(one.cost)})" if one.cost else ""
            lines.append(f"  {one.prospect.job.unit}{cost}")
            lines += [f"    {reason}" for reason in one.prospect.reasons]
    return "\n".join([*lines, *_total(found)])


def _total(found: Sequence[Expected]) -> list[str]:
    costs = {one.prospect.job.unit: one.cost for one in found if one.cost}
    unknown = [unit for unit, cost in costs.items() if math.isnan(cost.core_hours)]
    known = [cost for cost in costs.values() if not math.isnan(cost.core_hours)]
    if not costs:
        return ["Nothing is computed."]
    lines = []
    if known:
        sums = {key: sum(getattr(cost, key) for cost in known) for key in QUANTITIES}
        whole = Cost(**sums, estimated=any(cost.estimated for cost in known))
        lines.append(f"In all {_said(whole)}, as measured before.")
    if unknown:
        lines.append(f"Of these nothing is known yet: {listed(unknown, NAMED)}.")
    return lines


def _said(cost: Cost) -> str:
    if math.isnan(cost.core_hours):
        return "its cost is not known yet"
    about = "about " if cost.estimated else ""
    gpu = f"{cost.gpu_hours:.3g} GPU-hours, " if cost.gpu_hours else ""
    return f"{about}{cost.core_hours:.3g} core-hours, {gpu}{cost.bytes / 1e6:,.3g} MB"


def _cost(campaign: Campaign, prospect: Prospect) -> Cost:
    """What the result took when it was last made; else what others of its stage did, by voxels."""
    job = prospect.job
    own = provenance.last(job.receipt).get("cost")
    if own:
        return Cost(**{key: own[key] for key in QUANTITIES}, estimated=False)
    others = [
        (said["cost"], _voxels(campaign, path))
        for path in sorted(job.receipt.parent.glob("*.json"))
        if "." not in path.stem and (said := provenance.last(path))
    ]
    if not others:
        return Cost(math.nan, math.nan, math.nan, estimated=True)
    mine, theirs = _voxels(campaign, job.receipt), sum(voxels for _, voxels in others)
    scale = mine / theirs if mine and theirs else 1 / len(others)
    sums = {key: scale * sum(said[key] for said, _ in others) for key in QUANTITIES}
    return Cost(**sums, estimated=True)


def _voxels(campaign: Campaign, receipt: Path) -> int:
    """Voxels of the acquisition that a receipt's result is of; 0 where it is of none."""
    name = receipt.stem
    if receipt.parent.name == "finetune" or name not in campaign.acquisitions:
        return 0
    made: Mapping[str, Any] = {}
    volume = Path(campaign.results) / "ingest" / f"{name}.json"
    if volume.is_file():
        made = receipts.read(volume)["facts"]
    shape = made.get("shape") or readers.source(name, campaign.acquisitions[name]).shape
    return math.prod(shape)
