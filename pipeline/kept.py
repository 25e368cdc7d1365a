"""What the network said of tiles, kept as long as later shards need it: in memory, or on disk."""

import dataclasses
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.tiles import Box

log = logging.getLogger("equiscope.kept")
Key = tuple[int, Box]
"""A frame, and a tile of it."""


class Kept:
    """What is known of tiles, at most `most_bytes` of it in memory between groups of shards.

    `said` holds frozen records of arrays. Those that would be needed latest are laid into files
    without a name in `folder`, which end with the process. Where the disk is full, their tile is
    asked again.
    """

    def __init__(self, most_bytes: float, folder: Path) -> None:
        self.most_bytes, self.folder = most_bytes, folder
        self.said: dict[Key, Any] = {}
        self.blank: set[Key] = set()
        self.shared: set[Key] = set()
        self.on_disk: set[Key] = set()
        self.needed: dict[Key, int] = {}

    def expect(self, number: int, keys: Iterable[Key]) -> None:
        """Expect that shard `number`, later than all before, needs what is said of these tiles."""
        self.needed |= dict.fromkeys(keys, number)

    def keep(self, key: Key, said: Any, *, blank: bool, shared: bool) -> None:
        """Keep what is said of a tile. From any thread.

        `blank`: no voxel of it belongs to an object. `shared`: other tiles hold the same arrays.
        """
        self.said[key] = said
        if blank:
            self.blank.add(key)
        if shared:
            self.shared.add(key)

    def forget(self, number: int) -> None:
        """Forget what no shard from `number` on needs, and lay down what is too much for memory."""
        for key in [key for key in self.said if self.needed[key] < number]:
            self._drop(key)
        held = 0
        in_memory = self.said.keys() - self.shared - self.on_disk
        for key in sorted(in_memory, key=self.needed.__getitem__):
            size = held_bytes(self.said[key])
            held += size
            if size and held > self.most_bytes:
                self._lay_down(key)

    def _lay_down(self, key: Key) -> None:
        try:
            self.said[key] = _in_file(self.said[key], self.folder)
        except OSError as error:
            log.info("%s takes no more of tiles (%s): they are asked again", self.folder, error)
            self._drop(key)
        else:
            self.on_disk.add(key)

    def _drop(self, key: Key) -> None:
        del self.said[key]
        for some in (self.blank, self.shared, self.on_disk):
            some.discard(key)


def _arrays(said: Any) -> dict[str, npt.NDArray[Any]]:
    return {part.name: getattr(said, part.name) for part in dataclasses.fields(said)}


def held_bytes(said: Any) -> int:
    """What a record of arrays takes in memory."""
    return sum(values.nbytes for values in _arrays(said).values())


def _in_file(said: Any, folder: Path) -> Any:
    """The same arrays, in a file without a name that goes when nobody reads it any more."""
    arrays = _arrays(said)
    with tempfile.TemporaryFile(dir=folder) as file:
        for values in arrays.values():
            file.write(values.tobytes())
        file.flush()
        every = np.asarray(np.memmap(file, np.uint8, "r"))
    laid, start = {}, 0
    for name, values in arrays.items():
        stop = start + values.nbytes
        laid[name] = every[start:stop].view(values.dtype).reshape(values.shape)
        start = stop
    return type(said)(**laid)
