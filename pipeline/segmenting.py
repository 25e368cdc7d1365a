"""Segmenting: annotated shots become a model that finds outlines, if it is better than its base."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from pipeline import (
    bases,
    bundles,
    cards,
    distances,
    gate,
    lessons,
    members,
    receipts,
    training,
    volumes,
)
from pipeline.annotations import annotated
from pipeline.config import FinetuneTask
from pipeline.lessons import Course, Pair, Plan
from pipeline.members import Train
from pipeline.optics import Optics


def course(name: str, task: FinetuneTask, shown: Mapping[str, volumes.Volume]) -> Course:
    """How the model of this name is to be trained; `shown` are the volumes, by acquisition.

    Raises ValueError where a shot does not fit its volume, or there is nothing to learn from.
    """
    pairs = _pairs(name, task, shown)
    diameter = None if task.diameter_um == "from shots" else task.diameter_um
    volume = pairs[0][0] if pairs else next(iter(shown.values()))
    plan = lessons.plan(volume, pairs, diameter, task.network)
    candidates = bases.fitting(task.base, plan.architecture, task.network.object_voxels)
    wanted = _members(name, task, candidates)
    inputs = {
        shot.labels.path: receipts.file_fingerprint(known.source.path)
        for shot, (_, known) in zip(task.shots, pairs, strict=True)
        if shot.labels
    }
    inputs |= {f"base {base}": bases.digest(base) for base in candidates}
    sizes = " x ".join(f"{size:.3g}" for size in plan.voxel_size_um)
    return Course(
        said=(
            f"{len(pairs)} shots, {plan.objects} {'long ' if plan.hops else ''}objects of "
            f"{plan.diameter_um:.3g} um; works on "
            f"voxels of {sizes} um; bases: {', '.join(candidates) or 'none'}; trains "
            f"{', '.join(wanted) or 'nothing'}"
        ),
        inputs=inputs,
        members=wanted,
        work=lambda building: Train(
            building,
            tuple(pairs),
            task.channel,
            plan,
            tuple(candidates),
            wanted,
            task.finetune,
            None if task.optics == "unknown" else Optics(**task.optics.model_dump()),
        ),
        assemble=partial(_assemble, plan, task, candidates, wanted),
    )


def _pairs(name: str, task: FinetuneTask, shown: Mapping[str, volumes.Volume]) -> list[Pair]:
    """Each shot's volume, and what is annotated of it."""
    pairs = []
    for number, shot in enumerate(task.shots):
        volume = shown[shot.acquisition]
        if shot.labels is None:
            raise ValueError(f"models.{name}.shots.{number} has no labels.")
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


def _assemble(
    plan: Plan,
    task: FinetuneTask,
    candidates: Sequence[str],
    wanted: Sequence[str],
    building: Path,
    recipe: str,
) -> None:
    """Let the gate decide, and write the bundle of the network that it lets through."""
    results = {member: members.result(building / member) for member in wanted}
    whole = results.get("whole")
    base = whole.base if whole else candidates[0]
    decided = _decide(results, base, task.finetune.gate.margin)
    promoted = whole is not None and decided.promoted
    learned: dict[str, Tensor] = (
        members.learned(building / "whole") if promoted else bases.learned(str(base))
    )
    geometry = distances.geometry_for(plan, task.finetune.gate.smallest_object)
    bundles.write(
        building,
        learned,
        plan,
        task,
        recipe,
        reach=geometry.reach,
        base=base,
        origin="base" if not promoted else "fine-tuned" if base else "from nothing",
        gate=decided,
        loss=training.tenths(whole.loss if whole else ()),
    )


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
