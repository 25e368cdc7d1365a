"""Detecting: unlabelled crops of volumes become a model that finds points.

A crop shows one object before its background. What the object is like, and how its places are to
be told from all else, is learned from copies of it: see `detectors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from tqdm import tqdm

from pipeline import (
    bases,
    bundles,
    cards,
    detectors,
    lessons,
    receipts,
    sights,
    steerable,
    training,
    volumes,
    weights,
)
from pipeline.config import FinetuneTask
from pipeline.crops import Crop, Range
from pipeline.lessons import Course, Plan
from pipeline.sections import Finetune
from pipeline.selfsupervised import Lesson
from pipeline.sights import Sight
from pipeline.volumes import Volume

MEMBER, LEARNED, RESULT = "detector", "learned.safetensors", "result.json"
UNIT = 4.0
"""Voxels that a displacement of 1 in the network's output stands for."""
LEAST_SIDE = 48
"""Voxels of a scene."""


class Outcome(BaseModel):
    """What became of a training."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    loss: tuple[float, ...]
    detector: cards.Detector


@dataclass(frozen=True, slots=True)
class Learn:
    """Trains a detector into a folder of `building`. Pickles to a job."""

    building: Path
    sights: tuple[Sight, ...]
    channel: str
    plan: Plan
    base: str | None
    settings: Finetune

    def missing(self) -> list[str]:
        """The training, where its result is not there."""
        return [] if (self.building / MEMBER / RESULT).is_file() else [MEMBER]

    def trace(self) -> int:
        """Changes with the result: a training takes a minute or two, and begins anew if killed."""
        return len(self.missing())

    def __call__(self, share: Sequence[str]) -> None:
        """Train. Raises ValueError where the crops cannot be learned from."""
        if not share:
            return
        torch.set_num_threads(self.settings.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        known = read(self.sights, self.channel, self.plan)
        grounds = [one.ground(_level(one, self.plan), self.channel) for one in self.sights]
        taught = lesson(known, self.settings)
        learned = bases.learned(self.base) if self.base else None
        with tqdm(total=taught.steps, unit="step", mininterval=5, desc=MEMBER) as bar:

            def after_step(step: int, loss: float) -> None:
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.n = step + 1
                bar.update(0)

            found = detectors.train(
                known,
                self.plan.architecture,
                learned,
                UNIT,
                taught,
                self.settings.seed,
                grounds,
                after_step,
            )
        folder = self.building / MEMBER
        folder.mkdir(parents=True, exist_ok=True)
        weights.write(folder / LEARNED, steerable.weights(found.trained))
        told = Outcome(loss=found.losses, detector=described(found))
        receipts.write(folder / RESULT, told.model_dump(mode="json"))


def read(seen: Sequence[Sight], channel: str, plan: Plan) -> list[Crop]:
    """The crops as the network sees them. Raises ValueError where one is none to learn from."""
    return [one.crop(_level(one, plan), channel) for one in seen]


def _level(one: Sight, plan: Plan) -> int:
    return volumes.level_at(one.volume, plan.voxel_size_um).number


def lesson(known: Sequence[Crop], settings: Finetune) -> Lesson:
    """How to learn from crops: scenes are wide enough for the widest."""
    widest = max(max(crop.object.shape) for crop in known)
    points = settings.points
    return Lesson(
        steps=points.steps,
        learning_rate=points.learning_rate,
        scenes=points.scenes,
        side=8 * -(-max(LEAST_SIDE, 2 * widest) // 8),
        copies=points.copies,
        within=Range(points.contrast, points.scale, points.background),
        agreement=points.agreement,
        silence=points.silence,
        unlabelled=points.unlabelled,
    )


def described(found: detectors.Detector) -> cards.Detector:
    """A detector as a card holds it."""
    how, trial = found.how, found.trial
    return cards.Detector(
        reach=how.reach,
        catch=how.catch,
        apart=how.apart,
        threshold=trial.threshold,
        correction=trial.correction,
        least=trial.least,
        profile=trial.template.profile,
        f1=trial.f1,
        attempts=found.attempts,
    )


def course(name: str, task: FinetuneTask, shown: Mapping[str, Volume]) -> Course:
    """How the model of this name is to be trained; `shown` are the volumes, by acquisition.

    Raises ValueError where a crop does not fit its volume, or cannot be learned from.
    """
    seen = tuple(
        sights.sight(f"models.{name}.shots.{number}", dict(shot.region), shown[shot.acquisition])
        for number, shot in enumerate(task.shots)
    )
    plan = planned(seen, task)
    read(seen, task.channel, plan)  # what would be refused in a job is refused here
    fitting = bases.of_points(task.base, plan.architecture, task.network.object_voxels)
    base = fitting[0] if fitting else None
    sizes = " x ".join(f"{size:.3g}" for size in plan.voxel_size_um)
    return Course(
        said=(
            f"{len(seen)} crops of an object of {plan.diameter_um:.3g} um; works on voxels of "
            f"{sizes} um; base: {base or 'none'}"
        ),
        inputs={f"base {base}": bases.digest(base)} if base else {},
        members=(MEMBER,),
        work=lambda building: Learn(building, seen, task.channel, plan, base, task.finetune),
        assemble=partial(_assemble, plan, task, base),
    )


def planned(seen: Sequence[Sight], task: FinetuneTask) -> Plan:
    """The network for the objects that the crops show, at the level where they fit best."""
    if task.diameter_um == "from shots":
        diameter = float(
            np.median(
                [s.crop(0, task.channel).diameter * s.volume.voxel_size_um["x"] for s in seen]
            )
        )
    else:
        diameter = task.diameter_um
    volume = seen[0].volume
    sizes = [volume.voxel_um(level) for level in volume.levels]
    plan = lessons.fitted(sizes, diameter, diameter, 1.0, len(seen), task.network)
    return replace(plan, unit_voxels=(UNIT, UNIT))


def _assemble(
    plan: Plan, task: FinetuneTask, base: str | None, building: Path, recipe: str
) -> None:
    """Write the bundle of the network that was learned."""
    outcome = Outcome.model_validate(receipts.read(building / MEMBER / RESULT))
    detector = outcome.detector
    reason = (
        f"In scenes that it had not seen it finds copies of its crop with an F1 of "
        f"{detector.f1:.2f}, after {detector.attempts} "
        f"{'training' if detector.attempts == 1 else 'trainings'}."
    )
    bundles.write(
        building,
        load_file(building / MEMBER / LEARNED),
        plan,
        task,
        recipe,
        reach=(detector.reach, detector.reach),
        base=base,
        origin="fine-tuned" if base else "from nothing",
        gate=cards.Gate(promoted=True, reason=reason),
        loss=training.tenths(outcome.loss),
        detector=detector,
    )
