"""Simulated objects whose place is known, and images of many of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import localisation
from pipeline.localisation import Appearance

Floats = npt.NDArray[np.float64]
PITCH = 27
"""Voxels between neighbouring objects; odd, so that objects lie at all phases of the network."""
FINE = 4
"""Points per voxel and axis at which an extended object's light is taken."""
ROWS = 16
"""Objects along each side of a field."""
DRAWS = 100
"""Places and angles over which a bound is the root mean square."""
SIGMA = 1.3
"""Standard deviation of the spots, in voxels."""
Profile = Callable[[Floats, Floats], Floats]


def _ring(u: Floats, v: Floats) -> Floats:
    return np.exp(-((np.hypot(u, v) - 4.5) ** 2) / (2 * 1.2**2))


def _soft(off: Floats) -> Floats:
    return 1 / (1 + np.exp(np.clip(off, -60, 60)))


PROFILES: dict[str, Profile] = {
    "sphere": lambda u, v: _soft((np.hypot(u, v) - 4.0) / 0.6),
    "ring": _ring,
    "ellipse": lambda u, v: np.exp(-(u**2) / (2 * 3.0**2) - v**2 / (2 * 1.5**2)),
    "crescent": lambda u, v: _ring(u, v) * _soft(-u / 1.0),
}
"""Light at `(u, v)` from an object's middle, in voxels, at some scale."""
SHAPES = ("spot", *PROFILES)


def appearance(shape: str, angle: float, sides: tuple[int, int]) -> Appearance:
    """An object's light on a window, integrated over voxels; its sum is 1."""
    if shape == "spot":
        return localisation.spot(sides, SIGMA)
    profile = PROFILES[shape]
    axes = [(np.arange(FINE * side) + 0.5) / FINE - 0.5 for side in sides]
    wide = np.meshgrid(np.arange(-15, 15, 0.25), np.arange(-15, 15, 0.25))
    total = float(profile(*wide).sum()) / FINE**2

    def light(place: Floats) -> Floats:
        y, x = axes[0][:, None] - place[0], axes[1][None] - place[1]
        u = math.cos(angle) * y + math.sin(angle) * x
        v = -math.sin(angle) * y + math.cos(angle) * x
        fine = profile(u, v).reshape(sides[0], FINE, sides[1], FINE)
        return np.asarray(fine.sum(axis=(1, 3)) / (FINE**2 * total))

    return light


@dataclass(frozen=True, slots=True)
class Field:
    """An image in photons; where its objects are, `(n, 2)`, and how they are turned."""

    image: Floats
    places: Floats
    angles: Floats


def field(
    shape: str, photons: float, background: float, rows: int, generator: np.random.Generator
) -> Field:
    """`rows` times `rows` objects, each at a random place within its voxel, at a random angle."""
    expected = np.full((rows * PITCH, rows * PITCH), float(background))
    places, angles = [], generator.uniform(0, 2 * math.pi, rows * rows)
    for number, angle in enumerate(angles):
        corner = np.array(divmod(number, rows)) * PITCH
        place = PITCH // 2 + generator.uniform(-0.5, 0.5, 2)
        window = tuple(slice(a, a + PITCH) for a in corner)
        light = appearance(shape, angle, (PITCH, PITCH))
        expected[window] += photons * light(place)
        places.append(corner + place)
    return Field(generator.poisson(expected).astype(float), np.array(places), angles)


def pairs(
    separation: float, photons: float, background: float, rows: int, generator: np.random.Generator
) -> Field:
    """`rows` times `rows` pairs of spots so far apart, the spots of a pair next to each other."""
    expected = np.full((rows * PITCH, rows * PITCH), float(background))
    light = appearance("spot", 0.0, (PITCH, PITCH))
    places, angles = [], generator.uniform(0, 2 * math.pi, rows * rows)
    for number, angle in enumerate(angles):
        corner = np.array(divmod(number, rows)) * PITCH
        middle = PITCH // 2 + generator.uniform(-0.5, 0.5, 2)
        half = separation / 2 * np.array([math.cos(angle), math.sin(angle)])
        window = tuple(slice(a, a + PITCH) for a in corner)
        for place in (middle - half, middle + half):
            expected[window] += photons * light(place)
            places.append(corner + place)
    return Field(generator.poisson(expected).astype(float), np.array(places), np.repeat(angles, 2))


def bound(
    shape: str, photons: float, background: float, draws: int, generator: np.random.Generator
) -> float:
    """The numeric Cramer-Rao bound along one axis, root mean square over places and angles."""
    squares = []
    for _ in range(draws):
        light = appearance(shape, generator.uniform(0, 2 * math.pi), (PITCH, PITCH))
        place = PITCH // 2 + generator.uniform(-0.5, 0.5, 2)
        squares.append(localisation.bound(light, place, photons, background)[:2] ** 2)
    return math.sqrt(float(np.mean(squares)))
