"""Planes of a TIFF file that are not compressed: read where they lie."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RawPlanes:
    """Planes that lie in files as they are in memory, each at its own place.

    A plane is mapped to memory only while it is cut: a whole file that is mapped counts as memory.
    """

    shape: tuple[int, ...]
    plane: tuple[int, ...]
    dtype: np.dtype[Any]
    places: tuple[tuple[str, int], ...]

    def __getitem__(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        leading = self.shape[: len(self.shape) - len(self.plane)]
        spans = [range(side)[cut] for side, cut in zip(self.shape, slices, strict=True)]
        inside = slices[len(leading) :]
        result = np.empty([len(span) for span in spans], self.dtype.newbyteorder("="))
        for index in np.ndindex(result.shape[: len(leading)]):
            at = tuple(span[i] for span, i in zip(spans, index, strict=False))
            file, offset = self.places[int(np.ravel_multi_index(at, leading)) if leading else 0]
            plane = np.memmap(file, self.dtype, "r", offset, self.plane)
            result[index] = plane[inside]
        return result


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
