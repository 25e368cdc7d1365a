"""How near a detector that learned from one unlabelled crop comes to the Cramer-Rao bound.

Objects are simulated, so that their places are known. Beside it, on the same images: maximum
likelihood that is told what the object looks like, radial symmetry, the centroid, trackpy, and
LodeSTAR on the same crop.
"""

import argparse
import math
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import appearances, crowds, localisation_protocol, rivals
from benchmarks.appearances import SHAPES, Field
from benchmarks.measurement import Figure, Measurement, Target, environment
from benchmarks.peers import spotting
from benchmarks.peers.spotting import Lodestar, LodestarModel, Trackpy
from benchmarks.rivals import Errors
from pipeline import bases, detectors, points, topology
from pipeline.crops import Crop, Range
from pipeline.detectors import Detector
from pipeline.forward import Forward
from pipeline.noise import Camera, Noise
from pipeline.points import Points
from pipeline.selfsupervised import Lesson

Floats = npt.NDArray[np.float64]
UNIT = 4.0
"""Voxels that a displacement of 1 in the network's output stands for."""
BASE = "spots_2d"
CROP_SIDE = {"spot": 17}
OTHER_CROP_SIDE = 27
REFINED = "one crop, refined"


@dataclass(frozen=True, slots=True)
class Scale:
    """What brings photons near 0 and 1 for the network, from the crop alone."""

    low: float
    high: float

    def normalised(self, photons: Floats) -> npt.NDArray[np.float32]:
        """The image as the network is given it."""
        return ((photons - self.low) / (self.high - self.low)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Trained:
    """A training's outcome, and what of its crop others need."""

    detector: Detector
    scale: Scale
    crop: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Peers:
    """Other people's methods, where they are installed; `lodestar` as it learned from a crop."""

    trackpy: Trackpy | None
    lodestar: LodestarModel | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    add("--photons", type=float, nargs="+", default=[100, 300, 1000, 3000, 10000])
    add("--backgrounds", type=float, nargs="+", default=[1, 10], help="photons per voxel")
    add("--crop-photons", type=float, default=1000, help="of a spot's crop; others have 10 times")
    add("--objects", type=int, default=2500, help="per condition, at least (default: 2500)")
    add("--steps", type=int, default=500, help="of a training (default: 500)")
    add("--seeds", type=int, default=1, help="trainings per shape and background (default: 1)")
    spotting.add_arguments(parser)


def measure(options: argparse.Namespace) -> Measurement:
    """Train on one crop for each shape, background and seed, and locate what it was not shown.

    Raises RuntimeError where a training does not converge.
    """
    if options.quick:
        less = {"shapes": ["spot"], "photons": [1000.0], "backgrounds": [10.0], "objects": 250}
        options = argparse.Namespace(**vars(options) | less | {"steps": min(150, options.steps)})
    torch.set_num_threads(1)
    trackpy = Trackpy(options.peers)
    versions = {"trackpy": trackpy.version, "LodeSTAR": None}
    lodestar = Lodestar(options.lodestar, options.lodestar_seconds)
    if options.lodestar_seconds:
        versions["LodeSTAR"] = lodestar.version
    figures: list[Figure] = []
    seconds, attempts, models = [], [], []
    for shape in options.shapes:
        for background in options.backgrounds:
            trained = []
            for seed in range(options.seeds):
                begun = time.process_time()
                trained.append(_trained(shape, background, options, seed))
                seconds.append(time.process_time() - begun)
                attempts.append(trained[-1].detector.attempts)
            peers = Peers(trackpy if versions["trackpy"] else None)
            if versions["LodeSTAR"]:
                models.append(lodestar.learned(trained[0].crop, 0))
                peers = replace(peers, lodestar=models[-1])
            for photons in options.photons:
                figures += _condition(shape, photons, background, trained, peers, options)
            if shape == "spot":
                find = [_finder(one) for one in trained]
                figures += crowds.figures(options.crop_photons, background, find)
    spent = Target("<=", 120.0)
    figures.append(Figure.of("training: time of one core", seconds, "s", spent))
    first = float(np.mean([count == 1 for count in attempts]))
    figures.append(Figure.of("trainings that converge at the first attempt", [first], ""))
    told = localisation_protocol.told(options, BASE, versions, models)
    return Measurement("localisation", told, environment(), tuple(figures))


def _trained(shape: str, background: float, options: argparse.Namespace, seed: int) -> Trained:
    generator = np.random.default_rng([seed, SHAPES.index(shape), int(background)])
    side = CROP_SIDE.get(shape, OTHER_CROP_SIDE)
    photons = options.crop_photons * (1 if shape == "spot" else 10)
    light = appearances.appearance(shape, generator.uniform(0, 2 * math.pi), (side, side))
    place = side // 2 + generator.uniform(-0.5, 0.5, 2)
    image = generator.poisson(photons * light(place) + background).astype(float)
    spot = shape == "spot"
    lesson = lesson_of(options.steps, scenes=8, side=48 if spot else 64, scale=0.0)
    return taught(image, background, lesson, seed, f"{shape}, background {background:g}")


def lesson_of(steps: int, scenes: int, side: int, scale: float) -> Lesson:
    """How a detector learns from a crop of simulated objects, of any brightness."""
    return Lesson(
        steps=steps,
        learning_rate=0.006,
        scenes=scenes,
        side=side,
        copies=6,
        within=Range(contrast=2.5, scale=scale, background=0.3),
        agreement=0.3,
        silence=0.3,
        unlabelled=0.1,
    )


def taught(image: Floats, background: float, lesson: Lesson, seed: int, name: str) -> Trained:
    """Train on a crop in photons. Raises RuntimeError where that does not converge."""
    scale = Scale(0.8 * background, float(np.quantile(image, 0.99)))
    noise = Noise(1.0, 0.0, 1e-3).normalised(scale.low, scale.high)
    seen = scale.normalised(image)
    crop = Crop.of(seen, noise, f"the crop of {name}")
    architecture = topology.design("yx", (1.0, 1.0), "d4", 32, 2)
    try:
        learned = bases.learned(BASE)
        found = detectors.train([crop], architecture, learned, UNIT, lesson, seed)
        return Trained(found, scale, seen)
    except ValueError as fault:
        raise RuntimeError(f"{name}, seed {seed}: {fault}") from fault


def _finder(one: Trained) -> crowds.Find:
    return lambda image: detectors.points(one.detector, one.scale.normalised(image)).places


def _condition(
    shape: str,
    photons: float,
    background: float,
    trained: list[Trained],
    peers: Peers,
    options: argparse.Namespace,
) -> list[Figure]:
    """The figures of one kind of object, each value one training's."""
    generator = np.random.default_rng([1, SHAPES.index(shape), int(photons), int(background)])
    name = f"{shape}, {photons:g} photons, background {background:g}"
    bound = appearances.bound(shape, photons, background, appearances.DRAWS, generator)
    fields = [
        appearances.field(shape, photons, background, appearances.ROWS, generator)
        for _ in range(math.ceil(options.objects / appearances.ROWS**2))
    ]
    turned = shape == "crescent"
    figures = [Figure.of(f"{name}: bound", [bound], "voxels")]
    found = [
        [detectors.points(one.detector, one.scale.normalised(field.image)) for field in fields]
        for one in trained
    ]
    ours = [_ours(each, fields, turned) for each in found]
    limit = Target("<=", 1.08 if shape == "spot" else 1.15)
    rows: list[tuple[str, list[Errors], Target | None]] = [
        ("one crop", [errors for errors, _ in ours], limit)
    ]
    covered = {"one crop": [coverage for _, coverage in ours]}
    if shape == "spot":
        again = [
            _ours(_refined(each, one.scale, fields), fields, turned)
            for each, one in zip(found, trained, strict=True)
        ]
        rows.append((REFINED, [errors for errors, _ in again], limit))
        covered[REFINED] = [coverage for _, coverage in again]
    rows += [
        (other, [rivals.estimated(other, shape, fields)], None) for other in rivals.able(shape)
    ]
    if peers.trackpy and not turned:
        rows.append(("trackpy", [rivals.trackpy(peers.trackpy, shape, fields)], None))
    if peers.lodestar:
        normalised = trained[0].scale.normalised
        theirs = rivals.lodestar(peers.lodestar, normalised, fields, turned)
        rows.append(("deeplay's LodeSTAR", [theirs], None))
    for method, results, goal in rows:
        figures += _judged(f"{name}: {method}", results, goal, bound)
    for method, coverage in covered.items():
        figures.append(Figure.of(f"{name}: {method}, within one stated deviation", coverage, ""))
    return figures


def _judged(name: str, results: list[Errors], goal: Target | None, bound: float) -> list[Figure]:
    if not all(len(errors.off) for errors in results):
        # who finds nothing has no errors to tell of
        return [Figure.of(f"{name}, not found", [errors.lost for errors in results], "")]
    # Who leaves out what is hard to find has small errors: that reaches no target.
    target = goal if max(errors.lost for errors in results) <= rivals.MOST_LOST else None
    ratios = [rms(errors.off) / bound for errors in results]
    biases = [float(np.abs(errors.off.mean(axis=0)).max()) / bound for errors in results]
    figures = [Figure.of(f"{name}, error over bound", ratios, "", target)]
    tolerated = Target("<=", 0.1) if target else None
    figures.append(Figure.of(f"{name}, bias over bound", biases, "", tolerated))
    missed = [errors.lost for errors in results]
    if any(missed):
        figures.append(Figure.of(f"{name}, not found", missed, ""))
    false = [errors.false / (errors.missed + len(errors.off)) for errors in results]
    if any(false):
        figures.append(Figure.of(f"{name}, false per object", false, ""))
    return figures


def _refined(found: list[Points], scale: Scale, fields: list[Field]) -> list[Points]:
    """As predict refines places, with the optics and the camera that made the images."""
    forward = Forward(appearances.SIGMA, Camera(1.0, 0.0, 0.0), scale.low, scale.high)
    refined = []
    for each, field in zip(found, fields, strict=True):
        image, start = detectors.mirrored(scale.normalised(field.image), forward.reach + 1)
        refined.append(points.refined(each, forward, image, start)[0])
    return refined


def rms(off: Floats) -> float:
    """Root mean square."""
    return math.sqrt(float((off**2).mean()))


def _ours(every: list[Points], fields: list[Field], turned: bool) -> tuple[Errors, float]:
    """Errors of what a detector found, and how often a place is within one stated deviation."""
    errors = rivals.matched([found.places for found in every], fields, turned)
    deviations = []
    for found, field in zip(every, fields, strict=True):
        own, _ = points.matched(found.places, field.places, rivals.FOUND)
        deviations.append(found.deviations[own])
    covered = np.abs(errors.off) <= np.concatenate(deviations)[:, None]
    return errors, float(covered.mean())
