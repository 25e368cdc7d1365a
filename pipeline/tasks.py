"""What waits for what, as a Dask graph on threads."""

from collections.abc import Callable, Sequence
from typing import Any

import dask.threaded


class Tasks:
    """Calls that wait for each other, as one Dask graph."""

    def __init__(self) -> None:
        self.graph: dict[str, tuple[Any, ...]] = {}

    def add(self, call: Callable[[], None], after: Sequence[str] = ()) -> str:
        """Add a call that waits for others. Returns its name."""
        name = f"{len(self.graph)}"
        self.graph[name] = (_done, call, list(after))
        return name

    def run(self, workers: int) -> None:
        """Make all calls, on so many threads."""
        dask.threaded.get(self.graph, list(self.graph), num_workers=workers)


def _done(call: Callable[[], None], _: Sequence[None]) -> None:
    call()
