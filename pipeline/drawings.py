"""Drawings over an image as labels: areas, points and boxes, and what is certain about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import marks
from pipeline.config import locate
from pipeline.marks import Kind, Mark
from pipeline.outlines import Ellipsoid, Shape, common, painted
from pipeline.sections import Annotation
from pipeline.tiles import Box

WORDS = {"t": "frame", "z": "plane"}
CERTAIN_POINT, BEYOND_POINT, CERTAIN_BOX = 0.5, 2.0, 0.85
"""Certainly the object, certainly none, and certainly the object: distances in radii."""


@dataclass(frozen=True, slots=True)
class Place:
    """The part of an acquisition that an annotation speaks of, by axis, without `c`.

    Attributes
    ----------
    sides: of the whole acquisition, in voxels or frames.
    spans: `[start, stop)` of the part.
    voxel_size_um: along the spatial axes.
    """

    sides: Mapping[str, int]
    spans: Mapping[str, tuple[int, int]]
    voxel_size_um: Mapping[str, float]

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames of the part; 0 in an image without time."""
        return tuple(range(*self.spans.get("t", (0, 1))))

    @property
    def axes(self) -> str:
        """The spatial axes, "yx" or "zyx"."""
        return "".join(axis for axis in self.sides if axis in "zyx")

    @property
    def space(self) -> Box:
        """The part of every frame."""
        spans = [self.spans[axis] for axis in self.axes]
        return Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))

    @property
    def voxel_um(self) -> tuple[float, ...]:
        """Voxel size along the spatial axes."""
        return tuple(self.voxel_size_um[axis] for axis in self.axes)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Drawn objects. An object's label is its place among those of the file, from 1 on.

    Attributes
    ----------
    shapes: of every object its frame and its shape.
    """

    path: Path
    kind: Kind
    shapes: tuple[tuple[int, Shape], ...]

    def of(self, frame: int) -> dict[int, Shape]:
        """The shapes of a frame by label."""
        return {
            number: shape for number, (at, shape) in enumerate(self.shapes, start=1) if at == frame
        }

    def labels(self, space: Box, frame: int) -> npt.NDArray[np.integer[Any]]:
        """The labels of a spatial box of a frame: areas, discs or inscribed ellipses."""
        return painted(self.of(frame), space)[0]

    def known(self, space: Box, frame: int, complete: bool) -> npt.NDArray[np.bool_]:
        """What is certain in a spatial box of a frame.

        Outlines, if complete: all, in frames and planes that hold one. Points: an object within a
        quarter diameter, and if `complete`, background beyond a whole one, in frames that hold
        one. Boxes: an object well inside its box, and if `complete`, background outside of all
        boxes, in frames and planes that hold one.
        """
        shapes = self.of(frame)
        if self.kind == "points":
            _, distance = painted(shapes, space, BEYOND_POINT)
            is_beyond = (distance > BEYOND_POINT) & bool(shapes)
            return (distance <= CERTAIN_POINT) | (is_beyond & complete)
        spoken, boxes = np.zeros(space.shape, bool), np.zeros(space.shape, bool)
        for shape in shapes.values():
            here = common(shape.bounds(1), space).within(space)
            spoken[here[:-2]] = boxes[here] = True
        if self.kind == "outlines":
            return spoken
        _, distance = painted(shapes, space)
        return (distance <= CERTAIN_BOX) | (spoken & ~boxes & complete)


def opened(where: str, annotation: Annotation, place: Place) -> Drawing:
    """Read a drawing over an acquisition.

    Raises ValueError where the file is damaged or empty, an object lies outside of the image, or
    nothing says in which frame or plane it lies or how large it is.
    """
    try:
        path = locate(annotation.path)
        kind, found = marks.read(path, "".join(place.sides))
    except ValueError as fault:
        raise ValueError(f"{where}.path: {fault}") from fault
    if not found:
        raise ValueError(f"{where}.path: {path} holds no {kind}. Draw at least one object.")
    radii = _radii(where, annotation, path, place) if kind == "points" else {"z": 0.5}
    shapes = tuple(
        _placed(f"{where}.path: object {number} of {path}", mark, radii, place)
        for number, mark in enumerate(found, start=1)
    )
    return Drawing(path, kind, shapes)


def _radii(where: str, annotation: Annotation, path: Path, place: Place) -> dict[str, float]:
    """Radii, in voxels, of the disc or ball that a point stands for."""
    if isinstance(annotation.diameter_um, str):
        raise ValueError(
            f"{where}.diameter_um is {annotation.diameter_um!r}, but {path} holds points, which "
            "have no size. Give the objects' diameter in um, such as `diameter_um: 10`."
        )
    radius_um = annotation.diameter_um / 2
    return {axis: radius_um / size for axis, size in zip(place.axes, place.voxel_um, strict=True)}


def _placed(said: str, mark: Mark, radii: Mapping[str, float], place: Place) -> tuple[int, Shape]:
    """Frame and shape of an object; a point gets these radii, a planar shape lies in its plane."""
    frame, depth = (_position(said, mark, axis, place) for axis in "tz")
    shape = mark.shape or Ellipsoid(
        (mark.at["y"] + 0.5, mark.at["x"] + 0.5), (radii["y"], radii["x"])
    )
    if "z" in place.sides:
        shape = shape.on(depth, radii["z"])
    whole = Box((0,) * len(place.axes), tuple(place.sides[axis] for axis in place.axes))
    if 0 in common(shape.bounds(1).grown((1,) * len(place.axes)), whole).shape:
        raise ValueError(
            f"{said} lies outside of the image. Give coordinates in pixels, counted from its "
            "upper left corner."
        )
    return round(frame), shape


def _position(said: str, mark: Mark, axis: str, place: Place) -> float:
    """Frame or plane of an object, from its file or from a region that has but one."""
    word, found = WORDS[axis], mark.at.get(axis)
    if axis not in place.sides:
        if found is not None and round(found) != 0:
            raise ValueError(
                f"{said} lies in {word} {found:g}, but the acquisition has no {word}s. Draw it on "
                "the acquisition itself."
            )
        return 0
    start, stop = place.spans[axis]
    if found is None and stop - start > 1:
        raise ValueError(
            f"{said} does not say in which {word} it lies, and there are {stop - start}. Save it "
            f"with its {word}, or choose one in the shot, such as `region: {{{axis}: [0, 1]}}`."
        )
    found = start if found is None else found
    if not 0 <= round(found) < place.sides[axis]:
        raise ValueError(
            f"{said} lies in {word} {found:g}, counted from 0, but the acquisition has "
            f"{place.sides[axis]}. Draw it on the acquisition itself."
        )
    return found
