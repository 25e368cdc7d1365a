"""Report: a page on the campaign that leads with what not to trust, and one on each acquisition."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import (
    annotations,
    cards,
    publication,
    receipts,
    report_changes,
    report_checks,
    report_doubts,
    report_image,
    report_montages,
    report_pages,
    report_pictures,
    report_points,
    report_quality,
    report_scores,
    volumes,
)
from pipeline.annotations import Annotated
from pipeline.config import ReportTask
from pipeline.likeness import Known
from pipeline.report_checks import Measured
from pipeline.report_errors import Errors
from pipeline.report_pages import ERRORS, FOLDERS, LOOK_FIRST, PAGE, PAGES, PICTURES, TRACKS
from pipeline.report_prediction import Prediction
from pipeline.sections import Shot

log = logging.getLogger("equiscope.report")
BUILDING = ".report.building"
Pair = tuple[str, str]
References = list[tuple[dict[str, str], Annotated]]


def report(
    receipt: Path, results: Path, predictions: Mapping[Pair, Path], task: ReportTask
) -> None:
    """Write `report.html`, the pages, pictures and tables beside the receipt, then the receipt.

    `predictions` gives the predict receipt of each (model, acquisition). Acquisitions are opened
    one at a time, so that tables and pictures do not pile up in memory.
    Raises ValueError where results do not belong together: a stage has yet to run again.
    """
    # plan
    known, learned_from = dict[Pair, References](), dict[str, list[Prediction]]()
    inputs = {f"{m}/{a}": receipts.identity(path) for (m, a), path in sorted(predictions.items())}
    for pair, path in sorted(predictions.items()):
        prediction = _open(results, *pair, path)
        known[pair] = _references(prediction, task)
        here = learned_from.setdefault(prediction.model, [])
        if prediction.shots:
            here.append(prediction)
        inputs |= report_changes.inputs([prediction])
        for about, labels in known[pair]:
            inputs[about["labels"]] = receipts.file_fingerprint(labels.source.path)
    recipe = receipts.recipe("report", task.model_dump(mode="json"), inputs)

    # act
    building, names = _begun(receipt.parent), sorted({acquisition for _, acquisition in known})
    like = {model: report_quality.known(found) for model, found in learned_from.items()}
    said, measured = dict[str, dict[str, Any]](), {model: list[Measured]() for model in like}
    for name in names:
        shown = []
        for pair in (pair for pair in known if pair[1] == name):
            log.info("%s on %s", *pair)
            p = _open(results, *pair, predictions[pair])
            bundle = results / "finetune" / f"{p.model}.model"
            shown.append(_entry(p, known[pair], task, like[p.model], bundle))
            said[f"{p.model}/{name}"] = _facts(shown[-1])
            measured[p.model].append(report_checks.measured(p))
            _put(building, shown[-1])
        page = report_pages.acquisition(task, name, names, report_image.image(p), shown, said)
        (building / PAGES / f"{name}.html").write_text(page, encoding="utf-8")
    models = [_model(results, *item) for item in measured.items()]
    (building / PAGE).write_text(report_pages.campaign(task, said, models), encoding="utf-8")
    for folder in FOLDERS:
        publication.publish(building / folder, receipt.parent / folder)
    (building / PAGE).replace(receipt.with_name(PAGE))
    building.rmdir()

    # receipt
    checks = {entry["model"]: report_checks.facts(entry["checks"]) for entry in models}
    facts = {"page": PAGE, "results": said, "checks": checks}
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def _begun(folder: Path) -> Path:
    """An empty folder in which the report grows, so that what it takes the place of stays whole."""
    building = folder / BUILDING
    shutil.rmtree(building, ignore_errors=True)
    for name in FOLDERS:
        (building / name).mkdir(parents=True)
    return building


def _put(building: Path, entry: Mapping[str, Any]) -> None:
    """Write the files that lie beside the pages."""
    for key, picture in entry["pictures"].items():
        (building / PICTURES / f"{entry['name']}-{key}.png").write_bytes(picture.png)
    for number, table in enumerate(entry["errors"]):
        (building / ERRORS / f"{entry['name']}-{number}.csv").write_bytes(table)
    if entry["tracks"]:
        (building / TRACKS / f"{entry['name']}.csv").write_bytes(entry["tracks"].table)
    if entry["quality"]:
        (building / LOOK_FIRST / f"{entry['name']}.csv").write_bytes(entry["regions"])


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
        card=cards.read(results / "finetune" / f"{model}.model"),
        table=volumes.read_table(volume.store, model),
        made=made,
        shots=tuple(
            shot for shot in map(Shot.model_validate, shots) if shot.acquisition == acquisition
        ),
    )


def _references(p: Prediction, task: ReportTask) -> References:
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
    p: Prediction, references: References, task: ReportTask, like: Known | str, model: Path
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
        "card": p.card,
        "card_pictures": report_pictures.learning(p.card),
    }
    if any(check.name == "shards" and check.state == "alarm" for check in checks):
        keys = ("scores", "places", "crops", "errors", "frames", "scales", "first")
        nothing = {key: list[Any]() for key in keys}
        return shown | nothing | {"pictures": {}, "quality": None, "changes": None, "tracks": None}
    scores, wrong = [], list[Errors]()
    for said, known in () if p.card.detector else references:
        score, errors = report_scores.score(p, known, task.report.overlap)
        scores.append(said | score)
        wrong.append(errors)
    frames, overlay = report_pictures.overlays(p, task.report.pictures)
    pictures = {"overlay": overlay} | report_montages.montages(p)
    pictures |= report_pictures.plots(p, scores)
    if p.card.detector:
        found_out = report_quality.of_points(p, task.report.first)
    else:
        found_out = report_quality.quality(p, like, model, task.report.windows, task.report.first)
    pictures |= report_quality.pictures(p, found_out)
    moving = report_points.tracked(p, task.linking_um.get(p.model))
    pictures |= report_points.pictures(p, moving)
    crops = [errors.crops() for errors in wrong]
    if every := [crop for kinds in crops for shown_of in kinds.values() for crop in shown_of]:
        pictures["disagreement"] = report_pictures.disagreement(every)
    places = []
    if p.card.detector:
        places = [said | report_points.scored(p, known) for said, known in references]
    return shown | {
        "scores": scores,
        "crops": crops,
        "errors": [errors.table() for errors in wrong],
        "frames": frames,
        "scales": report_montages.scales(p),
        "pictures": pictures,
        "quality": found_out,
        "tracks": moving,
        "places": places,
        "first": report_quality.crops(p, found_out),
        "regions": report_quality.regions(p, found_out),
        "doubts": shown["doubts"] + report_doubts.doubts(p, scores) + report_points.doubts(places),
        "changes": report_changes.compared(p, task.report.overlap),
    }


def _model(results: Path, model: str, measured: Sequence[Measured]) -> dict[str, Any]:
    """What the campaign's page shows of a model: its card, its acquisitions beside each other."""
    ordered = report_checks.in_order(measured)
    checks, charts, groupings = report_checks.of_campaign(ordered)
    card = cards.read(results / "finetune" / f"{model}.model")
    return {
        "model": model,
        "checks": checks,
        "doubts": report_checks.alarmed(checks),
        "charts": report_pictures.charts(charts),
        "order": [one.acquisition for one in ordered],
        "by": "time" if all(one.acquired for one in ordered) else "names",
        "features": [chart.name for chart in charts],
        "groups": [(one.kind, one.medians(charts)) for one in groupings],
        "card": card,
        "card_pictures": report_pictures.learning(card),
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
        "tracks": entry["tracks"].facts if entry["tracks"] else None,
        "places": entry["places"],
        "scores": entry["scores"],
        "doubts": entry["doubts"],
        "changes": entry["changes"].facts if entry["changes"] else None,
    }
