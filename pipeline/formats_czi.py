"""Zeiss CZI, read by pylibCZIrw: scenes, and mosaics of tiles that it lays side by side."""

import contextlib
import importlib
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.headers import (
    COLOURS,
    METRE_UM,
    Format,
    Header,
    Voxels,
    colour,
    coloured,
    moment,
    number,
    readable,
    told,
)

CZI_TYPES = {
    "Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32,
    "Bgr24": np.uint8, "Bgr48": np.uint16, "Bgr96Float": np.float32,
}  # fmt: skip
"""Zeiss' names of what a voxel is."""


def _czi(path: Path) -> AbstractContextManager[Any]:
    czi = importlib.import_module("pylibCZIrw.czi")
    return readable(path, "CZI file", (OSError, RuntimeError), lambda: czi.open_czi(str(path)))


def series(path: Path) -> list[str]:
    """Scenes; a file without any is one image."""
    with _czi(path) as file:
        scenes = sorted(file.scenes_bounding_rectangle)
        return [f"scene_{number}" for number in scenes] or ["image"]


def _area(file: Any, name: str) -> Any:
    """The rectangle that a scene, or the mosaic of its tiles, covers."""
    if name == "image":
        return file.total_bounding_rectangle
    return file.scenes_bounding_rectangle[int(name.removeprefix("scene_"))]


def header(path: Path, name: str) -> Header:
    """What the file says of a scene."""
    with _czi(path) as file:
        box, area = file.total_bounding_box, _area(file, name)
        other = [a for a in box if a not in "TCZYXB" and box[a][1] - box[a][0] > 1]
        if other:
            raise ValueError(f"{path} varies along {', '.join(other)}: only t, c, z can be read.")
        kinds = set(file.pixel_types.values())
        if len(kinds) > 1:
            raise ValueError(f"{path} has channels of several types: {', '.join(sorted(kinds))}.")
        kind = kinds.pop()
        dtype = CZI_TYPES.get(kind)
        if dtype is None:
            raise ValueError(f"{path} has voxels of type {kind}, which are no intensities.")
        sides = {axis: box[axis.upper()] for axis in "tcz" if axis.upper() in box}
        sides = {axis: stop - start for axis, (start, stop) in sides.items()}
        said = file.metadata["ImageDocument"]["Metadata"]
        names, colours = _channels(said)
        if kind.startswith("Bgr"):
            if sides.get("c", 1) > 1:
                raise ValueError(coloured(path, sides["c"]))
            sides, names, colours = {**sides, "c": 3}, COLOURS[:3], ()
        sides = {a: sides[a] for a in "tcz" if a in sides} | {"y": area.h, "x": area.w}
        voxel = _sizes(said)
        return Header(
            "".join(sides),
            tuple(sides.values()),
            np.dtype(dtype),
            names,
            voxel,
            None,
            colours,
            _place(said, name, voxel, area),
            "".join(map(moment, _within(said, "Information", "Image", "AcquisitionDateAndTime"))),
        )


def _within(said: Any, *keys: str) -> list[Any]:
    """The elements that a path of names leads to in a file's metadata; empty where it ends."""
    for key in keys:
        said = (said or {}).get(key)
    return said if isinstance(said, list) else [said] if said else []


def _channels(said: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and colours of the channels; how they are displayed tells colours, too."""
    held = _within(said, "Information", "Image", "Dimensions", "Channels", "Channel")
    shown = _within(said, "DisplaySetting", "Channels", "Channel")
    names = tuple(str(channel.get("@Name", "")) for channel in held)
    displayed = {channel.get("@Id"): colour(channel.get("Color")) for channel in shown}
    colours = [colour(one.get("Color")) or displayed.get(one.get("@Id"), "") for one in held]
    return names if all(names) else (), told(colours)


def _place(said: Any, name: str, voxel: dict[str, float], area: Any) -> dict[str, float]:
    """Of the first voxel of a scene, whose middle the file tells, in um."""
    scenes = _within(said, "Information", "Image", "Dimensions", "S", "Scenes", "Scene")
    told_of = {f"scene_{scene.get('@Index')}": scene for scene in scenes}
    middle = str(told_of.get(name, {}).get("CenterPosition", "")).split(",")
    places = dict(zip("xy", map(number, middle), strict=False))
    half = {"y": (area.h - 1) / 2, "x": (area.w - 1) / 2}
    return {
        axis: place - half[axis] * voxel[axis]
        for axis in "yx"
        if (place := places.get(axis)) is not None and axis in voxel
    }


def _sizes(said: Any) -> dict[str, float]:
    return {
        one["@Id"].lower(): size * METRE_UM
        for one in _within(said, "Scaling", "Items", "Distance")
        if one["@Id"] in "XYZ" and (size := number(one.get("Value")))
    }


class _Scene:
    """A scene of a CZI file, whose tiles the library lays side by side."""

    def __init__(self, file: Any, name: str, header: Header) -> None:
        self.file, self.header, self.shape = file, header, header.shape
        self.area = _area(file, name)
        self.scene = None if name == "image" else int(name.removeprefix("scene_"))
        self.starts = {axis: start for axis, (start, _) in file.total_bounding_box.items()}
        self.coloured = next(iter(file.pixel_types.values())).startswith("Bgr")

    def __getitem__(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        spans = {
            axis: range(side)[cut]
            for axis, side, cut in zip(self.header.axes, self.shape, slices, strict=True)
        }
        y, x = spans.pop("y"), spans.pop("x")
        roi = (self.area.x + x.start, self.area.y + y.start, len(x), len(y))
        colours = spans.pop("c") if self.coloured else range(1)
        planes = []
        for index in itertools.product(*spans.values()):
            plane = {a.upper(): i for a, i in zip(spans, index, strict=True)}
            plane = {axis: i + self.starts.get(axis, 0) for axis, i in plane.items()}
            values = self.file.read(roi=roi, plane=plane, scene=self.scene)
            # Zeiss stores blue first.
            values = values[..., ::-1] if self.coloured else values
            planes.append(values[..., list(colours)].transpose(2, 0, 1))
        stacked = np.stack(planes).reshape(
            *(len(span) for span in spans.values()), len(colours), len(y), len(x)
        )
        if not self.coloured:
            return stacked[..., 0, :, :]
        return np.moveaxis(stacked, -3, self.header.axes.index("c"))


@contextlib.contextmanager
def voxels(path: Path, name: str) -> Iterator[Voxels]:
    """A scene of the file, of which only the tiles that are asked are decoded."""
    said = header(path, name)
    with _czi(path) as file:
        yield _Scene(file, name, said)


CZI = Format("Zeiss CZI", (".czi",), "pylibCZIrw", "czi", series, header, voxels)
