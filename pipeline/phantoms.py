"""Phantoms: random fields of objects with known outlines, in two and three dimensions.

Lengths are in voxels of the finest axis; `spacing` says how many of them a voxel is along each
axis, so that objects are round in space and not in voxels.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of object; every pair is a range that is drawn from evenly.

    Attributes
    ----------
    elongation: length over width.
    roughness: amplitude of the outline's waves, as a fraction of the radius.
    bend: of long objects: how far the middle lies from the line between the ends, in widths.
    blunt: whether long objects keep their width to the end (a rod) or taper (an ellipse).
    """

    elongation: tuple[float, float]
    roughness: tuple[float, float]
    bend: tuple[float, float]
    blunt: bool


SHAPES = {
    "round": Shape((1.0, 1.3), (0.0, 0.05), (0.0, 0.0), blunt=False),
    "elliptic": Shape((1.2, 2.2), (0.0, 0.08), (0.0, 0.2), blunt=False),
    "lobed": Shape((1.0, 1.8), (0.1, 0.3), (0.0, 0.4), blunt=False),
    "rod": Shape((1.8, 4.5), (0.0, 0.03), (0.0, 0.4), blunt=True),
    "filament": Shape((5.0, 10.0), (0.0, 0.03), (0.0, 2.5), blunt=True),
}
"""Kinds of objects by name."""

