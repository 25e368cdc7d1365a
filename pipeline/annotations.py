"""What is annotated of an acquisition: labels, and where they say what is there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline import drawings, label_images, marks, outlines
from pipeline.drawings import Drawing, Place
from pipeline.label_images import LabelImage
from pipeline.outlines import Ellipsoid
from pipeline.sections import Annotation
from pipeline.tiles import Box


@dataclass(frozen=True, slots=True)
class Annotated:
    """Labels of some frames of an acquisition, in one spatial box, at full resolution.

    Attributes
    ----------
    where: the setting that names the labels.
    complete: whether what is not annotated is background; else nobody knows.
    """

    where: str
    source: LabelImage | Drawing
    place: Place
    complete: bool

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that are annotated."""
        return self.place.frames

    @property
    def space(self) -> Box:
        """The annotated box of every frame."""
        return self.place.space

    def labels(self, frame: int) -> npt.NDArray[np.integer[Any]]:
        """The labels of one frame in the box, along the spatial axes; 0 is no object.

        Points have discs or balls, boxes the ellipses inscribed in them.
        """
        return self.source.labels(self.space, frame)

    def known(self, frame: int) -> npt.NDArray[np.bool_]:
        """Where in the box, in one frame, the annotation says what is there.

        Everywhere, if outlines or a label image are complete. If they are sparse, on the objects
        and in a rim of certain background around them, a quarter of a diameter wide. Of points and
        boxes, where `Drawing.known` says.
        """
        if isinstance(self.source, Drawing) and (self.complete or self.source.kind != "outlines"):
            return self.source.known(self.space, frame, self.complete)
        if self.complete:
            return np.ones(self.space.shape, bool)
        labels = self.labels(frame)
        if isinstance(self.source, Drawing) and labels.ndim == 3:
            # An outline says nothing about the planes above and beneath it.
            rims = np.stack([outlines.rim(plane, self.place.voxel_um[1:]) for plane in labels])
        else:
            rims = outlines.rim(labels, self.place.voxel_um)
        return (labels != 0) | rims

    def places(self, frame: int) -> npt.NDArray[np.float64]:
        """Where the objects of one frame are, `(n, axes)`, in voxels from the first one's middle.

        Points and boxes where their file has them, others at their centre of mass.
        """
        if isinstance(self.source, Drawing) and self.source.kind != "outlines":
            shapes = self.source.of(frame).values()
            found = [s.centre for s in shapes if isinstance(s, Ellipsoid)]
            return np.array(found).reshape(-1, len(self.place.axes)) - 0.5
        labels = self.labels(frame)
        ids = np.unique(labels[labels != 0])
        middles = np.array(ndimage.center_of_mass(labels != 0, labels, ids))
        return middles.reshape(-1, labels.ndim) + np.array(self.space.start)

    def as_places(self) -> Self:
        """The same, fit to score points against.

        Raises ValueError where it does not tell the place of every object.
        """
        if not self.complete:
            raise ValueError(
                f"{self.where}.complete is false, but scores need all objects. Annotate them all, "
                "or delete the reference."
            )
        return self

    def as_reference(self) -> Self:
        """The same, fit to score predictions against.

        Raises ValueError where it does not tell the outline of every object in every frame.
        """
        self.as_places()
        if isinstance(self.source, Drawing):
            silent = [frame for frame in self.frames if not self.source.of(frame)]
            if self.source.kind != "outlines" or "z" in self.place.sides or silent:
                held = "planar outlines" if self.source.kind == "outlines" else self.source.kind
                lacks = f", none in frame {silent[0]}" if silent else ""
                raise ValueError(
                    f"{self.where}.path: {self.source.path} holds {held}{lacks}, but scores need "
                    "the outlines of all objects. Give a label image, or delete the reference."
                )
        return self


def annotated(
    where: str,
    annotation: Annotation,
    region: Mapping[str, tuple[int, int]],
    axes: str,
    shape: tuple[int, ...],
    voxel_size_um: Mapping[str, float],
) -> Annotated:
    """Open labels of an acquisition with these axes and sides. An empty `region` means all of it.

    Raises ValueError where the labels do not fit the acquisition, or the region leaves it.
    """
    sides = {a: n for a, n in zip(axes, shape, strict=True) if a != "c"}
    place = Place(sides, spans(where, region, sides), voxel_size_um)
    where = f"{where}.labels"
    if annotation.path.lower().endswith(marks.SUFFIXES):
        drawing = drawings.opened(where, annotation, place)
        return Annotated(where, drawing, place, annotation.complete)
    image = label_images.opened(where, annotation)
    _check_sides(where, image.sides, place)
    return Annotated(where, image, place, annotation.complete)


def _check_sides(where: str, held: Mapping[str, int], place: Place) -> None:
    """An image of one frame, or of one plane, will do where the region has but one."""
    single = [axis for axis, (start, stop) in place.spans.items() if stop - start == 1]
    lacking = [axis for axis in "tz" if axis not in held and axis in single]
    if held != {axis: side for axis, side in place.sides.items() if axis not in lacking}:
        raise ValueError(
            f"{where}: the label image is {_said(held)}, the acquisition {_said(place.sides)}. "
            "Give labels of the whole acquisition, and `axes` where their file does not say them."
        )


def spans(
    where: str, region: Mapping[str, tuple[int, int]], sides: Mapping[str, int]
) -> dict[str, tuple[int, int]]:
    """First voxel or frame of the region, and the first behind it, along each axis.

    `where` names its shot in errors. Raises ValueError where it leaves the acquisition.
    """
    found = {axis: (0, side) for axis, side in sides.items()}
    for axis, (start, stop) in region.items():
        if axis not in sides:
            raise ValueError(
                f"{where}.region names the axis {axis}, which the acquisition does not have: "
                f"it is {_said(sides)}. Delete it."
            )
        if not 0 <= start < stop <= sides[axis]:
            raise ValueError(
                f"{where}.region.{axis} is [{start}, {stop}], outside the image, whose {axis} "
                f"goes from 0 to {sides[axis]}. Choose a region inside it."
            )
        found[axis] = (start, stop)
    return found


def _said(sides: Mapping[str, int]) -> str:
    return " x ".join(f"{axis} {side}" for axis, side in sides.items())
