"""Plates of microscopes that write one file per plane: which file is which plane of which field.

What a maker's files are called and what they say is read by a module of its own, one for each. A
field is called ROW/COLUMN/FIELD, in the plate's own numbers.
"""

import contextlib
import functools
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from pipeline import formats_planes
from pipeline.formats_planes import Files
from pipeline.formats_tiff import DAMAGE
from pipeline.headers import Format, Header, Voxels, readable

log = logging.getLogger("equiscope.formats")
Plane = tuple[int, int, int]
"""Numbers of time, channel and z, as the maker counts them; z 0 is a projection beside planes."""
AXES = "tcz"
KEPT = 4
"""Plates that a process remembers."""


@dataclass(frozen=True, slots=True)
class Plate:
    """What a plate's folders, and the small files that describe it, say.

    Attributes
    ----------
    fields: of each, the file of every plane that is there.
    names: of channels, by their numbers, where no image need be opened for them.
    sheets: files that describe the plate.
    stamps: when each file and folder that was looked at was changed last, in ns.
    voxel_size_um, time_step_s: where the sheets say them, for all fields.
    """

    path: Path
    fields: Mapping[str, Mapping[Plane, str]]
    names: Mapping[int, str]
    sheets: tuple[Path, ...]
    stamps: Mapping[Path, int]
    voxel_size_um: Mapping[str, float] = field(default_factory=dict)
    time_step_s: float | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """The planes that every field of a plate must have.

    Attributes
    ----------
    sides: numbers of times, of channels and of z.
    names: of these channels.
    """

    sides: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maker:
    """How the plates of one maker are read.

    Attributes
    ----------
    scan: lists a plate, opening no image. Raises ValueError where it is none, or not clear.
    names: of channels, by their numbers.
    repeated: channels of which files repeat one plane at several z or times.
    sizes: voxel size in um and time step in s of a field.
    """

    name: str
    endings: tuple[str, ...]
    scan: Callable[[Path], Plate]
    names: Callable[[Plate], Mapping[int, str]]
    repeated: Callable[[Plate], frozenset[int]]
    sizes: Callable[[Plate, Grid, str], tuple[dict[str, float], float | None]]


class _Opened:
    """A plate, and what must be read but once of it."""

    def __init__(self, maker: Maker, path: Path) -> None:
        self.maker, self.plate = maker, maker.scan(path)

    @functools.cached_property
    def grid(self) -> Grid:
        names, repeated = self.maker.names(self.plate), self.maker.repeated(self.plate)
        return _grid(self.plate, names, repeated)


_OPENED: dict[Path, _Opened] = {}


def form(maker: Maker) -> Format:
    """The format of a maker's plates."""
    return Format(
        maker.name,
        maker.endings,
        "tifffile",
        "",
        functools.partial(_series, maker),
        functools.partial(_header, maker),
        functools.partial(_voxels, maker),
        functools.partial(_files, maker),
    )


def stamp(*paths: Path) -> dict[Path, int]:
    """When files and folders were changed last."""
    return {path: path.stat().st_mtime_ns for path in paths}


