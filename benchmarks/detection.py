"""Detection from one unlabelled crop with one decision rule, beside methods that are tuned.

Each kind of object is learned from one crop of it, and the same settings serve all. What is found
with the detector's own rule stands beside the best that any threshold could give, chosen from the
annotations, of the same candidates and of other methods' candidates.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from benchmarks import detection_protocol, diffusion, placed, spotters
from benchmarks.measurement import Figure, Measurement, Target, environment
from benchmarks.peers import spotting
from benchmarks.peers.spotting import Lodestar, Trackpy
from benchmarks.placed import Kind, Placed
from benchmarks.spotters import Candidates
from pipeline import bases, detectors, points, topology
from pipeline.crops import Crop, Range
from pipeline.detectors import Detector
from pipeline.selfsupervised import Lesson

Floats = npt.NDArray[np.float64]
UNIT = 4.0
"""Voxels that a displacement of 1 in the network's output stands for."""
BASE = "spots_2d"
SIDES = (2.0, 1.6, 2.5)
"""Sides of crops, in diameters, that are tried in this order until a crop is accepted."""
SMALLEST_SIDE = 17
LIKE_BEST = 0.02
"""F1 below the best of its trainings within which a training has come out well."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one training found.

    Attributes
    ----------
    images: as the network saw them, with places in its voxels.
    found: all candidates of each image, by what the decision goes by; 1 is its threshold.
    tuned: the best F1 of LodeSTAR's score over its exponents, and over all thresholds.
    lodestar: that of deeplay's LodeSTAR over its exponents and quantiles, where it was asked.
    steps: that LodeSTAR took, and those of its whole recipe.
    """

    kind: Kind
    detector: Detector
    images: tuple[Placed, ...]
    found: tuple[Candidates, ...]
    tuned: float
    seconds: float
    refused: int
    lodestar: float | None
    steps: tuple[int, int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of annotated sets")
    add("--kinds", nargs="+", help="of objects, by name (default: all)")
    add("--crops", type=int, default=3, help="of each kind (default: 3)")
    add("--seeds", type=int, default=1, help="trainings with each crop (default: 1)")
    add("--steps", type=int, default=200, help="of a training (default: 200)")
    add("--tests", type=int, help="images of each kind to be measured on (default: all)")
    add("--processes", type=int, default=1, help="that train at once (default: 1)")
    spotting.add_arguments(parser)


def measure(options: argparse.Namespace) -> Measurement:
    """Train on each crop, and look for objects that were not shown."""
    if options.quick:
        kinds = options.kinds or ["beads"]
        less = {"kinds": kinds, "crops": 1, "steps": min(100, options.steps), "tests": 1}
        options = argparse.Namespace(**vars(options) | less)
    _alone()
    peer = Trackpy(options.peers)
    version = peer.version
    figures: list[Figure] = []
    losses, seconds, well, first, steps = [], [], [], [], []
    for kind, tried in _tried(options):
        outcomes = [outcome for outcome in tried if outcome]
        hopeless = len(tried) - len(outcomes)
        well += [False] * hopeless
        first += [0.0] * hopeless
        if hopeless:
            figures.append(Figure.of(f"{kind.name}: hopeless", [float(hopeless)], "trainings"))
        if not outcomes:
            continue
        if kind.tests:
            rules, bests = _scores(outcomes)
            tqdm.write(f"{kind.name}: F1 by the rule {rules}, best {bests}")
            figures += _kind_figures(kind, outcomes, peer if version else None)
            losses += [b - r for b, r in zip(bests, rules, strict=True)]
            # of a kind with one training, it is the best itself
            if len(outcomes) > 1:
                well += [score >= max(rules) - LIKE_BEST for score in rules]
        if kind.fits is not None:
            figures += _precision(kind.fits, outcomes)
        if kind.movie and version:
            figures += diffusion.figures(kind, outcomes, peer)
        seconds += [outcome.seconds for outcome in outcomes]
        steps += [outcome.steps for outcome in outcomes if outcome.lodestar is not None]
        first += [float(outcome.detector.attempts == 1) for outcome in outcomes]
    figures += _together(losses, seconds, well, first)
    told = detection_protocol.told(options, BASE, version, steps)
    return Measurement("detection", told, environment(), tuple(figures))


def _kinds(options: argparse.Namespace) -> Iterator[Kind]:
    for read in placed.kinds(options.data).values():
        yield from (kind for kind in read() if not options.kinds or kind.name in options.kinds)


def _together(
    losses: list[float], seconds: list[float], well: list[bool], first: list[float]
) -> list[Figure]:
    figures = [
        Figure.of("all kinds: F1 lost to the best threshold", losses, "", Target("<=", 0.02)),
        Figure.of("training: time of one core", seconds, "s", Target("<=", 120.0)),
        Figure.of("trainings that converge at the first attempt", [float(np.mean(first))], ""),
    ]
    if well:
        name = f"trainings within {LIKE_BEST:g} F1 of the best of their kind"
        figures.append(Figure.of(name, [float(np.mean(well))], "", Target(">=", 0.95)))
    return figures


def _tried(options: argparse.Namespace) -> Iterator[tuple[Kind, list[Outcome | None]]]:
    """Of each kind the outcome of each training, in the order of their numbers."""
    count = options.crops * options.seeds
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, context, initializer=_alone) as pool:
        for kind in _kinds(options):
            asked = pool.map(_outcome, [kind] * count, range(count), [options] * count)
            yield kind, list(tqdm(asked, desc=kind.name, total=count))


