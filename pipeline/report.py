"""Report: one page that shows every result, scores it, and leads with what not to trust."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from pipeline import (
    __version__,
    annotations,
    gate,
    publication,
    receipts,
    report_changes,
    report_checks,
    report_doubts,
    report_pictures,
    report_quality,
    report_scores,
    volumes,
    weights,
)
from pipeline.annotations import Annotated
from pipeline.config import ReportTask
from pipeline.likeness import Known
from pipeline.report_prediction import Picture, Prediction
from pipeline.sections import Shot

log = logging.getLogger("equiscope.report")
TEMPLATE = Path(__file__).with_name("report.html.j2")
PAGE, PICTURES, LOOK_FIRST = "report.html", "pictures", "look_first"
STEADY = 0.1
"""A gap that changes by less than this share stays as wide as it is."""


def report(
    receipt: Path, results: Path, predictions: Mapping[tuple[str, str], Path], task: ReportTask
) -> None:
    """Write `report.html`, `pictures/` and `look_first/` beside the receipt, then the receipt.

    `predictions` gives the predict receipt of each (model, acquisition).
    Raises ValueError where results do not belong together: a stage has yet to run again.
    """
    # plan
    found = [_open(results, *pair, path) for pair, path in sorted(predictions.items())]
    known = {(p.model, p.acquisition): _references(p, task) for p in found}
    inputs = {f"{m}/{a}": receipts.identity(path) for (m, a), path in sorted(predictions.items())}
    inputs |= {
        said["labels"]: receipts.file_fingerprint(labels.source.path)
        for references in known.values()
        for said, labels in references
    }
    inputs |= report_changes.inputs(found)
    recipe = receipts.recipe("report", task.model_dump(mode="json"), inputs)

    # act
    shown, pictures, models = [], dict[str, Picture](), dict.fromkeys(m for m, _ in known)
    like = {name: report_quality.known([p for p in found if p.model == name]) for name in models}
    for prediction in found:
        log.info("%s on %s", prediction.model, prediction.acquisition)
        bundle = results / "finetune" / f"{prediction.model}.model"
        against = known[prediction.model, prediction.acquisition]
        entry = _entry(prediction, against, task, like[prediction.model], bundle)
        pictures |= {f"{entry['name']}-{key}": p for key, p in entry["pictures"].items()}
        shown.append(entry)
    compared = [_compared(name, [e["p"] for e in shown if e["model"] == name]) for name in models]
    _publish(receipt.parent / PICTURES, {f"{name}.png": p.png for name, p in pictures.items()})
    ranked = {f"{e['name']}.csv": e["regions"] for e in shown if e["quality"]}
    _publish(receipt.parent / LOOK_FIRST, ranked)
    partial = receipt.with_name(".report.html.partial")
    partial.write_text(_page(task, shown, compared), encoding="utf-8")
    partial.replace(receipt.with_name(PAGE))

    # receipt
    said = {f"{entry['model']}/{entry['acquisition']}": _facts(entry) for entry in shown}
    checks = {entry["model"]: report_checks.facts(entry["checks"]) for entry in compared}
    facts = {"page": PAGE, "results": said, "checks": checks}
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def summary(receipt: Path) -> str:
    """What a campaign found and how far to trust it, in a few lines, and where to look.

    Raises ValueError where there is no report, or its page is gone.
    """
    page = receipts.result(receipt, "page")
    lines = []
    for name, result in receipts.read(receipt)["facts"]["results"].items():
        kind = name.partition("/")[0].replace("_", " ")
        lines += [
            f"{name}: {_said_of_counts(result['objects'], result['objects_per_frame'])}",
            *(f"  {line}" for line in _said_of_gaps(result["widest_gap_um"], kind)),
            *(f"  {line}" for line in _said_of_scores(result["scores"])),
            f"  {_said_of_doubts(len(result['doubts']))}",
        ]
        if result["overlay"]:
            lines.append(f"  outlines over the image: {receipt.parent / result['overlay']}")
    return "\n".join([*lines, f"Look at {page}"])


def _open(results: Path, model: str, acquisition: str, receipt: Path) -> Prediction:
    made = receipts.read(receipt)
    volume = volumes.open_volume(results / "ingest" / f"{acquisition}.ome.zarr")
    labels = volumes.attributes(volume.store / "labels" / model).get("equiscope", {})
    learned = results / "finetune" / f"{model}.json"
    is_same_model = made["recipe"]["inputs"]["model"] == receipts.identity(learned)
    if labels.get("recipe") != made["recipe"] or not is_same_model:
        raise ValueError(
            f"{receipt} speaks of other labels than {volume.store} holds, or of another model than "
            f"{learned}: run predict again."
        )
    shots = receipts.read(learned)["recipe"]["settings"]["shots"]
    return Prediction(
        model=model,
        acquisition=acquisition,
        volume=volume,
        card=weights.read_card(results / "finetune" / f"{model}.model"),
        table=volumes.read_table(volume.store, model),
        made=made,
        shots=tuple(
            shot for shot in map(Shot.model_validate, shots) if shot.acquisition == acquisition
        ),
    )


def _references(p: Prediction, task: ReportTask) -> list[tuple[dict[str, str], Annotated]]:
    """Path and origin of each label image to score against, and the opened image."""
    return [
        (
            {"labels": reference.labels.path, "origin": reference.origin},
            annotations.annotated(
                f"models.{p.model}.references.{number}",
                reference.labels,
                {},
                p.volume.axes,
                p.volume.levels[0].shape,
                p.volume.voxel_size_um,
            ),
        )
        for number, reference in enumerate(task.references[p.model])
        if reference.acquisition == p.acquisition
    ]


def _entry(
    p: Prediction,
    references: Sequence[tuple[dict[str, str], Annotated]],
    task: ReportTask,
    like: Known | str,
    model: Path,
) -> dict[str, Any]:
    """All that the page shows of one prediction; where shards are lost, that and nothing else."""
    checks = report_checks.of_prediction(p)
    shown: dict[str, Any] = {
        "model": p.model,
        "acquisition": p.acquisition,
        "name": f"{p.model}-{p.acquisition}",
        "p": p,
        "checks": checks,
        "doubts": report_checks.alarmed(checks),
    }
    if any(check.name == "shards" and check.state == "alarm" for check in checks):
        nothing = {key: list[Any]() for key in ("scores", "crops", "frames", "first")}
        return shown | nothing | {"pictures": {}, "quality": None, "changes": None}
    scores, crops = [], []
    for said, known in references:
        score, differing = report_scores.score(p, known, task.report.overlap)
        scores.append(said | score)
        crops.append(differing)
    frames, overlay = report_pictures.overlays(p, task.report.pictures)
    pictures = {"overlay": overlay} | report_pictures.plots(p, scores)
    found_out = report_quality.quality(p, like, model, task.report.windows, task.report.first)
    pictures |= report_quality.pictures(p, found_out)
    if every := [crop for differing in crops for crop in differing]:
        pictures["disagreement"] = report_pictures.disagreement(p, every)
    doubts = shown["doubts"] + report_doubts.doubts(p, scores)
    return shown | {
        "scores": scores,
        "crops": crops,
        "frames": frames,
        "pictures": pictures,
        "quality": found_out,
        "first": report_quality.crops(p, found_out),
        "regions": report_quality.regions(p, found_out),
        "doubts": doubts,
        "changes": report_changes.compared(p, task.report.overlap),
    }


def _compared(model: str, found: Sequence[Prediction]) -> dict[str, Any]:
    """What the page shows of a model's acquisitions beside each other."""
    checks, charts = report_checks.of_campaign(found)
    return {
        "model": model,
        "checks": checks,
        "doubts": report_checks.alarmed(checks),
        "charts": report_pictures.charts(charts) if len(found) > 1 else [],
        "order": [p.acquisition for p in found],
    }


