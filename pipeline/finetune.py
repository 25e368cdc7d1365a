"""Finetune: 1 to 5 annotated examples and a base become a model bundle, if that is any better."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline import (
    bases,
    cards,
    certificate,
    former,
    gate,
    instances,
    lessons,
    members,
    publication,
    receipts,
    steerable,
    topology,
    training,
    volumes,
    weights,
)
from pipeline.annotations import annotated
from pipeline.config import FinetuneTask
from pipeline.lessons import Pair, Plan
from pipeline.members import Train
from pipeline.optics import Optics

log = logging.getLogger("equiscope.finetune")


def finetune(
    receipt: Path,
    images: Mapping[str, Path],
    task: FinetuneTask,
    run: Callable[[Train], None],
) -> None:
    """Train the members beside the receipt, let the gate decide, then write the receipt.

    `images` gives the receipts of the acquisitions' volumes; `run` completes the trainings,
    wherever that is.
    Raises ValueError where a shot does not fit its volume, or there is nothing to learn from.
    """
    # plan
    name = receipt.stem
    shown = {
        key: volumes.open_volume(receipts.result(path, "volume")) for key, path in images.items()
    }
    pairs = _pairs(name, task, shown)
    diameter = None if task.diameter_um == "from shots" else task.diameter_um
    volume = pairs[0][0] if pairs else next(iter(shown.values()))
    plan = lessons.plan(volume, pairs, diameter, task.network)
    candidates = bases.fitting(task.base, plan.architecture, task.network.object_voxels)
    wanted = _members(name, task, candidates)
    inputs = {key: receipts.identity(path) for key, path in images.items()}
    inputs |= {
        shot.labels.path: receipts.file_fingerprint(known.source.path)
        for shot, (_, known) in zip(task.shots, pairs, strict=True)
    }
    inputs |= {f"base {base}": bases.digest(base) for base in candidates}
    recipe = receipts.recipe("finetune", task.model_dump(mode="json"), inputs)
    target = receipt.with_suffix(".model")
    building = target.with_name(f"{target.name}.building")
    log.info(
        "%d shots, %d objects of %.3g um; works on voxels of %s um; bases: %s; trains %s",
        len(pairs),
        plan.objects,
        plan.diameter_um,
        " x ".join(f"{size:.3g}" for size in plan.voxel_size_um),
        ", ".join(candidates) or "none",
        ", ".join(wanted) or "nothing",
    )

    # act
    if not _is_in_place(target, recipe["hash"]):
        receipts.begin(building, recipe)
        trained = Train(
            building,
            tuple(pairs),
            task.channel,
            plan,
            tuple(candidates),
            wanted,
            task.finetune,
            None if task.optics == "unknown" else Optics(**task.optics.model_dump()),
        )
        run(trained)
        results = {member: members.result(building / member) for member in wanted}
        _assemble(building, plan, task, candidates, recipe["hash"], results)
        for member in wanted:
            shutil.rmtree(building / member, ignore_errors=True)
        _put_aside(target, recipe["hash"])
        publication.publish(building, target)

    # receipt
    log.info("%s", cards.read(target).gate.reason)
    receipts.write(receipt, {"recipe": recipe, "facts": cards.facts(target, target.name)})


def _pairs(name: str, task: FinetuneTask, shown: Mapping[str, volumes.Volume]) -> list[Pair]:
    """Each shot's volume, and what is annotated of it."""
    pairs = []
    for number, shot in enumerate(task.shots):
        volume = shown[shot.acquisition]
        known = annotated(
            f"models.{name}.shots.{number}",
            shot.labels,
            dict(shot.region),
            volume.axes,
            volume.levels[0].shape,
            volume.voxel_size_um,
        )
        volume.channel(task.channel)
        pairs.append((volume, known))
    return pairs


def _members(name: str, task: FinetuneTask, candidates: Sequence[str]) -> tuple[str, ...]:
    """The trainings that are needed.

    Raises ValueError where nothing says what to look for.
    """
    if task.shots:
        return ("whole", *task.finetune.gate.members)
    if len(candidates) != 1:
        raise ValueError(
            f"models.{name} has no shots, and its base is {task.base!r}: name one base "
            f"({', '.join(bases.names())}), or add a shot."
        )
    return ()


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


def _assemble(
    building: Path,
    plan: Plan,
    task: FinetuneTask,
    candidates: Sequence[str],
    recipe: str,
    results: Mapping[str, members.Result],
) -> None:
    """Let the gate decide, and write the bundle of the network that it lets through."""
    torch.set_num_threads(task.finetune.threads)  # the certificate's last digits depend on it
    whole = results.get("whole")
    base = whole.base if whole else candidates[0]
    decided = _decide(results, base, task.finetune.gate.margin)
    promoted = whole is not None and decided.promoted
    learned: dict[str, Tensor] = (
        members.learned(building / "whole") if promoted else bases.learned(str(base))
    )
    trained = steerable.build(plan.architecture)
    steerable.restore(trained, learned)
    exported = steerable.export(trained.eval())
    geometry = instances.geometry(
        plan.diameter_voxels, task.finetune.gate.smallest_object, plan.unit_voxels
    )
    card = cards.Card(
        architecture=cards.describe(plan.architecture),
        diameter_um=plan.diameter_um,
        voxel_size_um=plan.voxel_size_um,
        unit_voxels=plan.unit_voxels,
        channel=task.channel,
        optics=None if task.optics == "unknown" else task.optics.model_dump(),
        receptive_field=topology.receptive_field(plan.architecture),
        reach=geometry.reach,
        base=base,
        origin="base" if not promoted else "fine-tuned" if base else "from nothing",
        gate=decided,
        shots=len(task.shots),
        objects=plan.objects,
        loss=training.tenths(whole.loss if whole else ()),
        certificate=cards.Certificate(**certificate.certify(trained, exported)),
        recipe=recipe,
    )
    weights.save(building, exported, card)


def _decide(results: Mapping[str, members.Result], base: str | None, margin: float) -> cards.Gate:
    """What the gate says, with the scores that it decided from."""
    if "whole" not in results:
        return cards.Gate(promoted=False, reason=f"There are no shots: the base {base} as it is.")
    asked = results.get("held_out")
    if asked is None or asked.score is None:
        return cards.Gate(
            promoted=True, reason="Nothing was held out to ask: the fine-tuned network is unproven."
        )
    control, half = results.get("control"), results.get("half")
    verdict = gate.judge(asked.score, asked.base_score, control.score if control else None, margin)
    return cards.Gate(
        promoted=verdict.promoted,
        reason=verdict.reason,
        objects_held_out=asked.held_out,
        base=asked.base_score,
        tuned=asked.score,
        control=control.score if control else None,
        learning_curve=gate.curve(
            [
                (0, asked.base_score),
                (half.objects, half.score) if half else None,
                (asked.objects, asked.score),
            ]
        ),
    )
