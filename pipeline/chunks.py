"""Chunks of a volume, decoded once for all tiles whose contexts overlap in them."""

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.tiles import Box, boxes
from pipeline.volumes import Volume

MOST_BYTES = 96_000_000
"""A band of chunks, one tile high, across a shard: tiles come row by row."""


class Chunks:
    """Reads a volume as `Volume.read` does, and keeps the chunks that were asked for last.

    From any thread: two that ask at once may both decode a chunk, to the same voxels.
    """

    def __init__(self, volume: Volume, most_bytes: int = MOST_BYTES) -> None:
        self.volume, self.most_bytes = volume, most_bytes
        self.kept: OrderedDict[tuple[int, Box], npt.NDArray[Any]] = OrderedDict()
        self.bytes = 0
        self.gate = threading.Lock()

    def read(self, number: int, box: Box) -> npt.NDArray[Any]:
        """The voxels of `box` at a level.

        Raises OSError where a shard that it lies in is lost or damaged.
        """
        level = self.volume.levels[number]
        wanted = list(boxes(level.shape, level.chunk, box))
        with self.gate:
            found = {
                chunk: self._kept((number, chunk))
                for chunk in wanted
                if (number, chunk) in self.kept
            }
        missing = [chunk for chunk in wanted if chunk not in found]
        if missing:
            around = Box(
                tuple(map(min, zip(*(chunk.start for chunk in missing), strict=True))),
                tuple(map(max, zip(*(chunk.stop for chunk in missing), strict=True))),
            )
            values = self.volume.read(number, around)
            for chunk in missing:
                found[chunk] = values[chunk.within(around)].copy()
            with self.gate:
                for chunk in missing:
                    self._keep((number, chunk), found[chunk])
        result = np.empty(box.shape, self.volume.dtype)
        for chunk, values in found.items():
            shared = chunk.intersection(box)
            result[shared.within(box)] = values[shared.within(chunk)]
        return result

    def _kept(self, key: tuple[int, Box]) -> npt.NDArray[Any]:
        self.kept.move_to_end(key)
        return self.kept[key]

    def _keep(self, key: tuple[int, Box], values: npt.NDArray[Any]) -> None:
        if key not in self.kept:
            self.kept[key] = values
            self.bytes += values.nbytes
        while self.bytes > self.most_bytes:
            _, last = self.kept.popitem(last=False)
            self.bytes -= last.nbytes
