"""What the network said of tiles, kept as long as later shards need it: in memory, or on disk."""

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.instances import Pointers, Votes
from pipeline.tiles import Box

log = logging.getLogger("equiscope.kept")
Key = tuple[int, Box]
"""A frame, and a tile of it."""


class Kept:
    """What is known of tiles, at most `most_bytes` of it in memory between groups of shards.

    Votes and centres are small, and stay until no shard is left that needs them. Pointers are
    large: those that would be needed latest are laid into files without a name in `folder`, which
    end with the process. Where the disk is full, their tile is asked again.
    """

    def __init__(self, most_bytes: float, folder: Path) -> None:
        self.most_bytes, self.folder = most_bytes, folder
        self.pointers: dict[Key, Pointers] = {}
        self.votes: dict[Key, Any] = {}
        self.centres: dict[Key, Any] = {}
        self.blank: set[Key] = set()
        self.shared: set[Key] = set()
        self.on_disk: set[Key] = set()
        self.labelled: dict[Key, int] = {}
        self.voting: dict[Key, int] = {}

    def expect(self, number: int, labelled: Iterable[Key], voting: Iterable[Key]) -> None:
        """Expect that shard `number`, later than all before, needs pointers and votes of these."""
        self.labelled |= dict.fromkeys(labelled, number)
        self.voting |= dict.fromkeys(voting, number)

    def keep(
        self, key: Key, pointers: Pointers, votes: Votes, *, blank: bool, shared: bool
    ) -> None:
        """Keep what is said of a tile. From any thread.

        `blank`: no voxel of it belongs to an object. `shared`: other tiles hold the same pointers.
        """
        self.pointers[key], self.votes[key] = pointers, votes
        if blank:
            self.blank.add(key)
        if shared:
            self.shared.add(key)

    def forget(self, number: int) -> None:
        """Forget what no shard from `number` on needs, and lay down what is too much for memory."""
        for key in [key for key in self.votes if self.voting[key] < number]:
            del self.votes[key]
            self.centres.pop(key, None)
        for key in [key for key in self.pointers if self.labelled.get(key, -1) < number]:
            self._drop(key)
        held = 0
        in_memory = self.pointers.keys() - self.shared - self.on_disk
        for key in sorted(in_memory, key=self.labelled.__getitem__):
            held += self.pointers[key].bytes
            if held > self.most_bytes:
                self._lay_down(key)

    def _lay_down(self, key: Key) -> None:
        try:
            self.pointers[key] = _in_file(self.pointers[key], self.folder)
        except OSError as error:
            log.info("%s takes no more pointers (%s): a tile is asked again", self.folder, error)
            self._drop(key)
        else:
            self.on_disk.add(key)

    def _drop(self, key: Key) -> None:
        del self.pointers[key]
        for some in (self.blank, self.shared, self.on_disk):
            some.discard(key)


def _in_file(pointers: Pointers, folder: Path) -> Pointers:
    """The same pointers, in a file without a name that goes when nobody reads it any more."""
    logit, steps = pointers.logit, pointers.steps
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(logit.tobytes() + steps.tobytes())
        file.flush()
        values = np.asarray(np.memmap(file, np.uint8, "r"))
    return Pointers(
        values[: logit.nbytes].view(logit.dtype).reshape(logit.shape),
        values[logit.nbytes :].view(steps.dtype).reshape(steps.shape),
    )
