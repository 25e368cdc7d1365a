"""Label images, where 0 is background and every other number one object: TIFF, PNG, OME-Zarr."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline import formats, marks, readers
from pipeline.config import locate
from pipeline.formats_tiff import TIFF
from pipeline.headers import Header
from pipeline.readers import Source
from pipeline.sections import Annotation
from pipeline.tiles import Box, placed

if TYPE_CHECKING:
    from ome_zarr.io import ZarrLocation  # type: ignore[import-untyped]

GREY = {"1", "L", "P", "I", "I;16"}
"""Kinds of PNG that hold one number per pixel, as Pillow calls them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Labels in a PNG or in OME-Zarr, with axes in the order `t, c, z, y, x`.

    Attributes
    ----------
    axes, shape: of what `read` gives.
    file_axes: the axes of the file's array, in its order.
    channel: number of the file's channel that holds the labels.
    """

    path: Path
    axes: str
    shape: tuple[int, ...]
    file_axes: str
    channel: int

    def read(self, box: Box) -> npt.NDArray[np.integer[Any]]:
        """The labels of `box`."""
        wanted = dict(zip(self.axes, box.slices, strict=True))
        wanted["c"] = slice(self.channel, self.channel + 1)
        array = _png(self.path) if self.path.is_file() else _level_0(_location(self.path))
        cut = np.asarray(array[tuple(wanted.get(a, slice(0, 1)) for a in self.file_axes)])
        order = [self.file_axes.index(a) for a in readers.CANONICAL if a in self.file_axes]
        return cut.transpose(order).reshape(box.shape)


@dataclass(frozen=True, slots=True)
class LabelImage:
    """Labels in a file; `sides` are those of its axes, without `c`."""

    array: Source | Picture
    sides: dict[str, int]

    @property
    def path(self) -> Path:
        """The file, or the folder of the one array that is read."""
        return self.array.path

    def labels(self, space: Box, frame: int) -> npt.NDArray[np.integer[Any]]:
        """The labels of a spatial box of a frame; a file without frames or depth has but one."""
        own = sum(axis in "zyx" for axis in self.sides)
        held = Box(space.start[-own:], space.stop[-own:])
        return self.array.read(placed(self.array.axes, held, frame, 0)).reshape(space.shape)


def opened(where: str, annotation: Annotation) -> LabelImage:
    """Open a label image; its one channel is the one that the annotation names.

    Raises ValueError where the channel is not clear or voxels are no whole numbers.
    """
    path, said = _header(where, annotation.path)
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
    shape = tuple(sides[axis] for axis in axes)
    array: Source | Picture = Picture(path, axes, shape, file_axes, takes[0])
    if path.is_file() and path.suffix.lower() != ".png":
        array = Source(
            path=path,
            form=TIFF.name,
            series=TIFF.series(path)[0],
            axes=axes,
            shape=shape,
            dtype=said.dtype,
            channels=("labels",),
            takes=takes,
            voxel_size_um={},
            time_step_s=None,
            file_axes=file_axes,
        )
    return LabelImage(array, {axis: sides[axis] for axis in axes if axis != "c"})


def file_of(setting: str) -> Path:
    """The file or folder whose bytes are the labels that a path of the settings leads to."""
    path = locate(setting)
    return Path(_labels_in(path).path) if path.is_dir() else path


def _header(where: str, setting: str) -> tuple[Path, Header]:
    try:
        path = locate(setting)
        if path.is_dir():
            location = _labels_in(path)
            array = _level_0(location)
            axes = "".join(axis["name"] for axis in _multiscale(location)["axes"])
            return Path(location.path), Header(axes, array.shape, array.dtype, (), {}, None)
        if path.suffix.lower() == ".png":
            pixels = _png(path)
            return path, Header("yx", pixels.shape, pixels.dtype, (), {}, None)
        if path.suffix.lower() not in TIFF.endings:
            raise ValueError(
                f"{path}: annotations are read from {', '.join(TIFF.endings)}, .png, OME-Zarr, "
                f"{', '.join(marks.SUFFIXES)}. Save it as one of these."
            )
    except ValueError as fault:
        raise ValueError(f"{where}.path: {fault}") from fault
    path, _, _, said = readers.opened(where, setting, formats.ONLY)
    return path, said


def _png(path: Path) -> npt.NDArray[np.integer[Any]]:
    """The numbers of a PNG, of a palette their indices."""
    try:
        with Image.open(path) as image:
            if image.mode not in GREY:
                raise ValueError(
                    f"{path} holds colours ({image.mode}), which are no labels. Save it as "
                    "greyscale of 8 or 16 bits, or with a palette, a number for each object."
                )
            pixels = np.asarray(image)
            return pixels.astype(np.uint8) if image.mode == "1" else pixels
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no readable PNG ({error}). Save it again.") from error


def _labels_in(path: Path) -> "ZarrLocation":
    """The one label image of an OME-Zarr, or the one that the path leads to."""
    location = _location(path)
    if "image-label" in location.root_attrs or path.parent.name == "labels":
        return location
    group = path if "labels" in location.root_attrs else path / "labels"
    held = _location(group).root_attrs.get("labels", []) if group.is_dir() else []
    if len(held) != 1:
        names = f"the labels {', '.join(held)}" if held else "no labels"
        raise ValueError(f"{path} holds {names}. Give the path of one, .../labels/NAME.")
    return _location(group / held[0])


def _location(path: Path) -> "ZarrLocation":
    from ome_zarr.io import parse_url  # takes seconds, and most labels are no OME-Zarr

    with _hushed():
        location = parse_url(path)
    if location is None:
        raise ValueError(f"{path} is a folder, but no OME-Zarr of version 0.4 or 0.5.")
    return location


def _multiscale(location: "ZarrLocation") -> Mapping[str, Any]:
    try:
        block = location.root_attrs["multiscales"][0]
        if not all("name" in axis for axis in block["axes"]):
            raise KeyError("name")
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{location.path} lacks the `multiscales` of OME-Zarr 0.4 or 0.5 with named axes. "
            "Write it again with ome-zarr, or give a TIFF."
        ) from error
    return block


def _level_0(location: "ZarrLocation") -> Any:
    """The finest array, read lazily."""
    try:
        return location.load(_multiscale(location)["datasets"][0]["path"])
    except (OSError, KeyError) as error:
        raise ValueError(f"{location.path} has no readable level 0: {error}.") from error


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without ome-zarr's warning that a store of version 0.4 is not of the newest."""
    log = logging.getLogger("ome_zarr")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
