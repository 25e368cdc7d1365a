"""Planes of a TIFF file that are not compressed: read where they lie."""

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

NARROW = 4
"""Of rows that are so many times as long as what is asked of them, no more than that is read."""


@dataclass(frozen=True)
class RawPlanes:
    """Planes that lie in files as they are in memory, each at its own place.

    Read, not mapped to memory: what is mapped counts as memory, and a file that is cut meanwhile
    would end the process without a word.
    """

    shape: tuple[int, ...]
    plane: tuple[int, ...]
    dtype: np.dtype[Any]
    places: tuple[tuple[str, int], ...]

    def __getitem__(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        sides = [len(range(side)[cut]) for side, cut in zip(self.shape, slices, strict=True)]
        result = np.empty(sides, self.dtype)
        self.read(slices, result)
        return result.astype(self.dtype.newbyteorder("="), copy=False)

    def read(self, slices: tuple[slice, ...], result: npt.NDArray[Any]) -> None:
        """Read a box into an array of its shape and the file's type."""
        leading = self.shape[: len(self.shape) - len(self.plane)]
        spans = [range(side)[cut] for side, cut in zip(self.shape, slices, strict=True)]
        rows, columns, *colours = spans[len(leading) :]
        whole = len(columns) * NARROW >= self.plane[1]
        read = range(self.plane[1]) if whole else columns
        cut = [range(len(rows)), columns if whole else range(len(columns)), *colours]
        inside = tuple(slice(span.start, span.stop) for span in cut)
        scratch = np.empty((len(rows), len(read), *self.plane[2:]), self.dtype)
        with contextlib.ExitStack() as stack:
            files: dict[str, BinaryIO] = {}
            for index in np.ndindex(result.shape[: len(leading)]):
                at = tuple(span[i] for span, i in zip(spans, index, strict=False))
                name, start = self.places[int(np.ravel_multi_index(at, leading)) if leading else 0]
                if name not in files:
                    files[name] = stack.enter_context(Path(name).open("rb", buffering=0))
                voxel = math.prod(self.plane[2:]) * self.dtype.itemsize
                starts = [start + (y * self.plane[1] + read.start) * voxel for y in rows]
                if whole:
                    _fill(files[name], starts[0], scratch)
                else:
                    for line, place in zip(scratch, starts, strict=True):
                        _fill(files[name], place, line)
                result[index] = scratch[inside]


def _fill(file: BinaryIO, offset: int, values: npt.NDArray[Any]) -> None:
    """Read an array's bytes. Raises ValueError where the file ends before."""
    view = memoryview(values.reshape(-1).view(np.uint8).data)
    while view:
        count = os.preadv(file.fileno(), [view], offset)
        if not count:
            raise ValueError("it ends before the last of its planes")
        view, offset = view[count:], offset + count


def raw(image: Any) -> RawPlanes | None:
    """The image as raw planes; None where a plane is compressed, in tiles, missing or in pieces."""
    page, shape = image.keyframe, tuple(image.shape)
    plane = tuple(page.shape)
    leading = shape[: len(shape) - len(plane)]
    if not page.is_final or page.is_tiled or shape[len(leading) :] != plane or image.dtype is None:
        return None
    dtype = np.dtype(image.parent.byteorder + image.dtype.char)
    size, count = math.prod(plane) * dtype.itemsize, math.prod(leading)
    if image.dataoffset is not None:
        name, start = page.parent.filehandle.path, image.dataoffset
        return RawPlanes(shape, plane, dtype, tuple((name, start + i * size) for i in range(count)))
    if len(image.pages) != count or not all(map(_in_one_piece, image.pages)):
        return None
    places = tuple((one.parent.filehandle.path, one.dataoffsets[0]) for one in image.pages)
    return RawPlanes(shape, plane, dtype, places)


def _in_one_piece(page: Any) -> bool:
    if page is None or not page.dataoffsets:
        return False
    ends = [a + size for a, size in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return ends[:-1] == list(page.dataoffsets[1:]) and ends[-1] - page.dataoffsets[0] == page.nbytes
