"""What the network said of tiles, kept as long as later shards need it and memory allows."""

from collections.abc import Iterable

from pipeline.instances import Places, Pointers, Votes
from pipeline.tiles import Box

Key = tuple[int, Box]
"""A frame, and a tile of it."""


class Kept:
    """What is known of tiles, at most `most_bytes` of it from one group of shards to the next.

    Votes and centres are small, and stay until no shard is left that needs them. Pointers are
    large: those that would be needed latest go first, and their tile is asked again.
    """

    def __init__(self, most_bytes: float) -> None:
        self.most_bytes = most_bytes
        self.pointers: dict[Key, Pointers] = {}
        self.votes: dict[Key, Votes] = {}
        self.centres: dict[Key, Places] = {}
        self.blank: set[Key] = set()
        self.shared: set[Key] = set()
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
        """Forget what no shard from `number` on needs, and what memory does not hold."""
        for key in [key for key in self.votes if self.voting[key] < number]:
            del self.votes[key]
            self.centres.pop(key, None)
        for key in [key for key in self.pointers if self.labelled.get(key, -1) < number]:
            self._drop(key)
        held = 0
        for key in sorted(self.pointers.keys() - self.shared, key=self.labelled.__getitem__):
            held += self.pointers[key].bytes
            if held > self.most_bytes:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        del self.pointers[key]
        self.blank.discard(key)
        self.shared.discard(key)
