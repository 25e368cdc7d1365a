"""How far from focus points are, told from one plane, by a detector that learned from one crop.

Points lie at random distances from the focus of a wide-field microscope. One of them, in focus, is
the crop; the others are found, and maximum likelihood tells place and distance of each.
"""

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.localisation import BASE, Trained, lesson_of, rms, taught
from benchmarks.measurement import Figure, Measurement, Target, environment
from pipeline import defocus, detectors, forward, localisation, points
from pipeline.defocus import Defocus
from pipeline.forward import Forward
from pipeline.noise import Camera
from pipeline.optics import Optics
from pipeline.points import Points

Floats = npt.NDArray[np.float64]
MICROSCOPES = {
    "NA 1.4, oil": (Optics("widefield", 1.4, 0.52, 1.518), 0.1),
    "NA 0.8, air": (Optics("widefield", 0.8, 0.52, 1.0), 0.2),
}
"""And the pixel in um."""
BANDS = ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5))
"""Of distances from focus, in axial standard deviations of the point-spread function."""
PITCH, ROWS, WINDOW = 35, 12, 41
"""Voxels between points, points along a side of a field, voxels that a point's light falls on."""
CROP_SIDE = 17


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """An image in photons, where its points are, and how far from focus, in units."""

    image: Floats
    places: Floats
    distances: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What was told of the points that were found: errors, and what was said of these.

    Attributes
    ----------
    distances: true ones, in units, of all points; `found` which of them were, and were refined.
    off, deviations: of the distances of these, in units.
    planar, bounds: errors of their places, and the bound of each along one axis, in voxels.
    """

    distances: Floats
    found: npt.NDArray[np.bool_]
    off: Floats
    deviations: Floats
    planar: Floats
    bounds: Floats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add = parser.add_argument
    add("--photons", type=float, nargs="+", default=[1000, 5000], help="of a point")
    add("--background", type=float, default=10.0, help="photons per voxel (default: 10)")
    add("--objects", type=int, default=2500, help="per condition, at least (default: 2500)")
    add("--steps", type=int, default=300, help="of a training (default: 300)")


def measure(options: argparse.Namespace) -> Measurement:
    """Train on one crop for each microscope, and tell the distances of points not shown.

    Raises RuntimeError where a training does not converge.
    """
    if options.quick:
        less = {"photons": options.photons[:1], "objects": 144, "steps": min(150, options.steps)}
        options = argparse.Namespace(**vars(options) | less)
    torch.set_num_threads(1)
    figures: list[Figure] = []
    seconds = []
    for number, (name, (microscope, pixel_um)) in enumerate(MICROSCOPES.items()):
        seen = defocus.defocus(microscope, pixel_um, WINDOW // 2)
        if seen is None:
            raise RuntimeError(f"{name}: depth is told of wide-field optics alone.")
        begun = time.process_time()
        trained = _trained(name, seen, options, number)
        seconds.append(time.process_time() - begun)
        for photons in options.photons:
            generator = np.random.default_rng([1, number, int(photons)])
            fields = [
                _field(seen, photons, options.background, generator)
                for _ in range(math.ceil(options.objects / ROWS**2))
            ]
            said = _told(trained, fields, microscope, pixel_um)
            title = f"{name}, {photons:g} photons"
            figures += _figures(title, said, seen, photons, options.background)
    figures.append(Figure.of("training: time of one core", seconds, "s", Target("<=", 120.0)))
    return Measurement("depth", _protocol(options), environment(), tuple(figures))


def _trained(name: str, seen: Defocus, options: argparse.Namespace, seed: int) -> Trained:
    generator = np.random.default_rng([seed, 7])
    place = np.array([*(CROP_SIDE // 2 + generator.uniform(-0.5, 0.5, 2)), 0.0])
    light = seen.light((CROP_SIDE, CROP_SIDE))(place)
    image = generator.poisson(max(options.photons) * light + options.background).astype(float)
    lesson = lesson_of(options.steps, scenes=4, side=48, scale=0.2)
    return taught(image, options.background, lesson, seed, name)


def _field(
    seen: Defocus, photons: float, background: float, generator: np.random.Generator
) -> Field:
    side = PITCH * (ROWS + 1)
    expected = np.full((side, side), background)
    corners = PITCH * (np.argwhere(np.ones((ROWS, ROWS))) + 1) - WINDOW // 2
    within = WINDOW // 2 + generator.uniform(-0.5, 0.5, corners.shape)
    distances = generator.uniform(0, BANDS[-1][1], len(corners))
    light = seen.light((WINDOW, WINDOW))
    for (y, x), place, distance in zip(corners, within, distances, strict=True):
        spot = light(np.array([*place, distance**2]))
        expected[y : y + WINDOW, x : x + WINDOW] += photons * spot
    return Field(generator.poisson(expected).astype(float), corners + within, distances)


def _told(trained: Trained, fields: list[Field], microscope: Optics, pixel_um: float) -> Told:
    """As predict tells, with the optics and the camera that made the images."""
    sigma = microscope.sigma_um("x")[0] / pixel_um
    near = defocus.defocus(microscope, pixel_um, defocus.WIDER * forward.reach(sigma))
    scale = trained.scale
    known = Forward(sigma, Camera(1.0, 0.0, 0.0), scale.low, scale.high, near)
    found: list[npt.NDArray[np.bool_]] = []
    parts: list[tuple[Floats, ...]] = []
    for field in fields:
        normalised = scale.normalised(field.image)
        seen: Points = detectors.points(trained.detector, normalised)
        image, start = detectors.mirrored(normalised, known.reach + 4)
        refined, best = points.refined(seen, known, image, start)
        own, theirs = points.matched(refined.places, field.places, 3.0)
        own, theirs = (each[best.taken[own]] for each in (own, theirs))
        bounds = known.bounds(image, start, refined.places, best.depths_um)
        here = np.zeros(len(field.places), bool)
        here[theirs] = True
        order = own[np.argsort(theirs)]
        found.append(here)
        distance, deviation = best.depths_um[order].T / (near.unit_um if near else math.nan)
        planar = refined.places[order] - field.places[here]
        parts.append((distance - field.distances[here], deviation, planar, bounds[order]))
    together = [np.concatenate(each) for each in zip(*parts, strict=True)]
    every = np.concatenate([field.distances for field in fields])
    return Told(every, np.concatenate(found), *together)


def _figures(
    title: str, said: Told, seen: Defocus, photons: float, background: float
) -> Iterator[Figure]:
    """The figures of each band of distances."""
    light = seen.light((WINDOW, WINDOW))
    middle = np.full(2, WINDOW // 2)
    near = said.distances[said.found]
    for low, high in BANDS:
        name = f"{title}, {low * seen.unit_um:.2f} to {high * seen.unit_um:.2f} um from focus"
        all_here = (said.distances >= low) & (said.distances < high)
        here = (near >= low) & (near < high)
        yield Figure.of(f"{name}: found and refined", [float(said.found[all_here].mean())], "")
        if not here.any():
            continue
        off_um = 1000 * seen.unit_um * said.off[here]
        yield Figure.of(f"{name}: error of depth", [rms(off_um)], "nm")
        if low:
            # at focus the bound of a distance is infinite
            least = [
                localisation.bound(light, np.array([*middle, d**2]), photons, background)[2]
                / (2 * d)
                for d in near[here][:100]
            ]
            ratio = rms(said.off[here]) / rms(np.array(least))
            yield Figure.of(f"{name}: error of depth over bound", [ratio], "", Target("<=", 1.15))
        covered = float((np.abs(said.off[here]) <= said.deviations[here]).mean())
        yield Figure.of(f"{name}: depth within one stated deviation", [covered], "")
        planar = rms(said.planar[here]) / rms(said.bounds[here])
        yield Figure.of(f"{name}: error of place over bound", [planar], "", Target("<=", 1.08))


def _protocol(options: argparse.Namespace) -> tuple[str, ...]:
    count = math.ceil(options.objects / ROWS**2) * ROWS**2
    return (
        (
            f"{count} points per condition, {PITCH} voxels apart, each at a random place within "
            "its voxel and at a random distance from focus, by scalar diffraction of a wide-field "
            "microscope without aberrations at 0.52 um, with pixels of "
            + " and ".join(f"{pixel:g} um ({name})" for name, (_, pixel) in MICROSCOPES.items())
            + f"; {options.background:g} photons of background per voxel, Poisson noise alone."
        ),
        (
            f"One crop per microscope, of a point in focus of {max(options.photons):g} photons; "
            f"training of {options.steps} steps from the base {BASE}, one seed. The microscope's "
            "model that predicts is the one that made the images: what aberrations and wrong "
            "optics do is not told. Distances have no sign."
        ),
        (
            "Errors are of points that were found and that a single spot explains, the root mean "
            "square. The bound of a depth is the numeric Cramer-Rao bound with place, brightness "
            "and background unknown; that of a place as in the benchmark localisation, of the "
            "depth, photons and background estimated. A ratio is uncertain by about 3 %."
        ),
    )