WAVES = (2.0, 3.0, 5.0)
"""Frequencies of the waves that make an outline rough."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """What may lie in a field; every pair is a range, drawn from once for a field.

    Attributes
    ----------
    shapes: keys of `SHAPES`; each object is one of them.
    diameter_voxels: of the disc or ball that has the size of a field's typical object.
    variation: standard deviation of the logarithm of the objects' diameters in one field.
    cover: fraction of the field that objects are to cover.
    clustering: probability that an object is put beside one that is there.
    alignment: 0 where long objects point anywhere, 1 where all point the same way.
    overlap: fraction of an object that may lie beneath others; what is beneath is not seen.
    """

    shapes: tuple[str, ...]
    diameter_voxels: tuple[float, float]
    variation: tuple[float, float]
    cover: tuple[float, float]
    clustering: tuple[float, float]
    alignment: tuple[float, float]
    overlap: float


@dataclass(frozen=True, slots=True)
class Phantom:
    """A field of objects.

    Attributes
    ----------
    labels: `(*axes)`, 0 where there is no object.
    depth: `(*axes)`, how far inside its object a voxel lies, about 0.5 at the outline's voxels
        and about the object's half-width in its middle; 0 outside.
    diameter: typical, in finest voxels.
    """

    labels: Labels
    depth: Floats
    diameter: float


def phantom(
    specimen: Specimen,
    sides: tuple[int, ...],
    spacing: tuple[float, ...],
    generator: np.random.Generator,
) -> Phantom:
    """Draw a field of objects until it is covered as it should be, or no place is left."""
    typical = math.exp(generator.uniform(*np.log(specimen.diameter_voxels)))
    variation = generator.uniform(*specimen.variation)
    cover, clustering = generator.uniform(*specimen.cover), generator.uniform(*specimen.clustering)
    alignment = generator.uniform(*specimen.alignment)
    axes, step = len(sides), np.array(spacing)
    nematic = _unit(generator, axes)
    size = math.pi / (4 if axes == 2 else 6) * typical**axes / float(np.prod(step))
    labels, depth = np.zeros(sides, np.int32), np.zeros(sides, np.float32)
    places: list[npt.NDArray[np.float64]] = []
    covered = 0
    for _ in range(1 + int(2 * cover * labels.size / size)):
        kind = SHAPES[specimen.shapes[generator.integers(len(specimen.shapes))]]
        diameter = typical * math.exp(min(max(generator.normal(0, variation), -1.0), 0.8))
        heading = alignment * nematic + (1 - alignment) * _unit(generator, axes)
        inside = _inside(kind, diameter, heading, step, generator)
        for _ in range(4):
            middle = generator.random(axes) * sides
            if places and generator.random() < clustering:
                beside = places[generator.integers(len(places))]
                away = typical * generator.uniform(0.6, 1.3)
                middle = beside + _unit(generator, axes) * away / step
            if not _put(inside, middle, labels, depth, len(places) + 1, specimen.overlap):
                continue
            places.append(middle)
            covered += int(np.count_nonzero(inside))
            break
        if covered > cover * labels.size:
            break
    return Phantom(labels, depth, typical)


def _unit(generator: np.random.Generator, axes: int) -> npt.NDArray[np.float64]:
    direction = generator.standard_normal(axes)
    return direction / math.sqrt(direction @ direction)


def _put(
    inside: Floats,
    middle: npt.NDArray[np.float64],
    labels: Labels,
    depth: Floats,
    number: int,
    overlap: float,
) -> bool:
    """Put an object beneath those that are there, unless too little of it would be seen."""
    window, place = [], []
    for centre, side, whole in zip(middle, inside.shape, labels.shape, strict=True):
        start = math.floor(centre) - side // 2
        low, high = max(start, 0), min(start + side, whole)
        if low >= high:
            return False
        window.append(slice(low - start, high - start))
        place.append(slice(low, high))
    piece, field = inside[tuple(window)], tuple(place)
    solid = piece > 0
    visible = solid & (labels[field] == 0)
    seen = np.count_nonzero(visible)
    if not seen or seen < (1 - overlap) * np.count_nonzero(solid):
        return False
    labels[field][visible] = number
    depth[field][visible] = piece[visible]
    return True


def _inside(
    kind: Shape,
    diameter: float,
    heading: npt.NDArray[np.float64],
    step: npt.NDArray[np.float64],
    generator: np.random.Generator,
) -> Floats:
    """How far inside an object each voxel of a window around it lies; 0 outside."""
    axes = len(step)
    elongation, bend = generator.uniform(*kind.elongation), generator.uniform(*kind.bend)
    # A capsule of width w has the size of 1 + (e - 1) 4 / pi discs, or 1 + (e - 1) 3 / 2 balls.
    longer = (elongation - 1) * (4 / math.pi if axes == 2 else 1.5)
    width = diameter / (1 + longer if kind.blunt else elongation) ** (1 / axes)
    radius, half_length = width / 2, width * elongation / 2
    offset = generator.uniform(-0.5, 0.5, axes)
    frame = generator.standard_normal((axes, axes))
    frame[:, 0] = heading
    frame = np.linalg.qr(frame)[0]
    roughness = generator.uniform(*kind.roughness)
    # The window that is looked at holds the longest, widest and most bent that an object may be.
    outer = radius * (1 + 2 * roughness * sum(1 / frequency for frequency in WAVES))
    end = half_length + outer - radius if kind.blunt else outer * elongation
    aside = bend * width * max(0.5, (end / max(half_length, 1)) ** 2 - 0.5)
    extent = np.abs(frame) @ np.array([end, outer + aside, outer][:axes])
    extent = np.minimum(extent + step / 2, 1.3 * half_length + bend * width / 2 + 1)
    place = _places(np.ceil(extent / step).astype(int), offset, step)
    turned = frame.T @ place.reshape(axes, -1)
    along, across = turned[0], turned[1:]
    # A parabola bends the long axis; half its height to either side.
    across[0] += bend * width * (0.5 - (along / max(half_length, 1)) ** 2)
    length = np.abs(along)
    beyond = np.maximum(length - (half_length - radius), 0) if kind.blunt else length / elongation
    away = np.sqrt(beyond**2 + (across**2).sum(axis=0))
    outline = radius * _waves(turned, roughness, generator)
    inside = np.where(away <= outline, outline - away + 0.5, 0)
    return inside.reshape(place.shape[1:]).astype(np.float32)


def _places(
    half: npt.NDArray[np.int64], offset: npt.NDArray[np.float64], step: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where the voxels of a window lie, `(axes, *window)`, seen from `offset` beside its middle."""
    places = np.empty((len(half), *2 * half + 1))
    for axis, side in enumerate(half):
        line = (np.arange(-side, side + 1) + offset[axis]) * step[axis]
        places[axis] = line.reshape((-1,) + (1,) * (len(half) - axis - 1))
    return places


def _waves(
    turned: npt.NDArray[np.float64], roughness: float, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """How far the outline lies in each direction, as a multiple of the radius."""
    direction = turned / (np.sqrt((turned * turned).sum(axis=0)) + 1e-6)
    result = np.ones(turned.shape[1])
    for frequency in WAVES:
        facing = frequency * _unit(generator, len(turned))
        phase = generator.uniform(0, 2 * math.pi)
        result += 2 * roughness / frequency * np.sin(facing @ direction + phase)
    return result
