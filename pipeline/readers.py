"""What a microscope wrote: one small interface over the libraries that read it."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import zarr

from pipeline.config import locate
from pipeline.sections import FROM_FILE, Acquisition, VoxelSize
from pipeline.tiles import Box

CANONICAL = "tczyx"
LARGEST_PLAUSIBLE_UM = 1e4
MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "m": 1e6}
DAMAGE = (OSError, ValueError, LookupError, RuntimeError)
"""What tifffile and its decoders raise on a file that is not whole."""
SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself; None or empty where it is silent."""

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    voxel_size_um: dict[str, float]
    time_step_s: float | None


@dataclass(frozen=True, slots=True)
class Source:
    """A raw image as it will be ingested: axes in the order `t, c, z, y, x`, `c` always there.

    Attributes
    ----------
    axes, shape: of what `read` gives.
    takes: the file's channel number for each of `channels`.
    file_axes: the file's own axes, in the file's order.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    takes: tuple[int, ...]
    voxel_size_um: dict[str, float]
    time_step_s: float | None
    file_axes: str

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The voxels of `box`, in native byte order.

        Raises OSError where the file no longer holds them.
        """
        try:
            with _complaints():
                whole = self._cut(box)
        except DAMAGE as error:
            raise OSError(
                f"{self.path} cannot be read between {box.start} and {box.stop} ({self.axes}): "
                f"{error}. It is damaged, or was changed or moved while it was read: put it back "
                "whole and run again."
            ) from error
        return whole.astype(self.dtype, copy=False)

    def _cut(self, box: Box) -> npt.NDArray[Any]:
        wanted = dict(zip(self.axes, box.slices, strict=True))
        with tifffile.TiffFile(self.path) as tiff:
            array = zarr.open_array(tiff.series[0].aszarr(level=0), mode="r")
            pieces = []
            for channel in self.takes[wanted["c"]]:
                here = wanted | {"c": slice(channel, channel + 1)}
                cut = np.asarray(array[tuple(here.get(a, slice(0, 1)) for a in self.file_axes)])
                pieces.append(_ordered(cut, self.file_axes, self.axes))
        whole = np.concatenate(pieces, axis=self.axes.index("c"))
        if whole.shape != box.shape:
            raise ValueError(f"it holds no more than {array.shape} voxels now")
        return whole


def _ordered(cut: npt.NDArray[Any], file_axes: str, axes: str) -> npt.NDArray[Any]:
    """Bring axes into order; add those the file lacks, drop single ones that are not wanted."""
    present = [axis for axis in axes if axis in file_axes]
    extra = [axis for axis in file_axes if axis not in axes]
    cut = cut.transpose([file_axes.index(axis) for axis in [*present, *extra]])
    cut = cut.reshape(cut.shape[: len(present)])
    return np.expand_dims(cut, [i for i, axis in enumerate(axes) if axis not in present])


def opened(where: str, path: str) -> tuple[Path, Header]:
    """Where the file of the setting `where` is, and what it says about itself.

    Raises ValueError where it is missing, damaged or of an unknown format.
    """
    try:
        found = locate(path)
        return found, header(found)
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from fault


def header(path: Path) -> Header:
    """What the file says, without reading voxels.

    Raises ValueError where the format is not known or the file is damaged.
    """
    if path.suffix.lower() not in (".tif", ".tiff", ".btf"):
        raise ValueError(f"{path}: only TIFF files can be read (.tif, .tiff, .btf).")
    try:
        with _complaints() as complaints, tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            last = tiff.pages[-1]
            if any("invalid page offset" in complaint for complaint in complaints):
                raise ValueError(f"{path} is truncated: it names planes that lie beyond its end.")
            if isinstance(last, tifffile.TiffPage) and last.dataoffsets:
                end = max(o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True))
                if end > path.stat().st_size:
                    raise ValueError(f"{path} is truncated: its last plane ends beyond the file.")
            axes = series.axes.lower().replace("s", "c").replace("q", "?").replace("i", "?")
            voxel, step, names = _ome(tiff) or _imagej(tiff) or ({}, None, ())
            dtype = np.dtype(series.dtype).newbyteorder("=")
            return Header(axes, tuple(series.shape), dtype, names, voxel, step)
    except (tifffile.TiffFileError, LookupError, RuntimeError, OSError) as error:
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


def _ome(tiff: tifffile.TiffFile) -> tuple[dict[str, float], float | None, tuple[str, ...]] | None:
    if not tiff.ome_metadata:
        return None
    image: Any = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels: Any = (image[0] if isinstance(image, list) else image)["Pixels"]
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