def _alone() -> None:
    """One core a process."""
    torch.set_num_threads(1)


def _outcome(kind: Kind, number: int, options: argparse.Namespace) -> Outcome | None:
    """Train on one crop of a kind, which depends on the number; candidates in all images.

    None where no crop so drawn can be learned from.
    """
    begun = time.process_time()
    detector, crop, refused = _trained(kind, number % options.crops, number, options.steps)
    if not detector:
        return None
    seconds = time.process_time() - begun
    images = tuple(
        Placed(
            image.name,
            placed.coarse(image.voxels, kind.factor),
            (image.places + 0.5) / kind.factor - 0.5,
            image.widths / kind.factor,
        )
        for image in kind.tests[: options.tests]
    )
    found, scored = [], []
    for image in images:
        candidates, agreeing = everything(detector, image.voxels)
        found.append(candidates)
        scored.append(agreeing)
    radius = kind.radius / kind.factor
    tuned = 0.0
    if images:
        each = [[one[n] for one in scored] for n in range(len(spotting.EXPONENTS))]
        tuned = max(spotters.best(one, images, radius)[0] for one in each)
    lodestar, steps = None, (0, 0)
    if images and options.lodestar_seconds:
        peer = Lodestar(options.lodestar, options.lodestar_seconds)
        model = peer.learned(crop, number)
        tried = model.found([image.voxels for image in images])
        lodestar = max(spotters.f1_of(each, images, radius) for each in tried)
        steps = model.steps, model.full_steps
    return Outcome(kind, detector, images, tuple(found), tuned, seconds, refused, lodestar, steps)


def _trained(
    kind: Kind, drawn: int, seed: int, steps: int
) -> tuple[Detector | None, npt.NDArray[np.float32], int]:
    """A detector from the crop so drawn, the crop, and how many were refused before it."""
    refused = 0
    grounds = [placed.coarse(shot.voxels, kind.factor) for shot in kind.shots]
    for size in SIDES:
        side = max(SMALLEST_SIDE, int(size * kind.diameter / kind.factor) | 1)
        generator = np.random.default_rng(drawn)
        for region in placed.crops_of(kind, side * kind.factor, generator):
            small = placed.coarse(region, kind.factor)
            try:
                crop = Crop.of(small, None, f"a crop of {kind.name}")
                architecture = topology.design("yx", (1.0, 1.0), "d4", 32, 2)
                learned = bases.learned(BASE)
                lesson = _lesson(crop, steps)
                found = detectors.train([crop], architecture, learned, UNIT, lesson, seed, grounds)
                # the steerable one can't travel between processes, and nothing here asks for it
                return replace(found, trained=found.network), small, refused
            except ValueError as fault:
                tqdm.write(f"{kind.name}: refused: {fault}")
                refused += 1
    return None, np.zeros((0, 0), np.float32), refused


