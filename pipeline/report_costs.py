"""What ran for a report, and what it cost: a page of its own, since it tells of time and machines.

All else in a report is the same whenever the same results are reported.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import origins, provenance, report_pages
from pipeline.origins import Original
from pipeline.provenance import COST

STAGES = ("ingest", "plate", "pretrain", "finetune", "predict", "report")
SUMS = ("core_hours", "gpu_hours", "bytes")
DEAREST = 50
"""Results that the page lists, at most."""


def write(report: Path, beside: Sequence[Path] = ()) -> Path:
    """Write the page beside a report's receipt, once the report is made. Returns the file.

    `beside` are receipts of the campaign that the report may not rest on.
    """
    last = origins.opened(report)
    made = [(one, provenance.read(one.receipt)) for one in origins.chain(last, beside)]
    known = [(one, said) for one, said in made if said]
    stages = [
        row for stage in STAGES if (row := _sum(stage, [s for o, s in known if o.stage == stage]))
    ]
    dearest = sorted(known, key=lambda item: -item[1]["cost"]["core_hours"])[:DEAREST]
    page = report_pages.costs(
        last.recipe["settings"]["campaign"],
        {
            "stages": [*stages, _sum("all", [said for _, said in known])],
            "results": [_line(one, said) for one, said in dearest],
            "count": len(known),
            "unknown": len(made) - len(known),
            "nodes": sorted({node for _, said in known for node in _nodes(said)}),
            "began": min((said["began"] for _, said in known), default=""),
            "ended": max((said["ended"] for _, said in known), default=""),
        },
    )
    partial = report.with_name(f".{COST}.partial")
    partial.write_text(page, encoding="utf-8")
    return partial.replace(report.with_name(COST))


def _sum(name: str, made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line of the table of stages; empty where nothing is known of any result."""
    if not made:
        return {}
    sums = {key: sum(said["cost"][key] for said in made) for key in SUMS}
    return {"name": name, "results": len(made), "jobs": sum(len(s["jobs"]) for s in made)} | sums


def _line(one: Original, said: Mapping[str, Any]) -> dict[str, Any]:
    name = one.receipt.relative_to(one.results).with_suffix("")
    about = {"name": str(name), "jobs": len(said["jobs"]), "nodes": ", ".join(_nodes(said))}
    return about | {key: said["cost"][key] for key in (*SUMS, "wall_s")}


def _nodes(said: Mapping[str, Any]) -> list[str]:
    return sorted({job["node"] for job in said["jobs"]} or {said["machine"]["node"]})