def row_name(number: int) -> str:
    """The name of a row, counted from 1: A to Z, then AA, AB and so on."""
    return (
        chr(64 + number)
        if number <= 26
        else row_name((number - 1) // 26) + row_name((number - 1) % 26 + 1)
    )


def order(name: str) -> list[tuple[int, str]]:
    """What sorts fields as a plate has them: A before B before AA, 2 before 10."""
    return [(int(p), "") if p.isdecimal() else (len(p), p) for p in name.split("/")]


def add(planes: dict[Plane, str], plane: Plane, file: str, where: str) -> None:
    """Say which file holds a plane of a field.

    Raises ValueError where another does already.
    """
    if plane in planes:
        raise ValueError(
            f"{planes[plane]} and {os.path.basename(file)} are both said to be time {plane[0]}, "
            f"channel {plane[1]}, z {plane[2]} of field {where}. Move one of them out of the plate."
        )
    planes[plane] = file


def _opened(maker: Maker, path: Path) -> _Opened:
    """A plate as it was when it was last listed: a job asks for it box by box."""
    place = path.absolute()
    if place not in _OPENED:
        while len(_OPENED) >= KEPT:
            _OPENED.pop(next(iter(_OPENED)), None)
        _OPENED[place] = _Opened(maker, path)
    return _OPENED[place]


def _grid(plate: Plate, names: Mapping[int, str], repeated: frozenset[int]) -> Grid:
    """What all fields have in common.

    A channel at half of the others' planes or times, or less, was never recorded at the rest: it
    is left out, since a volume has all channels everywhere.
    """
    found = {plane for planes in plate.fields.values() for plane in planes}
    channels = sorted({channel for _, channel, _ in found})
    if not channels:
        raise ValueError(f"{plate.path}: none of the files that it names is there.")
    if any(z for *_, z in found):
        found = {plane for plane in found if plane[2]}
    times = {c: {t for t, channel, _ in found if channel == c} for c in channels}
    depths = {c: {z for _, channel, z in found if channel == c} for c in channels}
    partial = set(repeated)
    for held in (times, depths):
        most = max(len(numbers) for numbers in held.values())
        partial |= {c for c, numbers in held.items() if 2 * len(numbers) <= most}
    kept = [c for c in channels if c not in partial] or channels
    if left := [names[c] for c in channels if c not in kept]:
        log.warning(
            "%s: left out %s, not recorded at all z and times of the other channels",
            plate.path,
            ", ".join(left),
        )
    sides = tuple(tuple(sorted(set().union(*(held[c] for c in kept)))) for held in (times, depths))
    return Grid((sides[0], tuple(kept), sides[1]), tuple(names[c] for c in kept))


def _series(maker: Maker, path: Path) -> list[str]:
    """The fields of a plate, which is looked at anew only where a folder of it was changed."""
    known = _OPENED.get(path.absolute())
    try:
        is_as_known = known is not None and stamp(*known.plate.stamps) == known.plate.stamps
    except OSError:
        is_as_known = False
    if not is_as_known:
        _OPENED.pop(path.absolute(), None)
    return list(_opened(maker, path).plate.fields)


def _planes(opened: _Opened, name: str) -> Files:
    """The files of a field.

    Raises ValueError where one is missing.
    """
    grid, plate = opened.grid, opened.plate
    held = plate.fields.get(name, {})
    paths = []
    for plane in itertools.product(*grid.sides):
        if plane not in held:
            t, c, z = plane
            channel = grid.names[grid.sides[1].index(c)]
            raise ValueError(
                f"{plate.path}: field {name} has no plane of time {t}, channel {channel} "
                f"(number {c}), z {z}, which the plate has elsewhere. Put its file back, or leave "
                "the field out: name those to take in entries of their own."
            )
        paths.append(Path(held[plane]))
    return Files(AXES, tuple(len(side) for side in grid.sides), tuple(paths))


def _header(maker: Maker, path: Path, name: str) -> Header:
    """What a field's names and its first, and some more, of its files say."""
    opened = _opened(maker, path)
    held = _planes(opened, name)
    with readable(held.paths[0], "TIFF", DAMAGE, lambda: tifffile.TiffFile(held.paths[0])) as tiff:
        image = tiff.series[0]
        shape, dtype = tuple(image.shape), np.dtype(image.dtype).newbyteorder("=")
    if len(shape) != 2:
        raise ValueError(f"{held.paths[0]} is no plane of one intensity: it has the sides {shape}.")
    voxel, step = maker.sizes(opened.plate, opened.grid, name)
    return Header(AXES + "yx", (*held.shape, *shape), dtype, opened.grid.names, voxel, step)


@contextlib.contextmanager
def _voxels(maker: Maker, path: Path, name: str) -> Iterator[Voxels]:
    yield formats_planes.stacked(_planes(_opened(maker, path), name))


def _files(maker: Maker, path: Path, name: str) -> tuple[Path, ...]:
    opened = _opened(maker, path)
    return (*opened.plate.sheets, *_planes(opened, name).paths)