def _facts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the receipt says of one prediction; gaps (um) of movies alone."""
    p = entry["p"]
    return {
        "objects": p.made["facts"]["objects"],
        "objects_per_frame": p.made["facts"]["objects_per_frame"],
        "widest_gap_um": p.widest_gaps_um if p.frames > 1 else [],
        "overlay": f"{PICTURES}/{entry['name']}-overlay.png" if entry["pictures"] else None,
        "checks": report_checks.facts(entry["checks"]),
        "quality": report_quality.facts(p, entry["quality"]) if entry["quality"] else None,
        "scores": entry["scores"],
        "doubts": entry["doubts"],
        "changes": entry["changes"].facts if entry["changes"] else None,
    }


def _publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files where the folder was, all at once."""
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name, content in files.items():
        (building / name).write_bytes(content)
    publication.publish(building, folder)


def _said_of_counts(objects: int, counts: Sequence[int]) -> str:
    """How many objects there are, in all and, of a movie, per frame."""
    if len(counts) == 1:
        return f"{objects:,} objects"
    return (
        f"{objects:,} objects in {len(counts)} frames, {min(counts):,} to {max(counts):,} per "
        f"frame: {counts[0]:,} in the first, {counts[-1]:,} in the last"
    )


def _said_of_gaps(gaps_um: Sequence[float], kind: str) -> Iterator[str]:
    """How the widest stretch along x without an object's centre changes; of a movie alone."""
    if gaps_um:
        first, last = gaps_um[0], gaps_um[-1]
        if abs(last - first) < STEADY * first:
            change = f"stays about {first:.0f} µm wide"
        else:
            verb = "shrinks" if last < first else "grows"
            change = f"{verb} from {first:.0f} µm to {last:.0f} µm"
        yield f"the widest stretch without {kind} {change}"


def _said_of_scores(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each comparison gave, and with whose labels."""
    if not scores:
        yield "not scored: there are no labels to compare with"
    for score in scores:
        against = f"labels {score['origin']}"
        if score["not_scored"]:
            yield f"not scored against {against}: {score['not_scored']}"
        elif not score["frames"]:
            yield f"not scored against {against}: the model learned from every frame"
        else:
            first = score["total"]["at"][0]
            f1, overlap = f"{first['f1']:.2f}", f"{first['overlap']:g}"
            yield f"F1 {f1} at overlap {overlap}, compared with {against}"


def _said_of_doubts(count: int) -> str:
    """How much there is not to trust, and where it is said."""
    if count == 1:
        return "1 doubt: the page begins with it"
    return f"{count} doubts: the page begins with them" if count else "no doubts"


def _page(
    task: ReportTask,
    shown: Sequence[Mapping[str, Any]],
    compared: Sequence[Mapping[str, Any]],
) -> str:
    """The page as HTML, its pictures inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        campaign=task.campaign,
        overlap=task.report.overlap,
        strict=report_scores.STRICT,
        enough=report_scores.ENOUGH_F1,
        version=__version__,
        advice=gate.advice,
        shown=shown,
        compared=compared,
    )
