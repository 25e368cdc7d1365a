"""Files of microscopes' makers: Nikon ND2, Leica LIF, Zeiss CZI. Their libraries are extras."""

import contextlib
import importlib
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.headers import COLOURS, Format, Header, Voxels, colour, number, readable, told

METRE_UM = 1e6
CZI_TYPES = {
    "Gray8": np.uint8, "Gray16": np.uint16, "Gray32Float": np.float32,
    "Bgr24": np.uint8, "Bgr48": np.uint16, "Bgr96Float": np.float32,
}  # fmt: skip
"""Zeiss' names of what a voxel is."""
LIF_COLOURS = {
    "red": "FF0000", "green": "00FF00", "blue": "0000FF", "cyan": "00FFFF", "magenta": "FF00FF",
    "yellow": "FFFF00", "gray": "FFFFFF", "grey": "FFFFFF",
}  # fmt: skip
"""Leica's names of tables of colours."""


def _nd2(path: Path) -> AbstractContextManager[Any]:
    nd2 = importlib.import_module("nd2")
    damage = (OSError, ValueError, LookupError, RuntimeError)
    return readable(path, "ND2 file", damage, lambda: nd2.ND2File(path))


def nd2_series(path: Path) -> list[str]:
    """Positions of the stage."""
    with _nd2(path) as file:
        return [f"position_{number}" for number in range(file.sizes.get("P", 1))]


def nd2_header(path: Path, name: str) -> Header:
    """What the file says of a position."""
    with _nd2(path) as file:
        sides = {axis.lower(): side for axis, side in file.sizes.items() if axis != "P"}
        channels = [channel.channel for channel in file.metadata.channels or ()]
        names = tuple(channel.name for channel in channels)
        colours = told([colour(channel.color.as_hex()) for channel in channels])
        if "s" in sides:
            if sides.get("c", 1) > 1:
                raise ValueError(f"{path} has colours in each of its {sides['c']} channels.")
            sides.pop("c", None)
            sides = {("c" if axis == "s" else axis): side for axis, side in sides.items()}
            names, colours = COLOURS[: sides["c"]], ()
        voxel = {axis: float(getattr(file.voxel_size(), axis)) for axis in "zyx"}
        loops = [loop.parameters for loop in file.experiment if loop.type == "TimeLoop"]
        step = loops[0].periodMs / 1e3 if loops else None
        axes = "".join(axis if axis in "tczyx" else "?" for axis in sides)
        dtype = np.dtype(file.dtype).newbyteorder("=")
        shape = tuple(sides.values())
        return Header(
            axes, shape, dtype, names, voxel, step or None, colours, _nd2_place(file, name)
        )


def _nd2_place(file: Any, name: str) -> dict[str, float]:
    """Where on the stage the first voxel of a position lies; empty where the file is silent."""
    loops = list(file.sizes)[: len(file.loop_indices[0])] if file.loop_indices else []
    at = [int(name.removeprefix("position_")) if axis == "P" else 0 for axis in loops]
    first = int(np.ravel_multi_index(at, [file.sizes[a] for a in loops])) if loops else 0
    channels = getattr(file.frame_metadata(first), "channels", None)
    if not channels:
        return {}
    stage = channels[0].position.stagePositionUm
    # The stage's place is that of the field's middle; the matrix leads from there to a pixel.
    corner = channels[0].volume.pixelToStageTransformationMatrix or (0.0,) * 6
    places = {"z": stage.z, "y": stage.y + corner[5], "x": stage.x + corner[2]}
    return {axis: place for axis, place in places.items() if number(place) is not None}


@contextlib.contextmanager
def nd2_voxels(path: Path, name: str) -> Iterator[Voxels]:
    """A position of the file, frame by frame."""
    with _nd2(path) as file:
        array = file.to_dask()
        axes = list(file.sizes)
        if "P" in axes:
            array = array.take(int(name.removeprefix("position_")), axis=axes.index("P"))
            axes.remove("P")
        if "S" in axes and "C" in axes:
            array = array.squeeze(axis=axes.index("C"))
        yield array


def _lif(path: Path) -> AbstractContextManager[Any]:
    liffile = importlib.import_module("liffile")
    damage = (OSError, ValueError, LookupError)
    return readable(path, "LIF file", damage, lambda: liffile.LifFile(path))


def lif_series(path: Path) -> list[str]:
    """Paths of the images in the file's tree."""
    with _lif(path) as file:
        return [image.path for image in file.images]


def _lif_image(file: Any, name: str) -> Any:
    return next(image for image in file.images if image.path == name)


