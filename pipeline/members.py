"""Members: the trainings that make one model, and tell whether it is any good.

whole     learns from all that is annotated: the model, if the gate lets it through
held_out  learns from a part, and is asked about the rest
half      learns from half of that part: would another example help?
control   a plain network that learns from the same part, from nothing
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from pipeline import (
    bases,
    boundaries,
    checkpoints,
    compose,
    distances,
    losses,
    optics,
    physics,
    progress,
    receipts,
    shots,
    steerable,
    training,
    trials,
    weights,
)
from pipeline.lessons import Pair, Plan, examples
from pipeline.losses import Emphasis
from pipeline.network import UNet
from pipeline.noise import estimate_noise
from pipeline.optics import Optics
from pipeline.sections import Finetune, Starts
from pipeline.shots import Example, Floats, Shot
from pipeline.topology import GROUPS, Architecture
from pipeline.trials import Reading

log = logging.getLogger("equiscope.finetune")
TILE_VOXELS = {"yx": (512, 512), "zyx": (32, 128, 128)}
"""What a network sees at once of an example; it decides nothing but the time that takes."""
SETTLED = Emphasis(votes=2.0, balance=0.0)
"""What counts where bases are compared: the same as at the end of a training."""
CHECKPOINT, LEARNED, RESULT = "checkpoint.pt", "learned.safetensors", "result.json"


class Result(BaseModel):
    """What became of a member.

    Attributes
    ----------
    base: what it started from; None where that was nothing.
    loss: training loss of every step.
    objects: how many it learned from.
    held_out: how many it was asked about.
    score: average precision on those, None where there are none; `base_score` its base's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    base: str | None
    loss: tuple[float, ...]
    objects: int
    held_out: int
    score: float | None
    base_score: float | None


