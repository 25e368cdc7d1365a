"""Detectors: a network that has learned from crops, tried, calibrated, and used on images.

What it is to be trusted with is found on scenes that it has not learned from: copies of the crop
whose places are known. They say from what information on a detection is an object, and by how much
the standard deviations that the votes tell must be corrected. Where images of the kind are given,
they say how bright an object must be, too. One rule serves all images.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize, sparse

from pipeline import crops, decisions, detections, gathering, selfsupervised, steerable, trials
from pipeline.crops import Crop, Images
from pipeline.detections import Detections
from pipeline.gathering import Gathering
from pipeline.network import UNet
from pipeline.points import FAINTEST, Points, Trial, calibrated, margin, matched
from pipeline.selfsupervised import Lesson
from pipeline.templates import Template
from pipeline.tiles import Box
from pipeline.topology import Architecture, receptive_field

Floats = npt.NDArray[np.float64]
ATTEMPTS = 3
"""Trainings, each from another seed, after which a crop is given up."""
CONVERGED = 0.9
"""F1 on fresh scenes from which on a training has converged."""
TRIALS = 20
"""Scenes of a trial."""
WITHIN = 0.6827
"""Of normal errors, those within one standard deviation."""
FAINTEST_VOTES = 0.01
"""Information, 1 / voxel^2, below which nothing is looked at."""
FAINT = 15.0
"""Times the noise: what stands out less may be too faint to be learned from."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A network to predict with, how its votes gather, and what they mean.

    `trained` is the steerable one that it was exported from.
    """

    network: UNet
    trained: UNet
    how: Gathering
    trial: Trial
    losses: tuple[float, ...]
    attempts: int


def train(
    known: Sequence[Crop],
    architecture: Architecture,
    learned: dict[str, torch.Tensor] | None,
    unit: float,
    lesson: Lesson,
    seed: int,
    grounds: Sequence[Images] = (),
    after_step: Callable[[int, float], None] | None = None,
) -> Detector:
    """Train until a training has converged, from `learned` weights of a base if there are any.

    `grounds` are images of the same kind, of which nobody knows what they hold.
    Raises ValueError where no training converges, with what may be the reason.
    """
    diameter = float(np.median([crop.diameter for crop in known]))
    how = gathering.gathering(diameter, max(crop.extent for crop in known), unit)
    tried = []
    for attempt in range(ATTEMPTS):
        torch.manual_seed(seed + attempt)
        network = steerable.build(architecture)
        if learned is not None:
            steerable.restore(network, learned)
        done = selfsupervised.learn(
            network, known, how, lesson, seed + attempt, grounds, after_step
        )
        exported = steerable.export(done.network)
        found = trial(exported, known, how, lesson, done.middle.double().numpy(), seed)
        if found.f1 >= CONVERGED:
            if grounds:
                found = replace(found, least=_least(exported, how, found, grounds))
            return Detector(exported, done.network, how, found, done.losses, attempt + 1)
        tried.append(found.f1)
    raise ValueError(hopeless(known[0], tried, architecture, lesson))


def hopeless(crop: Crop, tried: Sequence[float], architecture: Architecture, lesson: Lesson) -> str:
    """The sentence that gives up a crop after trainings with these F1, and says what may help."""
    radius = min(receptive_field(architecture))
    if crop.extent > radius:
        reason = (
            f"its object reaches {crop.extent:.0f} voxels from its middle, and the network sees "
            f"{radius}: the crop is too large for this voxel size"
        )
    elif crop.signal_to_noise < FAINT:
        reason = (
            f"its object stands out {crop.signal_to_noise:.0f} times the noise: choose a brighter "
            "one"
        )
    else:
        reason = (
            "its object is too like what lies around it: choose one on plainer background, or "
            f"raise finetune.points.steps ({lesson.steps})"
        )
    scores = ", ".join(f"{f1:.2f}" for f1 in tried)
    return (
        f"no training of {len(tried)} finds copies of the crop again (F1 {scores}, "
        f"{CONVERGED:g} is asked). Perhaps {reason}."
    )


def trial(
    network: UNet,
    known: Sequence[Crop],
    how: Gathering,
    lesson: Lesson,
    middle: Floats,
    seed: int,
) -> Trial:
    """Detect copies in fresh scenes; `middle` is where in a crop the network finds the object."""
    generator = np.random.default_rng([seed, 1, 1])
    # Some of the faintest nobody could find: they tell of errors, but not whether it converged.
    ranges = (lesson.within, replace(lesson.within, contrast=lesson.within.contrast / 2))
    right, wrong, known_by, off, missed = [], [], [], [], 0
    for number in range(TRIALS):
        one = crops.scene(known, 2 * lesson.side, 3 * lesson.copies, ranges[number % 2], generator)
        said = raw(network, one.image, how, FAINTEST_VOTES)
        targets = one.places + one.turns @ middle
        own, theirs = matched(said.places, targets, how.catch + 1)
        off.append(said.places[own] - targets[theirs])
        known_by.append(said.information[own])
        if number % 2:
            right.append(said.information[own])
            wrong.append(np.delete(said.information, own))
            missed += len(targets) - len(own)
    objects, others = np.concatenate(right), np.concatenate(wrong)
    template = Template.of(known, middle)
    if not len(objects):
        return Trial(math.inf, (1.0, -0.5), 0.0, template)
    # Half-way, in the logarithm, between the faintest objects and the strongest of all else.
    weak = float(np.quantile(objects, 0.05))
    strong = float(np.quantile(others, 0.99)) if len(others) else FAINTEST_VOTES
    threshold = math.sqrt(weak * max(strong, FAINTEST_VOTES))
    hits = int((objects >= threshold).sum())
    false = int((others >= threshold).sum())
    total = len(objects) + missed
    correction = deviation_law(np.concatenate(known_by), np.concatenate(off))
    return Trial(threshold, correction, 2 * hits / max(1, hits + false + total), template)


def deviation_law(information: Floats, off: Floats) -> tuple[float, float]:
    """The power of information below which so many errors `off`, `(n, 2)`, lie as within a sigma.

    A line through the logarithms with that quantile of the errors' sizes below it (R. Koenker and
    G. Bassett, Econometrica 46, 33, 1978): large errors count as too large, not for how much.
    """
    if len(information) < 10:
        return 1.0, -0.5
    size = np.log(np.maximum(np.abs(off), 1e-6)).ravel()
    known = np.repeat(np.log(information), 2)
    line = np.stack([np.ones_like(known), known], axis=1)
    every = sparse.identity(len(size))
    found = optimize.linprog(  # type: ignore[call-overload]  # the stubs know no sparse matrices
        np.concatenate([[0, 0], np.full(len(size), WITHIN), np.full(len(size), 1 - WITHIN)]),
        A_eq=sparse.hstack([sparse.csr_array(line), every, -every]),
        b_eq=size,
        bounds=[(None, None)] * 2 + [(0, None)] * 2 * len(size),
    )
    height, exponent = found.x[:2]
    return math.exp(height), float(exponent)


def raw(network: UNet, image: Images, how: Gathering, least: float) -> Detections:
    """All that a network's votes tell of an image `(y, x)`."""
    box = Box((0, 0), image.shape)
    output = trials.output(network, image, tuple(min(512, -(-n // 8) * 8) for n in image.shape))
    return detections.detect(detections.votes(output, box, how), box, how, least)


def points(detector: Detector, image: Images) -> Points:
    """The objects in an image `(y, x)`."""
    trial = detector.trial
    said = raw(detector.network, image, detector.how, trial.faintest)
    return calibrated(said, trial, *mirrored(image, margin(trial, detector.how)))


def _least(network: UNet, how: Gathering, trial: Trial, images: Sequence[Images]) -> float:
    """How strong an object must be in images of which nobody knows what they hold."""
    strong = []
    for image in images:
        said = raw(network, image, how, FAINTEST * trial.threshold)
        seen, start = mirrored(image, margin(trial, how))
        bright = trial.template.brightness(seen, start, said.places)
        strong.append(trial.strengths(said.information, bright))
    return decisions.least_brightness(np.concatenate(strong))


def mirrored(image: Images, beyond: int) -> tuple[Images, tuple[int, int]]:
    """An image with what the network sees beyond its edges, and where it then begins."""
    return np.pad(image, beyond, mode="symmetric"), (-beyond, -beyond)
