"""Folders of planes: one file each, numbered by a pattern such as `cells_t{t:03d}_z{z:04d}.tif`.

Of a folder given without a pattern, all files are taken in the order of the numbers in their names.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.config import PLACE, is_pattern
from pipeline.headers import COLOURS, Format, Header, Voxels

ENDINGS = (".tif", ".tiff", ".png")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of an image, by the numbers that their names hold.

    Attributes
    ----------
    axes: of the numbers; "?" where the pattern does not name it.
    shape: how many different numbers there are of each.
    paths: all files, in the order of their numbers, the last axis fastest.
    """

    axes: str
    shape: tuple[int, ...]
    paths: tuple[Path, ...]


def files(path: Path) -> Files:
    """The files of a folder, or of a pattern; of one file, itself.

    Raises ValueError where there are none, or a number is missing.
    """
    if path.is_file():
        return Files("", (), (path,))
    folder = path.parent if is_pattern(path) else path
    if not folder.is_dir():
        raise ValueError(f"{path}: there is no folder {folder}.")
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(ENDINGS) and e.is_file()]
    if is_pattern(path):
        return _matching(path, folder, names)
    if not names:
        raise ValueError(f"{path} holds no planes: no file ends in {', '.join(ENDINGS)}.")
    endings = sorted({Path(name).suffix.lower() for name in names})
    if len(endings) > 1:
        raise ValueError(
            f"{path} holds files of several kinds ({', '.join(endings)}). Say which are the "
            f"planes: give a pattern, such as {path}/name_{{z:04d}}{endings[0]}."
        )
    names.sort(key=_numbers)
    return Files("?", (len(names),), tuple(folder / name for name in names))


def _matching(path: Path, folder: Path, names: Sequence[str]) -> Files:
    axes = [place[1] for place in PLACE.finditer(path.name)]
    if len(set(axes)) != len(axes):
        raise ValueError(f"{path}: the pattern names an axis twice.")
    texts = PLACE.split(path.name)[::3]
    widths = [place[2] or "" for place in PLACE.finditer(path.name)]
    numbers = [rf"(\d{{{width},}})" if width else r"(\d+)" for width in widths] + [""]
    expression = re.compile(
        "".join(re.escape(text) + number for text, number in zip(texts, numbers, strict=True))
    )
    found = {
        tuple(map(int, match.groups())): name
        for name in names
        if (match := expression.fullmatch(name))
    }
    if not found:
        raise ValueError(f"{path}: no file in {folder} has a name of this pattern.")
    sides = [sorted({numbers[i] for numbers in found}) for i in range(len(axes))]
    order = sorted(range(len(axes)), key=lambda i: "tczyx".index(axes[i]))
    paths = []
    for ordered in itertools.product(*(sides[i] for i in order)):
        key = tuple(ordered[order.index(i)] for i in range(len(axes)))
        if key not in found:
            lacks = ", ".join(f"{axis} {n}" for axis, n in zip(axes, key, strict=True))
            raise ValueError(f"{path}: there is no file for {lacks}, but others of these numbers.")
        paths.append(folder / found[key])
    return Files("".join(axes[i] for i in order), tuple(len(sides[i]) for i in order), tuple(paths))


def _numbers(name: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", name)], name


def series(_: Path) -> list[str]:
    """A folder holds one image."""
    return ["planes"]


def header(path: Path, _: str) -> Header:
    """What the names of the files, and the first of them, say."""
    held = files(path)
    try:
        first = _plane(held.paths[0])
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{held.paths[0]} is no readable image: {error}.") from error
    coloured = first.ndim == 3 and first.shape[-1] in (3, 4) and "c" not in held.axes
    own, names = ("yxc", COLOURS[: first.shape[-1]]) if coloured else ("yx", ())
    if first.ndim != len(own):
        raise ValueError(
            f"{held.paths[0]} is no plane: it has {first.ndim} axes, {first.shape}. Give one plane "
            "of one intensity per file."
        )
    dtype = first.dtype.newbyteorder("=")
    return Header(held.axes + own, (*held.shape, *first.shape), dtype, names, {}, None)


@contextlib.contextmanager
def voxels(path: Path, _: str) -> Iterator[Voxels]:
    """The planes as one image; of each file that is asked, as little is read as its kind allows."""
    yield stacked(files(path))


def stacked(held: Files) -> Voxels:
    """The planes of these files as one image."""
    return _Stack(held, _plane(held.paths[0]))


class _Stack:
    """Planes, of which each stands at its numbers.

    Attributes
    ----------
    chunks: what is decoded at once: a plane, where it cannot be mapped to memory.
    """

    def __init__(self, held: Files, first: npt.NDArray[Any]) -> None:
        self.held, self.shape = held, (*held.shape, *first.shape)
        mapped = isinstance(first, np.memmap)
        self.chunks = None if mapped else (*(1 for _ in held.shape), *first.shape)

    def __getitem__(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        outer = [range(n)[s] for n, s in zip(self.held.shape, slices, strict=False)]
        inside = slices[len(outer) :]
        cuts = []
        for index in itertools.product(*outer):
            number = int(np.ravel_multi_index(index, self.held.shape)) if index else 0
            path = self.held.paths[number]
            plane = _plane(path)
            if plane.shape != self.shape[len(outer) :]:
                raise ValueError(f"{path} has the sides {plane.shape}, unlike the first plane")
            cuts.append(np.asarray(plane[inside]))
        return np.stack(cuts).reshape(*(len(some) for some in outer), *cuts[0].shape)


def _plane(path: Path) -> npt.NDArray[Any]:
    """The one image in a file: mapped to memory where it is not compressed."""
    if path.suffix.lower() == ".png":
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    with tifffile.TiffFile(path) as tiff:
        image = tiff.series[0]
        if image.dataoffset is None or image.keyframe.is_tiled:
            return np.asarray(image.asarray())
    return tifffile.memmap(path, mode="r")


def _all(path: Path, _: str) -> tuple[Path, ...]:
    return files(path).paths


PLANES = Format("PNG, folder of planes", (".png",), "tifffile", "", series, header, voxels, _all)
