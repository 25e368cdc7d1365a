"""Finetune: 1 to 5 examples and a base become a model bundle."""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline import cards, detecting, former, publication, receipts, segmenting, volumes
from pipeline.config import FinetuneTask

log = logging.getLogger("equiscope.finetune")


def finetune(
    receipt: Path,
    images: Mapping[str, Path],
    task: FinetuneTask,
    run: Callable[[Any], None],
) -> None:
    """Train beside the receipt, assemble the bundle of what came of it, then write the receipt.

    `images` gives the receipts of the acquisitions' volumes; `run` completes the trainings,
    wherever that is.
    Raises ValueError where a shot does not fit its volume, or there is nothing to learn from.
    """
    # plan
    shown = {
        key: volumes.open_volume(receipts.result(path, "volume")) for key, path in images.items()
    }
    plan = detecting.course if task.task == "points" else segmenting.course
    course = plan(receipt.stem, task, shown)
    inputs = {key: receipts.identity(path) for key, path in images.items()} | dict(course.inputs)
    recipe = receipts.recipe("finetune", task.model_dump(mode="json"), inputs)
    target = receipt.with_suffix(".model")
    building = target.with_name(f"{target.name}.building")
    log.info("%s", course.said)

    # act
    if not _is_in_place(target, recipe["hash"]):
        receipts.begin(building, recipe)
        run(course.work(building))
        course.assemble(building, recipe["hash"])
        for member in course.members:
            shutil.rmtree(building / member, ignore_errors=True)
        _put_aside(target, recipe["hash"])
        publication.publish(building, target)

    # receipt
    log.info("%s", cards.read(target).gate.reason)
    receipts.write(receipt, {"recipe": recipe, "facts": cards.facts(target, target.name)})


def _is_in_place(target: Path, recipe: str) -> bool:
    """Whether the model of this recipe is there; one that had to make room goes back."""
    waiting = former.aside(target, recipe)
    if not _is_bundle_of(target, recipe) and _is_bundle_of(waiting, recipe):
        _put_aside(target, recipe)
        waiting.rename(target)
        log.info("%s goes back to its place: it was made from this recipe", waiting)
    return _is_bundle_of(target, recipe)


def _put_aside(target: Path, recipe: str) -> None:
    """Keep a model of another recipe beside the one that takes its place."""
    if (target / cards.CARD).is_file() and not _is_bundle_of(target, recipe):
        former.put_aside(target, cards.read(target).recipe)


def _is_bundle_of(target: Path, recipe: str) -> bool:
    return (target / cards.CARD).is_file() and cards.read(target).recipe == recipe
