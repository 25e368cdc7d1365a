"""TIFF, BigTIFF, OME-TIFF and ImageJ's hyperstacks, read by tifffile."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from pipeline.headers import COLOURS, MICROMETRES, SECONDS, Format, Header, Voxels

Said = tuple[dict[str, float], float | None, tuple[str, ...]]
"""Voxel size in um, time step in s, names of channels."""
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
        number = _number(tiff, path, name)
        image = tiff.series[number]
        axes, shape = image.axes.lower(), tuple(image.shape)
        said: Said = _ome(tiff, number) or _imagej(tiff) or ({}, None, ())
        voxel, step, names = said
        if "s" in axes:
            axes, shape, names = _coloured(path, axes, shape, names)
        axes = "".join(axis if axis in "tczyx" else "?" for axis in axes)
        dtype = np.dtype(image.dtype).newbyteorder("=")
        return Header(axes, shape, dtype, names, voxel, step)


@contextlib.contextmanager
def voxels(path: Path, name: str) -> Iterator[Voxels]:
    """An image of the file, decoded where it is asked."""
    with _complaints(), tifffile.TiffFile(path) as tiff:
        image = tiff.series[_number(tiff, path, name)]
        # tifffile folds other axes into planes of a single voxel, which its Zarr view cannot cut
        folded = tuple(image.shape[-2:]) == (1, 1)
        array = image.asarray() if folded else zarr.open_array(image.aszarr(level=0), mode="r")
        axes, shape = image.axes.lower(), tuple(image.shape)
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
            raise ValueError(
                f"{path} has {shape[at]} channels, and each of its voxels is a colour. "
                "Split it into channels of one intensity each."
            )
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
            if any("invalid page offset" in complaint for complaint in complaints):
                raise ValueError(f"{path} is truncated: it names planes that lie beyond its end.")
            if isinstance(last, tifffile.TiffPage) and last.dataoffsets:
                end = max(o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True))
                if end > path.stat().st_size:
                    raise ValueError(f"{path} is truncated: its last plane ends beyond the file.")
            yield tiff
    except DAMAGE as error:
        raise ValueError(f"{path} is no readable TIFF: {error}.") from error


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


def _ome(tiff: tifffile.TiffFile, number: int) -> Said | None:
    if not tiff.ome_metadata:
        return None
    said: Any = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    images = said if isinstance(said, list) else [said]
    pixels: Any = images[min(number, len(images) - 1)]["Pixels"]
    voxel = {}
    for axis in "zyx":
        size = pixels.get(f"PhysicalSize{axis.upper()}")
        unit = MICROMETRES.get(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
        if size and unit:
            voxel[axis] = float(size) * unit
    step, unit = pixels.get("TimeIncrement"), SECONDS.get(pixels.get("TimeIncrementUnit", "s"))
    channels = pixels.get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = tuple(str(channel.get("Name", "")) for channel in channels)
    return voxel, float(step) * unit if step and unit else None, names if all(names) else ()


def _imagej(tiff: tifffile.TiffFile) -> Said | None:
    said: Any = tiff.imagej_metadata
    if not said:
        return None
    unit = MICROMETRES.get(str(said.get("unit", "")).replace("\\u00B5", "µ"))
    voxel = {}
    if unit:
        for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
            value = tiff.pages.first.tags.valueof(tag)
            if value and value[0]:
                voxel[axis] = value[1] / value[0] * unit
        if said.get("spacing"):
            voxel["z"] = float(said["spacing"]) * unit
    step = said.get("finterval")
    return voxel, float(step) if step else None, ()


TIFF = Format("TIFF", (".tif", ".tiff", ".btf"), "tifffile", "", series, header, voxels)