def lif_header(path: Path, name: str) -> Header:
    """What the file says of an image: the distances of its coordinates, in metres and seconds."""
    with _lif(path) as file:
        image = _lif_image(file, name)
        axes = "".join(a.lower() if a.lower() in "tczyx" else "?" for a in image.sizes)
        spacing = {
            axis.lower(): abs(float(values[-1] - values[0])) / (len(values) - 1)
            for axis, values in image.coords.items()
            if axis in "TZYX" and len(values) > 1
        }
        voxel = {axis: spacing[axis] * METRE_UM for axis in "zyx" if axis in spacing}
        names = COLOURS[: image.sizes["S"]] if "S" in image.sizes else ()
        if names:
            axes = "".join("c" if a == "S" else b for a, b in zip(image.sizes, axes, strict=True))
        return Header(
            axes,
            tuple(image.shape),
            image.dtype,
            names,
            voxel,
            spacing.get("t"),
            () if names else _lif_colours(image),
            _lif_place(image),
        )


def _lif_colours(image: Any) -> tuple[str, ...]:
    channels = image.xml_element.findall(".//Channels/ChannelDescription")
    channels.sort(key=lambda channel: int(channel.get("BytesInc", 0)))
    return told([LIF_COLOURS.get(channel.get("LUTName", "").lower(), "") for channel in channels])


def _lif_place(image: Any) -> dict[str, float]:
    """Of the first voxel in the field of the scanner, to the picometre."""
    first = {axis.lower(): float(values[0]) for axis, values in image.coords.items()}
    return {a: round(first[a] * METRE_UM, 6) for a in "zyx" if a in first}


@contextlib.contextmanager
def lif_voxels(path: Path, name: str) -> Iterator[Voxels]:
    """An image of the file, which is read whole: the library offers no less."""
    with _lif(path) as file:
        yield _lif_image(file, name).asarray()


def _czi(path: Path) -> AbstractContextManager[Any]:
    czi = importlib.import_module("pylibCZIrw.czi")
    return readable(path, "CZI file", (OSError, RuntimeError), lambda: czi.open_czi(str(path)))


def czi_series(path: Path) -> list[str]:
    """Scenes; a file without any is one image."""
    with _czi(path) as file:
        scenes = sorted(file.scenes_bounding_rectangle)
        return [f"scene_{number}" for number in scenes] or ["image"]


def _czi_area(file: Any, name: str) -> Any:
    """The rectangle that a scene, or the mosaic of its tiles, covers."""
    if name == "image":
        return file.total_bounding_rectangle
    return file.scenes_bounding_rectangle[int(name.removeprefix("scene_"))]


def czi_header(path: Path, name: str) -> Header:
    """What the file says of a scene."""
    with _czi(path) as file:
        box, area = file.total_bounding_box, _czi_area(file, name)
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
        names, colours = _czi_channels(said)
        if kind.startswith("Bgr"):
            if sides.get("c", 1) > 1:
                raise ValueError(f"{path} has colours in each of its {sides['c']} channels.")
            sides, names, colours = {**sides, "c": 3}, COLOURS[:3], ()
        sides = {a: sides[a] for a in "tcz" if a in sides} | {"y": area.h, "x": area.w}
        voxel = _czi_sizes(said)
        return Header(
            "".join(sides),
            tuple(sides.values()),
            np.dtype(dtype),
            names,
            voxel,
            None,
            colours,
            _czi_place(said, name, voxel, area),
        )


def _within(said: Any, *keys: str) -> list[Any]:
    """The elements that a path of names leads to in a file's metadata; empty where it ends."""
    for key in keys:
        said = (said or {}).get(key)
    return said if isinstance(said, list) else [said] if said else []


def _czi_channels(said: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and colours of the channels; how they are displayed tells colours, too."""
    held = _within(said, "Information", "Image", "Dimensions", "Channels", "Channel")
    shown = _within(said, "DisplaySetting", "Channels", "Channel")
    names = tuple(str(channel.get("@Name", "")) for channel in held)
    displayed = {channel.get("@Id"): colour(channel.get("Color")) for channel in shown}
    colours = [colour(one.get("Color")) or displayed.get(one.get("@Id"), "") for one in held]
    return names if all(names) else (), told(colours)


def _czi_place(said: Any, name: str, voxel: dict[str, float], area: Any) -> dict[str, float]:
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


def _czi_sizes(said: Any) -> dict[str, float]:
    return {
        one["@Id"].lower(): size * METRE_UM
        for one in _within(said, "Scaling", "Items", "Distance")
        if one["@Id"] in "XYZ" and (size := number(one.get("Value")))
    }


class _Scene:
    """A scene of a CZI file, whose tiles the library lays side by side."""

    def __init__(self, file: Any, name: str, header: Header) -> None:
        self.file, self.header, self.shape = file, header, header.shape
        self.area = _czi_area(file, name)
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
def czi_voxels(path: Path, name: str) -> Iterator[Voxels]:
    """A scene of the file, of which only the tiles that are asked are decoded."""
    said = czi_header(path, name)
    with _czi(path) as file:
        yield _Scene(file, name, said)


ND2 = Format("Nikon ND2", (".nd2",), "nd2", "nd2", nd2_series, nd2_header, nd2_voxels)
LIF = Format("Leica LIF", (".lif",), "liffile", "lif", lif_series, lif_header, lif_voxels)
CZI = Format("Zeiss CZI", (".czi",), "pylibCZIrw", "czi", czi_series, czi_header, czi_voxels)
