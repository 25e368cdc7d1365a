"""Pretrain: simulated fields become a base model, which no one had to annotate."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pipeline import (
    bases,
    boundaries,
    cards,
    certificate,
    checkpoints,
    distances,
    imaging,
    phantoms,
    publication,
    receipts,
    shots,
    steerable,
    training,
    trials,
)
from pipeline.config import PretrainTask
from pipeline.network import UNet
from pipeline.shots import Example, Shot
from pipeline.topology import Architecture, design
from pipeline.trials import Reading

log = logging.getLogger("equiscope.pretrain")
CHECKPOINT = "checkpoint.pt"
JUDGED = 8
"""Simulated fields that a base is scored on."""


@dataclass(frozen=True, slots=True)
class Train:
    """Trains one base into `building`. Pickles to a job; its one unit is the whole training."""

    building: Path
    parent: Path | None
    task: PretrainTask
    recipe: dict[str, Any]

    def missing(self) -> list[str]:
        """The training, unless its base is whole."""
        return [] if (self.building / bases.CARD).is_file() else ["training"]

    def trace(self) -> int:
        """Changes with every checkpoint."""
        path = self.building / CHECKPOINT
        return path.stat().st_mtime_ns if path.is_file() else 0

    def __call__(self, share: Sequence[str]) -> None:
        """Train, from the last checkpoint on if there is one, and write the base."""
        base = self.task.base
        torch.set_num_threads(self.task.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        state = training.begin(_architecture(self.task), self.task.seed, device)
        if self.parent is not None:
            steerable.restore(state.network, bases.learned(str(self.parent)))
        checkpoint, boundary = self.building / CHECKPOINT, boundaries.Boundary()
        checkpoints.resume(checkpoint, state)
        schedule = training.Schedule(
            steps=base.steps,
            learning_rate=base.learning_rate,
            seed=self.task.seed,
            unit=(self.task.network.object_voxels,) * len(base.axes),
            knows=self.parent is not None,
            balance=0.0,
        )

        def draw(generator: np.random.Generator) -> Shot:
            return shots.batch([self._shot(generator) for _ in range(base.fields)])

        with tqdm(total=schedule.steps, initial=state.step, unit="step", mininterval=5) as progress:

            def after_step(now: training.State) -> None:
                progress.set_postfix(loss=f"{np.mean(now.losses[-50:]):.3f}", refresh=False)
                progress.update()
                if now.step % self.task.checkpoint_steps == 0:
                    checkpoints.save(checkpoint, now)
                    boundary.cross()

            with boundaries.respected():
                training.train(state, draw, schedule, after_step)
        if state.step == schedule.steps:
            self._write(state)

    def _shot(self, generator: np.random.Generator) -> Shot:
        """A simulated field; what lies at its rim belongs to objects that are known whole."""
        example, spacing = simulated(self.task, generator)
        shot = Shot.of(example)
        rim = _rim(self.task, spacing)
        inside = tuple(slice(r, n - r) for r, n in zip(rim, example.image.shape, strict=True))
        scale = torch.tensor(spacing, dtype=torch.float32).reshape((-1,) + (1,) * len(spacing))
        return Shot(
            shot.image[(slice(None), *inside)],
            shot.foreground[inside],
            (shot.displacement * scale)[(slice(None), *inside)],
            shot.known[inside],
        )

    def _write(self, state: training.State) -> None:
        trained = state.network.cpu()
        exported = steerable.export(trained)
        card = bases.Card(
            architecture=cards.describe(trained.architecture),
            object_voxels=self.task.network.object_voxels,
            loss=training.tenths(state.losses),
            score=judged(exported, self.task),
            certificate=cards.Certificate(**certificate.certify(trained, exported)),
            made_from=self.recipe,
            recipe=self.recipe["hash"],
        )
        bases.save(self.building, steerable.weights(trained), card)


def judged(exported: UNet, task: PretrainTask) -> float:
    """Mean average precision of a network on `JUDGED` fields that it did not learn from."""
    scores = []
    for number in range(JUDGED):
        generator = np.random.default_rng([task.seed, task.base.steps, number])
        example, spacing = simulated(task, generator)
        step = np.array(spacing)
        unit = tuple(task.network.object_voxels / step)
        width = math.sqrt(math.prod(task.base.specimen.diameter_voxels))
        geometry = distances.geometry(tuple(width / step), 0.15, unit, 0)
        reading = Reading(geometry, 0.5, example.image.shape)
        found = trials.segmented(exported, example.image, (1,) * len(spacing), reading)
        scores.append(trials.score(found, example.labels, example.known))
    return float(np.mean(scores))


def simulated(
    task: PretrainTask, generator: np.random.Generator
) -> tuple[Example, tuple[float, ...]]:
    """A simulated field with its labels, and how many finest voxels a voxel is along each axis."""
    base = task.base
    depth = generator.uniform(*base.z_spacing)
    spacing = (depth, 1.0, 1.0)[-len(base.axes) :]
    sides = tuple(n + 2 * r for n, r in zip(base.field_voxels, _rim(task, spacing), strict=True))
    field = phantoms.phantom(
        phantoms.Specimen(**base.specimen.model_dump()), sides, spacing, generator
    )
    conditions = imaging.Imaging(**base.imaging.model_dump())
    image = imaging.picture(field, conditions, spacing, generator)
    return Example(image, field.labels, np.ones(sides, bool)), spacing


def pretrain(
    receipt: Path, parent: Path | None, task: PretrainTask, run: Callable[[Train], None]
) -> None:
    """Train the base beside its receipt, then write the receipt.

    `parent` is the receipt of the base to start from; `run` completes the training, wherever that
    is.
    """
    inputs = {} if parent is None else {"parent": receipts.identity(parent)}
    recipe = receipts.recipe("pretrain", task.model_dump(mode="json"), inputs)
    target = receipt.with_suffix(".base")
    building = target.with_name(f"{target.name}.building")
    if not _is_base_of(target, recipe["hash"]):
        receipts.begin(building, recipe)
        log.info("%d steps of %d simulated fields", task.base.steps, task.base.fields)
        begun_from = None if parent is None else receipts.result(parent, "base")
        run(Train(building, begun_from, task, recipe))
        for leftover in (CHECKPOINT, receipts.BEGUN):
            (building / leftover).unlink(missing_ok=True)
        publication.publish(building, target)
    card = bases.read_card(str(target))
    facts = {"base": target.name, "weights": bases.digest(str(target)), "score": card.score}
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def _is_base_of(target: Path, recipe: str) -> bool:
    return (target / bases.CARD).is_file() and bases.read_card(str(target)).recipe == recipe


def _rim(task: PretrainTask, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Voxels around a field, as wide as its largest typical object is thick."""
    radius = task.base.specimen.diameter_voxels[1] * 0.65
    return tuple(2 * math.ceil(radius / step / 2) for step in spacing)


def _architecture(task: PretrainTask) -> Architecture:
    base = task.base
    spacing = (base.z_spacing[1], 1.0, 1.0)[-len(base.axes) :]
    asked = task.network
    return design(base.axes, spacing, asked.group, asked.width.of(base.axes), asked.levels)
