"""TIFF, BigTIFF, OME-TIFF and ImageJ's hyperstacks, read by tifffile."""

import contextlib
import html
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from pipeline import raw_planes
from pipeline.headers import (
    COLOURS,
    MICROMETRES,
    SECONDS,
    Format,
    Header,
    Voxels,
    colour,
    coloured,
    micrometres,
    moment,
    number,
    told,
)

OPAQUE_WHITE = -1
"""What the schema of OME-XML takes for the colour of a channel that tells none."""
BINARY_ONLY = re.compile(r"<(?:\w+:)?BinaryOnly\s[^>]*MetadataFile=\"([^\"]+)\"")
NO_UNIT = "reference frame"
"""What the schema takes for the unit of a position that tells none: not a length."""
DAMAGE = (tifffile.TiffFileError, LookupError, RuntimeError, OSError)


def series(path: Path) -> list[str]:
    """Names of the images in a file; numbers where they have none or share one."""
    with _opened(path) as tiff:
        names = [one.name for one in tiff.series]
        numbers = [str(number) for number in range(len(names))]
        return names if all(names) and len(set(names)) == len(names) else numbers


def header(path: Path, name: str) -> Header:
    """What the file says of an image, without reading voxels."""
    with _opened(path) as tiff:
        place = _number(tiff, path, name)
        image = tiff.series[place]
        axes, shape = image.axes.lower(), tuple(image.shape)
        said = _ome(tiff, place, image.name) or _imagej(tiff)
        names: tuple[str, ...] = said.pop("channels", ())
        if "s" in axes:
            axes, shape, names = _coloured(path, axes, shape, names)
        axes = "".join(axis if axis in "tczyx" else "?" for axis in axes)
        dtype = np.dtype(image.dtype).newbyteorder("=")
        silent: dict[str, Any] = {"voxel_size_um": {}, "time_step_s": None}
        return Header(axes, shape, dtype, names, **silent | said)


@contextlib.contextmanager
def voxels(path: Path, name: str) -> Iterator[Voxels]:
    """An image of the file, decoded where it is asked; what is not compressed is just read."""
    with _complaints() as complaints, tifffile.TiffFile(path) as tiff:
        _ = tiff.series
        _check_planes(path, complaints)
        image = tiff.series[_number(tiff, path, name)]
        axes, shape = image.axes.lower(), tuple(image.shape)
        array: Any = raw_planes.raw(image)
        if array is None and tuple(image.shape[-2:]) == (1, 1):
            # tifffile folds other axes into planes of a single voxel, which its view cannot cut
            array = image.asarray()
        elif array is None:
            array = zarr.open_array(image.aszarr(level=0), mode="r")
        if "s" in axes and "c" in axes:
            yield _Squeezed(array, axes.index("c"), _coloured(path, axes, shape, ())[1])
        else:
            yield array


class _Squeezed:
    """An array without one axis that is a single voxel wide."""

    def __init__(self, array: Any, axis: int, shape: tuple[int, ...]) -> None:
        self.array, self.axis, self.shape = array, axis, shape

    def __getitem__(self, slices: tuple[slice, ...]) -> Any:
        whole = (*slices[: self.axis], slice(0, 1), *slices[self.axis :])
        return np.squeeze(np.asarray(self.array[whole]), self.axis)


def _coloured(
    path: Path, axes: str, shape: tuple[int, ...], names: tuple[str, ...]
) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """An image whose voxels are colours: these are its channels."""
    if "c" in axes:
        at = axes.index("c")
        if shape[at] > 1:
            raise ValueError(coloured(path, shape[at]))
        axes, shape = axes.replace("c", ""), shape[:at] + shape[at + 1 :]
    count = shape[axes.index("s")]
    return axes.replace("s", "c"), shape, COLOURS[:count] if count in (3, 4) else names


def _number(tiff: tifffile.TiffFile, path: Path, name: str) -> int:
    names = [one.name for one in tiff.series]
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise ValueError(f"{path} has no series {name!r}.")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """An open file that is whole, as far as its directory of planes tells.

    Raises ValueError where it is not.
    """
    try:
        with _complaints() as complaints, tifffile.TiffFile(path) as tiff:
            last = tiff.pages[-1]
            _ = tiff.series
            _check_planes(path, complaints)
            if found := BINARY_ONLY.search(tiff.ome_metadata or ""):
                raise ValueError(
                    f"{path} is a part of an image that {found[1]} describes. Give the path of "
                    "that file; where it is no TIFF, save the image as one OME-TIFF."
                )
            if any("invalid page offset" in complaint for complaint in complaints):
                raise ValueError(f"{path} is truncated: it names planes that lie beyond its end.")
            if isinstance(last, tifffile.TiffPage) and last.dataoffsets:
                end = max(o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True))
                if end > path.stat().st_size:
                    raise ValueError(f"{path} is truncated: its last plane ends beyond the file.")
            yield tiff
    except DAMAGE as error:
        raise ValueError(f"{path} is no readable TIFF: {error}.") from error


