"""Label images and the regions of an acquisition that they speak of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import readers
from pipeline.config import Annotation
from pipeline.readers import Source
from pipeline.tiles import Box, placed


@dataclass(frozen=True, slots=True)
class Annotated:
    """Labels of some frames of an acquisition, in one spatial box, at full resolution."""

    source: Source
    frames: tuple[int, ...]
    space: Box

    def labels(self, frame: int) -> npt.NDArray[np.integer[Any]]:
        """The labels of one frame in the box, along the spatial axes."""
        cut = placed(self.source.axes, self.space, frame, 0)
        return self.source.read(cut).reshape(self.space.shape)


def annotated(
    where: str,
    annotation: Annotation,
    region: Mapping[str, tuple[int, int]],
    axes: str,
    shape: tuple[int, ...],
) -> Annotated:
    """Open labels of an acquisition with these axes and sides. An empty `region` means all of it.

    Raises ValueError where the labels have another shape than the acquisition, or the region
    leaves it.
    """
    source = open_labels(f"{where}.labels", annotation)
    sides = {a: n for a, n in zip(axes, shape, strict=True) if a != "c"}
    held = {a: n for a, n in zip(source.axes, source.shape, strict=True) if a != "c"}
    if held != sides:
        raise ValueError(
            f"{where}.labels: the label image is {_sides(held)}, the acquisition {_sides(sides)}. "
            "Give labels of the whole acquisition, and `axes` where their file does not say them."
        )
    spans = {axis: (0, side) for axis, side in sides.items()}
    for axis, (start, stop) in region.items():
        if axis not in sides:
            raise ValueError(
                f"{where}.region names the axis {axis}, which the acquisition does not have: "
                f"it is {_sides(sides)}. Delete it."
            )
        if not 0 <= start < stop <= sides[axis]:
            raise ValueError(
                f"{where}.region.{axis} is [{start}, {stop}], outside the image, whose {axis} "
                f"goes from 0 to {sides[axis]}. Choose a region inside it."
            )
        spans[axis] = (start, stop)
    space = [spans[axis] for axis in axes if axis in "zyx"]
    return Annotated(
        source=source,
        frames=tuple(range(*spans.get("t", (0, 1)))),
        space=Box(tuple(a for a, _ in space), tuple(b for _, b in space)),
    )


def open_labels(where: str, annotation: Annotation) -> Source:
    """Open a label image; its one channel is the one that the annotation names.

    Raises ValueError where the channel is not clear or voxels are no whole numbers.
    """
    path, said = readers.opened(f"{where}.path", annotation.path)
    file_axes = readers.axes_of(where, annotation.axes, said)
    sides = dict(zip(file_axes, said.shape, strict=True))
    if said.dtype.kind not in "ui":
        raise ValueError(f"{where}: {path} holds {said.dtype}, not whole numbers: no labels.")
    takes: tuple[int, ...] = (0,)
    if annotation.channel != "only":
        named = (annotation.channel,)
        _, takes = readers.channels_of(where, named, said.channels, sides.get("c", 1))
    elif sides.get("c", 1) > 1:
        raise ValueError(
            f"{where}: {path} has {sides['c']} channels ({', '.join(said.channels)}). Say which "
            "one holds the labels: add the line `channel: NAME`."
        )
    sides["c"] = 1
    axes = readers.kept_axes(sides)
    return Source(
        path=path,
        axes=axes,
        shape=tuple(sides[axis] for axis in axes),
        dtype=said.dtype,
        channels=("labels",),
        takes=takes,
        voxel_size_um={},
        time_step_s=None,
        file_axes=file_axes,
    )


def _sides(sides: Mapping[str, int]) -> str:
    return " x ".join(f"{axis} {side}" for axis, side in sides.items())