def _lesson(crop: Crop, steps: int) -> Lesson:
    return Lesson(
        steps=steps,
        learning_rate=0.006,
        scenes=4,
        side=8 * -(-max(48, 2 * max(crop.object.shape)) // 8),
        copies=10,
        within=Range(contrast=1.0, scale=0.2, background=0.3),
        agreement=0.3,
        silence=0.3,
        unlabelled=0.3,
    )


def everything(
    detector: Detector, voxels: npt.NDArray[np.float32]
) -> tuple[Candidates, list[Candidates]]:
    """All candidates by what the decision goes by, and by LodeSTAR's score for each exponent."""
    trial = detector.trial
    said = detectors.raw(detector.network, voxels, detector.how, detectors.FAINTEST_VOTES)
    seen, start = detectors.mirrored(voxels, points.margin(trial, detector.how))
    bright = trial.template.brightness(seen, start, said.places)
    strong = trial.strengths(said.information, bright) / trial.least
    decided = np.where(said.information >= trial.faintest, strong, 0)
    kept = said.information >= trial.threshold / 30
    agreement = np.log(np.maximum(said.spread, 1e-3))
    agreeing = [
        Candidates(
            said.places[kept],
            (share * np.log(said.information) - 2 * (1 - share) * agreement)[kept],
        )
        for share in spotting.EXPONENTS
    ]
    return Candidates(said.places, decided), agreeing


def _scores(outcomes: list[Outcome]) -> tuple[list[float], list[float]]:
    """F1 of each training with its own rule, and with the best threshold."""
    rules, bests = [], []
    for outcome in outcomes:
        radius = outcome.kind.radius / outcome.kind.factor
        rules.append(spotters.f1(outcome.found, outcome.images, radius, 1.0))
        best = spotters.best(outcome.found, outcome.images, radius)[0]
        bests.append(max(best, rules[-1]))
    return rules, bests


def _kind_figures(kind: Kind, outcomes: list[Outcome], peer: Trackpy | None) -> list[Figure]:
    rules, bests = _scores(outcomes)
    images, radius = outcomes[0].images, kind.radius / kind.factor
    diameter, dark = kind.diameter / kind.factor, kind.dark
    rows = [
        Figure.of(f"{kind.name}: one crop, one rule, F1", rules, ""),
        Figure.of(f"{kind.name}: one crop, best threshold, F1", bests, ""),
        Figure.of(
            f"{kind.name}: one crop, LodeSTAR's score, best exponent and threshold, F1",
            [outcome.tuned for outcome in outcomes],
            "",
        ),
    ]
    theirs = [outcome.lodestar for outcome in outcomes if outcome.lodestar is not None]
    if theirs:
        name = f"{kind.name}: deeplay's LodeSTAR, best exponent and quantile, F1"
        rows.append(Figure.of(name, theirs, ""))
    other = {"Laplacian of Gaussian": [spotters.laplacian(i, diameter, dark) for i in images]}
    if peer:
        # as of a camera of 8 bits: trackpy's thresholds suppose such
        counts = [np.clip(np.rint(100 * i.voxels + 50), 0, 255).astype(np.uint8) for i in images]
        other["trackpy"] = peer.locate(counts, diameter, dark)
    for name, found in other.items():
        score = spotters.best(found, images, radius)[0]
        rows.append(Figure.of(f"{kind.name}: {name}, best threshold, F1", [score], ""))
    refused = sum(outcome.refused for outcome in outcomes)
    if refused:
        rows.append(Figure.of(f"{kind.name}: crops refused before", [float(refused)], "crops"))
    return rows


def _precision(fits: Floats, outcomes: list[Outcome]) -> list[Figure]:
    """Beside independent Gaussian fits, less the mean difference, which is a matter of origin."""
    off = []
    for outcome in outcomes:
        found = detectors.points(outcome.detector, outcome.images[0].voxels)
        own, theirs = points.matched(found.places, fits, 1.0)
        each = found.places[own] - fits[theirs]
        off.append(float(np.sqrt(np.square(each - each.mean(axis=0)).mean())))
    name = "beads: root mean square difference from Gaussian fits, along one axis"
    return [Figure.of(name, off, "voxels")]
