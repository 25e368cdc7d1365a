"""How Equiscope learns from images in memory, and the controls that show what each part is worth.

The same parts as the pipeline's stages, without volumes: a network works where typical objects are
about `network.object_voxels` wide, on block means of the image or on an enlarged one, and its
votes become labels of the image as it is. All settings are those of config.yaml.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from benchmarks import datasets
from benchmarks.datasets import Example, Floats, Image, Labels
from benchmarks.methods import Learned, Method, digest, sources
from pipeline import (
    bases,
    config,
    distances,
    lessons,
    members,
    resample,
    sampling,
    shots,
    steerable,
    tiles,
    training,
    trials,
)
from pipeline.config import Campaign
from pipeline.lessons import Plan
from pipeline.network import UNet
from pipeline.optics import Optics, psf
from pipeline.sections import Network, Predict
from pipeline.shots import Example as Shown
from pipeline.tiles import Box
from pipeline.trials import Reading

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config.yaml"
ENLARGED = (2, 4, 8)
GUESSED = Optics("widefield", 0.84, 2.0, 1.33)
"""Optics whose blur is half a voxel wide, where voxels are 1 wide: images do not tell their own."""
ONE = "one shot"
"""Stands for a model that learned from one example, where a base model may stand."""
SMALLEST_LEVEL = 16
"""Voxels along the longest side of the coarsest level that a network may work at."""


def learners() -> tuple[Method, ...]:
    """Equiscope first, then its controls."""
    campaign = config.load(CONFIG)
    settings = [part.model_dump_json() for part in (campaign.network, campaign.finetune)]
    settings += [campaign.predict.model_dump_json(), *map(bases.digest, bases.names())]
    version = digest(sources(Path(__file__), ROOT), " ".join(settings))

    def method(name: str, learn: Train, told: str, times: int = 1) -> Method:
        return Method(name, learn, f"{name}: {told}.", version, times, ("yx", "zyx"))

    ours = Train(campaign, campaign.network.group, base="auto", turned=True)
    scratch = dataclasses.replace(ours, base="none")
    plain = dataclasses.replace(scratch, group="trivial")
    upright = "crops are neither turned nor mirrored, and no fields composed"
    return (
        method("ours", ours, "Equiscope, from the base model that does best on the shots"),
        method("scratch", scratch, "as ours, from random weights"),
        method(
            "plain",
            plain,
            "as scratch, without equivariance: a plain U-Net with as many channels, so equal "
            "compute and more parameters, on the same crops at any angle",
        ),
        method(
            "scratch_upright",
            dataclasses.replace(scratch, turned=False, composed=0.0),
            f"as scratch, {upright}",
        ),
        method(
            "plain_upright",
            dataclasses.replace(plain, turned=False, composed=0.0),
            f"as plain, {upright}",
        ),
        method(
            "uncomposed",
            dataclasses.replace(ours, composed=0.0),
            "as ours, from crops of the shots alone",
        ),
        method(
            "physics",
            dataclasses.replace(ours, physics=0.05),
            "as ours, with a loss of weight 0.05 by which the prediction, blurred by a Gaussian of "
            "half a voxel, must explain the image",
        ),
        method(
            "unfollowed",
            dataclasses.replace(ours, followed=False),
            "as ours, votes of long objects are taken as the network says them",
        ),
        method("plain_tenfold", plain, "as plain, from ten times as many images", times=10),
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a network works: on means of `coarser` voxels, or `finer` times enlarged.

    One of the two is 1. Both are powers of two.
    """

    coarser: tuple[int, ...]
    finer: int

    def spacing(self, spacing: tuple[float, ...]) -> tuple[float, ...]:
        """Distance between the network's voxels."""
        return tuple(s * f / self.finer for s, f in zip(spacing, self.coarser, strict=True))

    def image(self, voxels: Floats) -> Floats:
        """An image as the network sees it."""
        if self.finer > 1:
            places = tuple(
                resample.centres_in_coarse(0, side * self.finer, self.finer)
                for side in voxels.shape
            )
            around = Box((0,) * voxels.ndim, voxels.shape)
            return resample.interpolated(voxels, around, places, voxels.shape)
        return cast(Floats, sampling.block_mean(voxels, self.coarser))

    def labels(self, labels: Labels) -> Labels:
        """Labels at the network's voxels."""
        for axis in range(labels.ndim):
            labels = labels.repeat(self.finer, axis)
        return labels[tuple(slice(factor // 2, None, factor) for factor in self.coarser)]


def scales(image: Image) -> Iterator[Scale]:
    """Every scale that a network may work at: the pyramid's levels, and enlarged ones."""
    shape = image.voxels.shape
    axes = "zyx"[-len(shape) :]
    sizes = dict(zip(axes, image.spacing, strict=True))
    for level in tiles.pyramid(axes, shape, sizes, shape, shape, SMALLEST_LEVEL):
        yield Scale(level.factors, 1)
    for finer in ENLARGED:
        yield Scale((1,) * len(shape), finer)


@dataclass(frozen=True, slots=True)
class Train:
    """Learns as `finetune` does, without its gate.

    Attributes
    ----------
    group: of symmetries; all groups compute equally much.
    base: to start from: a name, auto or none.
    turned: whether training crops are turned by any angle, and mirrored.
    composed: fraction of crops that are composed; None for that of config.yaml.
    physics: weight of the loss by which predictions must explain the image.
    followed: whether pointers of long objects are followed.
    """

    campaign: Campaign
    group: str
    base: str
    turned: bool
    composed: float | None = None
    physics: float = 0.0
    followed: bool = True

    def __call__(self, examples: Sequence[Example], seed: int) -> Learned:
        """Train a network on the examples for the steps of config.yaml."""
        family = self.campaign.network.model_copy(update={"group": self.group})
        plan = _plan(examples, family)
        if not self.followed:
            plan = dataclasses.replace(plan, hops=0)
        return self.on([as_seen(example, plan.voxel_size_um) for example in examples], plan, seed)

    def on(self, shown: Sequence[Shown], plan: Plan, seed: int) -> Learned:
        """The same on examples as the network sees them."""
        settings, family = self.campaign.finetune, self.campaign.network
        guise = settings.guise.model_copy(update={"turned": self.turned})
        composed = settings.composed if self.composed is None else self.composed
        settings = settings.model_copy(update={"guise": guise, "composed": composed})
        torch.set_num_threads(settings.threads)
        axes = plan.architecture.axes
        reading = _reading(plan, self.campaign.predict)
        candidates = bases.fitting(self.base, plan.architecture, family.object_voxels)
        base = members.best_base(candidates, shown, plan, reading)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        state, schedule = members.started(plan, base, settings.start, seed, device)
        draw = members.drawing(shown, axes, settings)
        further = None
        if self.physics:
            kernel = psf(GUESSED, (1.0,) * len(axes))
            further = members.explaining(self.physics, kernel, plan.diameter_voxels, shown)
        training.train(state, draw, schedule, lambda _: None, further)
        exported = steerable.export(state.network.eval()).to(device)
        segment = Segment(exported, plan.voxel_size_um, reading)
        return Learned(segment, schedule.steps, schedule.steps)


@dataclass(frozen=True, slots=True)
class Segment:
    """Labels images as `predict` does, each in one piece.

    `spacing` is the distance between the network's voxels.
    """

    network: UNet
    spacing: tuple[float, ...]
    reading: Reading

    def __call__(self, images: Sequence[Image]) -> list[Labels]:
        """Labels of each image."""
        return [self._labels(image) for image in images]

    def _labels(self, image: Image) -> Labels:
        scale = _nearest(image, self.spacing)
        seen = scale.image(image.voxels)
        found = trials.segmented(self.network, seen, scale.coarser, self.reading)
        middle = tuple(
            slice(scale.finer // 2, n * scale.finer, scale.finer) for n in image.voxels.shape
        )
        return np.asarray(found[middle], np.int32)


def prepared(
    campaign: Campaign, examples: Sequence[Example], base: str
) -> tuple[UNet, tuple[float, ...], Reading]:
    """A network for objects like the examples', its voxels' distance, and how it is read.

    `base` names a base model, which stays as it is; or it is ONE: trained on the examples.
    """
    torch.set_num_threads(1)
    if base == ONE:
        train = Train(campaign, campaign.network.group, base="auto", turned=True)
        segment = cast(Segment, train(examples, 0).predict)
        return segment.network, segment.spacing, segment.reading
    plan = _plan(examples, campaign.network)
    network = steerable.build(plan.architecture)
    steerable.restore(network, bases.learned(base))
    reading = _reading(plan, campaign.predict)
    return steerable.export(network.eval()), plan.voxel_size_um, reading


def gate(campaign: Campaign, example: Example, base: str) -> float:
    """Average precision on objects that were held out, as finetune's gate asks about them.

    Of a base model as it is, or with ONE of one that learned from the other objects.
    """
    plan = _plan([example], campaign.network)
    learns, asked = as_seen(example, plan.voxel_size_um).parted(campaign.finetune.gate.hold_out)
    network, _, reading = prepared(campaign, [example], bases.names()[0] if base == ONE else base)
    if base == ONE:
        train = Train(campaign, campaign.network.group, base="auto", turned=True)
        network = cast(Segment, train.on([learns], plan, 0).predict).network
    found = trials.segmented(network, asked.image, (1,) * asked.image.ndim, reading)
    return trials.score(found, asked.labels, asked.known)


def _plan(examples: Sequence[Example], family: Network) -> Plan:
    """Measure the objects, choose the scale to work at and the network, as `lessons.plan` does."""
    shown = [example for example in examples if example.labels.any()]
    if not shown:
        raise ValueError("the shots hold no object.")
    sizes = [(example.labels, example.image.spacing) for example in shown]
    width = float(np.median([shots.width(*each) for each in sizes]))
    first = shown[0].image
    return lessons.fitted(
        (scale.spacing(first.spacing) for scale in scales(first)),
        width,
        float(np.median([shots.diameter(*each) for each in sizes])),
        float(np.median([shots.aspect(*each) for each in sizes])),
        sum(datasets.objects(labels) for labels, _ in sizes),
        family,
    )


def _reading(plan: Plan, settings: Predict) -> Reading:
    return Reading(
        distances.geometry_for(plan, settings.smallest_object),
        settings.foreground,
        settings.tile_voxels.of(plan.architecture.axes),
    )


def _nearest(image: Image, spacing: tuple[float, ...]) -> Scale:
    """The scale at which an image's voxels come nearest to those of the network."""

    def away(scale: Scale) -> float:
        sizes = zip(scale.spacing(image.spacing), spacing, strict=True)
        return sum(abs(math.log(size / wanted)) for size, wanted in sizes)

    return min(scales(image), key=away)


def as_seen(example: Example, spacing: tuple[float, ...]) -> Shown:
    """An example as the network sees it; where a block is cut, the annotation is silent."""
    scale = _nearest(example.image, spacing)
    image, cut = scale.image(example.image.voxels), scale.labels(example.labels)
    labels, known = np.zeros(image.shape, np.int32), np.zeros(image.shape, bool)
    inside = tuple(slice(0, n) for n in cut.shape)
    labels[inside], known[inside] = cut, True
    return Shown(image, labels, known)