def files(path: Path, _: str) -> tuple[Path, ...]:
    """All files that hold planes of its images, where there are others than this one."""
    with _opened(path) as tiff:
        names = re.findall(r"<(?:\w+:)?UUID\s[^>]*FileName=\"([^\"]+)\"", tiff.ome_metadata or "")
        found = {html.unescape(name) for name in names} | {path.name}
        return tuple(path.parent / name for name in sorted(found)) if len(found) > 1 else ()


def _check_planes(path: Path, complaints: Sequence[str]) -> None:
    """Check that all planes are there: tifffile would put zeros for those that are not.

    Raises ValueError where one lacks.
    """
    for complaint in complaints:
        if found := re.search(r"failed to read '([^']+)'", complaint):
            raise ValueError(
                f"{path} is one of several files of an image, and {found[1]} is not there, or "
                "not whole. Put all files of the image into one folder."
            )
        if "Missing data are zeroed" in complaint or "index out of range" in complaint:
            raise ValueError(
                f"{path} names planes that it does not hold: its recording was broken off, or the "
                "file is not whole. Save those that are there as a new file."
            )


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tifffile finds wrong with a file and goes on without; kept from its log."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        said.append(record.getMessage())
        return False

    tifffile.logger().addFilter(keep)
    try:
        yield said
    finally:
        tifffile.logger().removeFilter(keep)


def _ome(tiff: tifffile.TiffFile, place: int, name: str) -> dict[str, Any]:
    """Fields of a header that the OME-XML tells of an image; empty where there is none."""
    if not tiff.ome_metadata:
        return {}
    try:
        images = _all(tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"])
        # Images without planes are told, and are no series: numbers may differ.
        named = [one for one in images if one.get("Name") == name]
        image: Any = named[0] if len(named) == 1 else images[min(place, len(images) - 1)]
        pixels: Any = image["Pixels"]
    except (SyntaxError, LookupError, TypeError):
        return {}
    sizes = {a: _length(pixels, f"PhysicalSize{a.upper()}", "µm") for a in "zyx"}
    step = number(pixels.get("TimeIncrement"))
    unit = SECONDS.get(pixels.get("TimeIncrementUnit", "s"))
    channels = _all(pixels.get("Channel", []))
    names = tuple(str(channel.get("Name", "")) for channel in channels)
    return {
        # A size of 0 stands for one that is not known.
        "voxel_size_um": {axis: size for axis, size in micrometres(sizes).items() if size},
        "time_step_s": step * unit if step and unit else None,
        "channels": names if all(names) else (),
        "colours": told([_ome_colour(channel.get("Color")) for channel in channels]),
        "position_um": _ome_position(image, _all(pixels.get("Plane", []))),
        "acquired": moment(image.get("AcquisitionDate")),
    }


def _all(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said]


def _length(said: Any, name: str, unit: str) -> tuple[Any, Any]:
    return said.get(name), said.get(f"{name}Unit", unit)


def _ome_colour(said: Any) -> str:
    """Of a signed number of 32 bits: red, green, blue, alpha."""
    value = number(said)
    if value is None or value == OPAQUE_WHITE or not -(2**31) <= value < 2**31:
        return ""
    return colour(f"{int(value) & 0xFFFFFFFF:08X}"[:6])


def _ome_position(image: Any, planes: list[Any]) -> dict[str, float]:
    """Of the first plane, else of the label of the stage."""
    first: Any = min(planes, key=lambda p: [p.get(f"The{axis}", 0) for axis in "TCZ"], default={})
    found = micrometres({a: _length(first, f"Position{a.upper()}", NO_UNIT) for a in "zyx"})
    stage = image.get("StageLabel") or {}
    return found or micrometres({a: _length(stage, a.upper(), NO_UNIT) for a in "zyx"})


def _imagej(tiff: tifffile.TiffFile) -> dict[str, Any]:
    """Fields of a header that ImageJ wrote; empty where the file is none of its own."""
    said: Any = tiff.imagej_metadata
    if not said:
        return {}
    unit = MICROMETRES.get(str(said.get("unit", "")).replace("\\u00B5", "µ"))
    voxel = {}
    if unit:
        for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
            value = tiff.pages.first.tags.valueof(tag)
            if value and value[0]:
                voxel[axis] = value[1] / value[0] * unit
        if spacing := number(said.get("spacing")):
            voxel["z"] = spacing * unit
    # The brightest entry of a table of colours is that of its channel.
    bright = [bytes(np.asarray(table)[:, -1]).hex() for table in said.get("LUTs", [])]
    return {
        "voxel_size_um": voxel,
        "time_step_s": number(said.get("finterval")) or None,
        "colours": told([colour(one) for one in bright]),
    }


TIFF = Format("TIFF", (".tif", ".tiff", ".btf"), "tifffile", "", series, header, voxels, files)
