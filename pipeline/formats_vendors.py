"""Files of microscopes' makers: Nikon ND2, Leica LIF. Their libraries are extras."""

import contextlib
import importlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.headers import (
    COLOURS,
    METRE_UM,
    Format,
    Header,
    Voxels,
    colour,
    coloured,
    number,
    readable,
    told,
)

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
                raise ValueError(coloured(path, sides["c"]))
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


ND2 = Format("Nikon ND2", (".nd2",), "nd2", "nd2", nd2_series, nd2_header, nd2_voxels)
LIF = Format("Leica LIF", (".lif",), "liffile", "lif", lif_series, lif_header, lif_voxels)