def _imagej(
    tiff: tifffile.TiffFile,
) -> tuple[dict[str, float], float | None, tuple[str, ...]] | None:
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


def source(name: str, acquisition: Acquisition) -> Source:
    """Open an acquisition: what its file says, and where it is silent, what its settings say.

    Raises ValueError, with the line to add, where neither tells the axes, the voxel size or the
    channels, or where they contradict each other.
    """
    where = f"acquisitions.{name}"
    path, said = opened(f"{where}.path", acquisition.path)
    file_axes = axes_of(where, acquisition.axes, said)
    sides = dict(zip(file_axes, said.shape, strict=True))
    axes = kept_axes(sides)
    names, takes = channels_of(where, acquisition.channels, said.channels, sides.get("c", 1))
    sides["c"] = len(names)
    voxel = _voxel_size(where, acquisition.voxel_size_um, said.voxel_size_um, axes)
    step = said.time_step_s if acquisition.time_step_s == FROM_FILE else acquisition.time_step_s
    if said.dtype.kind not in "uif":
        raise ValueError(f"{where}.path: voxels of type {said.dtype} are no intensities.")
    return Source(
        path=path,
        axes=axes,
        shape=tuple(sides[axis] for axis in axes),
        dtype=said.dtype,
        channels=names,
        takes=takes,
        voxel_size_um=voxel,
        time_step_s=float(step) if step else None,
        file_axes=file_axes,
    )


def kept_axes(sides: dict[str, int]) -> str:
    """The axes that matter, in order: c, y and x always, others where they are longer than one."""
    return "".join(a for a in CANONICAL if a in "cyx" or sides.get(a, 1) > 1)


def axes_of(where: str, setting: str, said: Header) -> str:
    """The file's axes, one letter each, from the setting or the file."""
    axes = said.axes if setting == FROM_FILE else setting
    if setting == FROM_FILE and "?" in axes:
        raise ValueError(
            f"{where}.axes: the file does not say what its {len(said.shape)} axes {said.shape} "
            f"are. Add the line `axes: ...` to it, such as `axes: zyx`."
        )
    if len(axes) != len(said.shape) or len(set(axes)) != len(axes):
        raise ValueError(
            f"{where}.axes is {axes!r}, but the file has {len(said.shape)} axes, {said.shape}. "
            "Give one letter of t, c, z, y, x for each."
        )
    unknown = sorted(set(axes) - set(CANONICAL))
    if unknown or not {"y", "x"} <= set(axes):
        raise ValueError(
            f"{where}.axes is {axes!r}: each must be one of t, c, z, y, x, with y and x among them."
        )
    return axes


def channels_of(
    where: str, setting: str | tuple[str, ...], said: tuple[str, ...], count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the channels to take, and their numbers in the file."""
    if setting == FROM_FILE:
        names = said if len(said) == count else tuple(f"channel_{i}" for i in range(count))
        return names, tuple(range(count))
    if len(said) == count and set(setting) <= set(said):
        return tuple(setting), tuple(said.index(name) for name in setting)
    if len(setting) == count and len(said) != count:
        return tuple(setting), tuple(range(count))
    held = f"({', '.join(said)}) " if said else ""
    raise ValueError(
        f"{where}.channels is {list(setting)}, but the file has {count} channels {held}of other "
        "names. Name some of them; or, where the file has no names, all."
    )


def _voxel_size(
    where: str, setting: str | VoxelSize, said: dict[str, float], axes: str
) -> dict[str, float]:
    space = [axis for axis in axes if axis in "zyx"]
    given = said if isinstance(setting, str) else setting.model_dump(exclude_none=True)
    example = ", ".join(f"{axis}: ..." for axis in space)
    missing = [axis for axis in space if axis not in given]
    if missing:
        raise ValueError(
            f"{where}.voxel_size_um: nothing says how large a voxel is along {', '.join(missing)}. "
            f"Add the line `voxel_size_um: {{{example}}}` to it."
        )
    absurd = {axis: given[axis] for axis in space if not 0 < given[axis] < LARGEST_PLAUSIBLE_UM}
    if absurd:
        raise ValueError(
            f"{where}.voxel_size_um: the file says {absurd} um, which no microscope records. "
            f"Add the line `voxel_size_um: {{{example}}}` to it."
        )
    return {axis: given[axis] for axis in space}
