"""Finetune: 1 to 5 annotated examples become a model bundle with a measured certificate."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pipeline import certificate, network, receipts, steerable, training, volumes, weights
from pipeline.annotations import Annotated, annotated
from pipeline.config import Finetune, FinetuneTask, Guise
from pipeline.network import Architecture
from pipeline.shots import Guise as CropGuise
from pipeline.shots import Shot, diameter
from pipeline.tiles import Box
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.finetune")
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the shots say about the network: where it works, and on objects of what size."""

    architecture: Architecture
    diameter_um: float
    voxel_size_um: tuple[float, ...]
    objects: int


@dataclass(frozen=True, slots=True)
class Train:
    """Trains one model into `building`. Pickles to a job; its one unit is the whole training."""

    building: Path
    recipe: str
    examples: tuple[tuple[Volume, Annotated], ...]
    channel: str
    settings: Finetune

    def missing(self) -> list[str]:
        """The training, unless its bundle is whole."""
        done = (self.building / weights.CARD).is_file()
        return [] if done else ["training"]

    def __call__(self, share: Sequence[str]) -> None:
        """Train, from the last checkpoint on if there is one, and write the bundle."""
        torch.set_num_threads(self.settings.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        plan = _plan(self.examples, self.settings)
        shots = [
            shot
            for volume, known in self.examples
            for shot in _shots(volume, known, volume.channel(self.channel), plan)
        ]
        schedule = _schedule(plan, self.settings)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        state = training.begin(plan.architecture, self.settings.seed, device)
        checkpoint = self.building / CHECKPOINT
        if checkpoint.is_file():
            state.restore(torch.load(checkpoint, map_location=device, weights_only=True))
            log.info("going on from step %d", state.step)
        log.info(
            "%d objects of %.2f um, %s, on %s",
            plan.objects,
            plan.diameter_um,
            plan.architecture,
            device,
        )
        with tqdm(total=schedule.steps, initial=state.step, unit="step", mininterval=5) as progress:

            def after_step(now: training.State) -> None:
                progress.set_postfix(loss=f"{now.losses[-1]:.3f}", refresh=False)
                progress.update()
                if now.step % self.settings.checkpoint_steps == 0:
                    _save_checkpoint(checkpoint, now)

            training.train(state, shots, schedule, after_step)
        self._write(plan, state, len(shots))

    def _write(self, plan: Plan, state: training.State, shots: int) -> None:
        trained = state.network.cpu()
        exported = steerable.export(trained)
        tenth = max(1, len(state.losses) // 10)
        card = weights.Card(
            architecture=weights.describe(plan.architecture),
            diameter_um=plan.diameter_um,
            voxel_size_um=plan.voxel_size_um,
            channel=self.channel,
            receptive_field=network.receptive_field(plan.architecture),
            shots=shots,
            objects=plan.objects,
            loss=tuple(
                float(np.mean(state.losses[i : i + tenth]))
                for i in range(0, len(state.losses), tenth)
            ),
            certificate=weights.Certificate(**certificate.certify(trained, exported)),
            recipe=self.recipe,
        )
        weights.save(self.building, exported, card)


def finetune(
    receipt: Path,
    images: Mapping[str, Path],
    task: FinetuneTask,
    run: Callable[[Train], None],
) -> None:
    """Train the model beside its receipt, then write the receipt.

    `images` gives the receipts of the acquisitions' volumes; `run` completes the training,
    wherever that is.
    Raises ValueError where a shot does not fit its volume.
    """
    # plan
    examples = []
    for number, shot in enumerate(task.shots):
        volume = volumes.open_volume(receipts.result(images[shot.acquisition], "volume"))
        where = f"models.{receipt.stem}.shots.{number}"
        region: dict[str, tuple[int, int]] = dict(shot.region)
        known = annotated(where, shot.labels, region, volume.axes, volume.levels[0].shape)
        volume.channel(task.channel)
        examples.append((volume, known))
    inputs = {name: receipts.identity(path) for name, path in images.items()}
    inputs |= {
        shot.labels.path: receipts.file_fingerprint(known.source.path)
        for shot, (_, known) in zip(task.shots, examples, strict=True)
    }
    recipe = receipts.recipe("finetune", task.model_dump(mode="json"), inputs)
    target = receipt.with_suffix(".model")
    building = target.with_name(f"{target.name}.building")
    log.info("%d shots, %d steps", len(examples), task.finetune.steps.of(examples[0][0].axes))

    # act
    if not _is_bundle_of(target, recipe["hash"]):
        if not receipts.is_of(building / "recipe.json", recipe["hash"]):
            shutil.rmtree(building, ignore_errors=True)
            receipts.write(
                building / "recipe.json", {"recipe": recipe["hash"], "made_from": recipe}
            )
        run(Train(building, recipe["hash"], tuple(examples), task.channel, task.finetune))
        (building / CHECKPOINT).unlink(missing_ok=True)
        volumes.publish(building, target)

    # receipt
    digest = receipts.bytes_digest(target / weights.WEIGHTS)
    facts = {"model": target.name, "weights": digest, "objects": weights.read_card(target).objects}
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def _is_bundle_of(target: Path, recipe: str) -> bool:
    return (target / weights.CARD).is_file() and weights.read_card(target).recipe == recipe


def _plan(examples: Sequence[tuple[Volume, Annotated]], settings: Finetune) -> Plan:
    """Measure the objects, choose the level to work at and the network."""
    sizes, objects = [], 0
    for volume, known in examples:
        for frame in known.frames:
            labels = known.labels(frame)
            if labels.any():
                sizes.append(diameter(labels, volume.voxel_um(volume.levels[0])))
                objects += len(np.unique(labels[labels != 0]))
    if not sizes:
        raise ValueError("the shots hold no object: annotate at least one.")
    typical = float(np.median(sizes))
    volume = examples[0][0]
    level = min(
        volume.levels,
        key=lambda level: abs(
            np.log(typical / min(volume.voxel_um(level)) / settings.object_voxels)
        ),
    )
    voxel = volume.voxel_um(level)
    # Levels halve the axes whose voxels are not yet much coarser than the finest.
    pooling, now = [], list(voxel)
    for _ in range(settings.levels):
        factors = tuple(2 if size < 2 * min(now) else 1 for size in now)
        pooling.append(factors)
        now = [size * factor for size, factor in zip(now, factors, strict=True)]
    group = "d4" if settings.group == "auto" else settings.group
    architecture = Architecture(
        axes=volume.space,
        group=group,
        channels=1,
        fields=settings.fields.of(volume.space),
        pooling=tuple(pooling),
    )
    return Plan(architecture, typical, voxel, objects)


def _shots(volume: Volume, known: Annotated, channel: int, plan: Plan) -> list[Shot]:
    """One shot per annotated frame, with as much image around it as a crop may need."""
    level = volumes.level_at(volume, plan.voxel_size_um)
    factors = volume.spatial(level.factors)
    sides = volume.spatial(level.shape)
    inside = known.space.coarsened(factors).clipped(sides)
    around = inside.grown(network.receptive_field(plan.architecture)).clipped(sides)
    shots = []
    for frame in known.frames:
        labels = np.zeros(around.shape, np.int64)
        middle = tuple(slice(factor // 2, None, factor) for factor in factors)
        cut = known.labels(frame)[middle]
        place = Box(
            inside.start, tuple(a + n for a, n in zip(inside.start, cut.shape, strict=True))
        )
        labels[place.within(around)] = cut
        certain = np.zeros(around.shape, bool)
        certain[place.within(around)] = True
        image = volume.normalised(level.number, around, frame, channel)
        shots.append(Shot.of(image[None], labels, certain))
    return shots


def _schedule(plan: Plan, settings: Finetune) -> training.Schedule:
    axes = plan.architecture.axes
    guise: Guise = settings.guise
    return training.Schedule(
        steps=settings.steps.of(axes),
        crop=settings.crop_voxels.of(axes),
        crops=settings.crops.of(axes),
        learning_rate=settings.learning_rate,
        guise=CropGuise(guise.scale, guise.contrast, guise.background, guise.noise),
        seed=settings.seed,
        diameter=tuple(plan.diameter_um / size for size in plan.voxel_size_um),
    )


def _save_checkpoint(path: Path, state: training.State) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as stream:
        torch.save(state.dump(), stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
