"""Detectors: a network that has learned from crops, tried, calibrated, and used on images.

What it is to be trusted with is found on scenes that it has not learned from: copies of the crop
whose places are known. They say from what information on a detection is an object, and by how much
the standard deviations that the votes tell must be corrected. One rule serves all images.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize, spatial

from pipeline import crops, detections, selfsupervised, steerable, trials
from pipeline.crops import Crop, Images
from pipeline.detections import Detections, Gathering
from pipeline.network import Architecture, UNet, receptive_field
from pipeline.selfsupervised import Lesson
from pipeline.tiles import Box

Floats = npt.NDArray[np.float64]
ATTEMPTS = 3
"""Trainings, each from another seed, after which a crop is given up."""
CONVERGED = 0.9
"""F1 on fresh scenes from which on a training has converged."""
TRIALS = 12
"""Scenes of a trial."""
FAINTEST_VOTES = 0.01
"""Information, 1 / voxel^2, below which nothing is looked at."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a detector on fresh scenes.

    Attributes
    ----------
    threshold: information, 1 / voxel^2, from which on a detection is an object.
    correction: factor and exponent that make standard deviations, in voxels, of information.
    f1: of what is detected with that threshold.
    """

    threshold: float
    correction: tuple[float, float]
    f1: float


@dataclass(frozen=True, slots=True)
class Detector:
    """A network to predict with, how its votes gather, and what they mean."""

    network: UNet
    how: Gathering
    trial: Trial
    losses: tuple[float, ...]
    attempts: int


@dataclass(frozen=True, slots=True)
class Points:
    """Objects that were found.

    Attributes
    ----------
    bins: a voxel for each that no other shares, `(n, 2)`.
    places: in voxels, `(n, 2)`.
    deviations: standard deviations of the places along one axis, in voxels.
    scores: from 0 to 1; an object has 0.5 or more.
    """

    bins: npt.NDArray[np.int64]
    places: Floats
    deviations: Floats
    scores: Floats


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
    how = detections.gathering(diameter, max(crop.extent for crop in known), unit)
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
            return Detector(exported, how, found, done.losses, attempt + 1)
        tried.append(found.f1)
    raise ValueError(_hopeless(known[0], tried, architecture))


def _hopeless(crop: Crop, tried: Sequence[float], architecture: Architecture) -> str:
    radius = min(receptive_field(architecture))
    reason = (
        f"its object stands out {crop.signal_to_noise:.0f} times the noise: choose a brighter one"
    )
    if crop.extent > radius:
        reason = (
            f"its object reaches {crop.extent:.0f} voxels from its middle, and the network sees "
            f"{radius}: the crop is too large for this voxel size"
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
    if not len(objects):
        return Trial(math.inf, (1.0, -0.5), 0.0)
    # Half-way, in the logarithm, between the faintest objects and the strongest of all else.
    weak = float(np.quantile(objects, 0.05))
    strong = float(np.quantile(others, 0.99)) if len(others) else FAINTEST_VOTES
    threshold = math.sqrt(weak * max(strong, FAINTEST_VOTES))
    hits = int((objects >= threshold).sum())
    false = int((others >= threshold).sum())
    total = len(objects) + missed
    correction = _correction(np.concatenate(known_by), np.concatenate(off))
    return Trial(threshold, correction, 2 * hits / max(1, hits + false + total))


def _correction(information: Floats, off: Floats) -> tuple[float, float]:
    """The power of information that is the standard deviation of errors `off`, `(n, 2)`.

    A line through the logarithms: that of a normal variable's size is -0.635 on average.
    """
    size = np.log(np.maximum(np.abs(off), 1e-6)).mean(axis=1) + 0.635
    exponent, height = np.polyfit(np.log(information), size, 1) if len(size) > 9 else (-0.5, 0.0)
    return math.exp(height), float(exponent)


def raw(network: UNet, image: Images, how: Gathering, least: float) -> Detections:
    """All that a network's votes tell of an image `(y, x)`."""
    box = Box((0, 0), image.shape)
    output = trials.output(network, image, tuple(min(512, -(-n // 8) * 8) for n in image.shape))
    return detections.detect(detections.votes(output, box, how), box, how, least)


def points(detector: Detector, image: Images) -> Points:
    """The objects in an image `(y, x)`."""
    return calibrated(
        raw(detector.network, image, detector.how, detector.trial.threshold), detector.trial
    )


def calibrated(said: Detections, trial: Trial) -> Points:
    """Detections with their standard deviations and scores."""
    factor, exponent = trial.correction
    return Points(
        bins=said.bins,
        places=said.places,
        deviations=factor * np.maximum(said.information, 1e-9) ** exponent,
        scores=said.information / (said.information + trial.threshold),
    )


def matched(
    found: Floats, wanted: Floats, within: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs, one to one, of points no further apart than `within`: most pairs, least distance."""
    if not len(found) or not len(wanted):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance = spatial.distance.cdist(found, wanted)
    own, theirs = optimize.linear_sum_assignment(np.minimum(distance, within * (1 + 1e-6)))
    near = distance[own, theirs] <= within
    return own[near], theirs[near]