@dataclass(frozen=True, slots=True)
class Train:
    """Trains members of one model into folders of `building`. Pickles to a job."""

    building: Path
    pairs: tuple[Pair, ...]
    channel: str
    plan: Plan
    candidates: tuple[str, ...]
    names: tuple[str, ...]
    settings: Finetune
    optics: Optics | None

    def missing(self) -> list[str]:
        """Members whose result is not there."""
        return [name for name in self.names if not (self.building / name / RESULT).is_file()]

    def trace(self) -> int:
        """Changes with every checkpoint."""
        places = [self.building / name / CHECKPOINT for name in self.names]
        return sum(path.stat().st_mtime_ns for path in places if path.is_file())

    def __call__(self, share: Sequence[str]) -> None:
        """Train these members, each from its last checkpoint on if there is one."""
        torch.set_num_threads(self.settings.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        known = examples(self.pairs, self.channel, self.plan)
        with boundaries.respected():
            for name in share:
                self._train(name, known)

    def _train(self, name: str, known: Sequence[Example]) -> None:
        parted = [example.parted(self.settings.gate.hold_out) for example in known]
        learns, asked = [a for a, _ in parted], [b for _, b in parted]
        if name == "whole":
            learns, asked = list(known), []
        if name == "half":
            learns = [example.parted(0.5)[0] for example in learns]
        plain = name == "control"
        architecture = _plain(self.plan.architecture) if plain else self.plan.architecture
        reading = self._reading()
        base = best_base(() if plain else self.candidates, learns, self.plan, reading)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        state, schedule = started(
            replace(self.plan, architecture=architecture),
            base,
            self.settings.start,
            self.settings.seed,
            device,
        )
        before = None if base is None else self._score(state.network, asked)
        folder = self.building / name
        folder.mkdir(parents=True, exist_ok=True)
        objects = sum(example.objects() for example in learns)
        log.info("%s: %d objects, from %s, on %s", name, objects, base or "nothing", device)
        self._learn(state, learns, schedule, folder, name)
        weights.write(folder / LEARNED, steerable.weights(state.network))
        result = Result(
            base=base,
            loss=tuple(state.losses),
            objects=objects,
            held_out=sum(example.objects() for example in asked),
            score=self._score(state.network, asked),
            base_score=before,
        )
        receipts.write(folder / RESULT, result.model_dump(mode="json"))
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def _learn(
        self,
        state: training.State,
        learns: Sequence[Example],
        schedule: training.Schedule,
        folder: Path,
        name: str,
    ) -> None:
        checkpoint, boundary = folder / CHECKPOINT, boundaries.Boundary()
        checkpoints.resume(checkpoint, state)
        further = None
        if self.settings.physics and self.optics is not None:
            kernel = optics.psf(self.optics, self.plan.voxel_size_um)
            further = explaining(self.settings.physics, kernel, self.plan.diameter_voxels, learns)
        draw = drawing(learns, self.plan.architecture.axes, self.settings)
        total, begun = schedule.steps, state.step
        pace = progress.Pace(folder, begun, total)
        with tqdm(total=total, initial=begun, unit="step", mininterval=5, desc=name) as bar:

            def after_step(now: training.State) -> None:
                bar.set_postfix(loss=f"{now.losses[-1]:.3f}", refresh=False)
                bar.update()
                if now.step % self.settings.checkpoint_steps == 0:
                    checkpoints.save(checkpoint, now)
                    pace.tell(now.step)
                    boundary.cross()

            training.train(state, draw, schedule, after_step, further)

    def _reading(self) -> Reading:
        gate = self.settings.gate
        geometry = distances.geometry_for(self.plan, gate.smallest_object)
        return Reading(geometry, gate.foreground, TILE_VOXELS[self.plan.architecture.axes])

    def _score(self, network: UNet, asked: Sequence[Example]) -> float | None:
        """Mean average precision of what the network finds; None where there is no object."""
        asked = [example for example in asked if example.objects()]
        if not asked:
            return None
        exported, reading = steerable.export(network.eval()), self._reading()
        return _precision(
            [trials.output(exported, example.image, reading.tile) for example in asked],
            asked,
            reading,
        )


def started(
    plan: Plan, base: str | None, starts: Starts, seed: int, device: str
) -> tuple[training.State, training.Schedule]:
    """A network before its first step, from a base or from nothing, and how it is to learn."""
    state = training.begin(plan.architecture, seed, device)
    if base is not None:
        steerable.restore(state.network, bases.learned(base))
    start = starts.nothing if base is None else starts.base
    schedule = training.Schedule(
        steps=start.steps.of(plan.architecture.axes),
        learning_rate=start.learning_rate,
        seed=seed,
        unit=plan.unit_voxels,
        knows=base is not None,
        balance=start.balance,
    )
    return state, schedule


def best_base(
    candidates: Sequence[str], learns: Sequence[Example], plan: Plan, reading: Reading
) -> str | None:
    """The base that does best on what is to be learned from, as it is; None of none.

    Where none finds anything, the one whose loss is least.
    """
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    network, standing = steerable.build(plan.architecture), {}
    for name in candidates:
        steerable.restore(network, bases.learned(name))
        exported = steerable.export(network.eval())
        outputs = [trials.output(exported, example.image, reading.tile) for example in learns]
        score = _precision(outputs, learns, reading)
        standing[name] = (score or 0.0, -_loss(outputs, learns, plan))
    said = ", ".join(f"{name} {score:.2f}" for name, (score, _) in standing.items())
    log.info("before training, the bases score %s", said)
    return max(standing, key=lambda name: standing[name])


def _precision(
    outputs: Sequence[Floats], asked: Sequence[Example], reading: Reading
) -> float | None:
    """Mean average precision, an example counting by its objects; None where there are none."""
    counts = [example.objects() for example in asked]
    if not any(counts):
        return None
    scores = [
        trials.score(
            trials.found(output, (1,) * example.image.ndim, reading), example.labels, example.known
        )
        for output, example in zip(outputs, asked, strict=True)
    ]
    return float(np.average(scores, weights=counts))


def _loss(outputs: Sequence[Floats], learns: Sequence[Example], plan: Plan) -> float:
    unit = torch.tensor(plan.unit_voxels)
    values = [
        losses.supervised(
            torch.as_tensor(output)[None], shots.batch([Shot.of(example)]), unit, SETTLED
        )
        for output, example in zip(outputs, learns, strict=True)
    ]
    return float(np.mean([float(value) for value in values]))


def drawing(learns: Sequence[Example], axes: str, settings: Finetune) -> training.Draw:
    """How a batch is drawn: crops of the examples in new guises, and fields composed of them."""
    known = [Shot.of(example) for example in learns if example.known.any()]
    sides, count = settings.crop_voxels.of(axes), settings.crops.of(axes)
    guise = shots.Guise(**settings.guise.model_dump())
    try:
        library = compose.Library.of(learns) if settings.composed else None
    except ValueError as fault:
        log.info("no fields are composed: %s", fault)
        library = None

    def one(generator: np.random.Generator) -> Shot:
        if library is not None and generator.random() < settings.composed:
            return compose.compose(library, sides, guise, generator)
        return shots.crop(known[generator.integers(len(known))], sides, guise, generator)

    return lambda generator: shots.batch([one(generator) for _ in range(count)])


def explaining(
    weight: float, kernel: Tensor, diameter: tuple[float, ...], learns: Sequence[Example]
) -> training.Further | None:
    """The loss by which a prediction, seen through the optics, must explain the image.

    None, and a warning, where the examples do not tell how strong their noise is.
    """
    try:
        noise = estimate_noise(learns[0].image)
    except ValueError as fault:
        log.warning("no physics in the loss: %s", fault)
        return None
    window = tuple(2 * side for side in diameter)

    def further(output: Tensor, batch: Shot) -> Tensor:
        formation = physics.Formation(kernel.to(output.device), window, noise)
        return weight * physics.explain(output[:, 0].sigmoid(), batch.image[:, 0], formation)

    return further


def learned(folder: Path) -> dict[str, Tensor]:
    """What a member has learned."""
    return load_file(folder / LEARNED)


def result(folder: Path) -> Result:
    """What became of a member."""
    return Result.model_validate(receipts.read(folder / RESULT))


def _plain(architecture: Architecture) -> Architecture:
    """A network without symmetry, as wide and as costly."""
    channels = architecture.fields * GROUPS[architecture.group].order
    return replace(architecture, group="trivial", fields=channels)
