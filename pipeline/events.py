"""The record of what happened to jobs: one line for each event, even when the disk is full."""

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger("equiscope.cluster")

EVENTS = "events.jsonl"
ROOM = "events.room"
ROOM_BYTES = 8192
"""Kept until it is needed: a dozen events."""


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """Hold room for events meanwhile: the disk is full when there is most to say."""
    held = folder / ROOM
    with contextlib.suppress(OSError):
        held.write_bytes(os.urandom(ROOM_BYTES))  # some file systems store zeros as nothing
    try:
        yield
    finally:
        held.unlink(missing_ok=True)


def note(folder: Path, event: Mapping[str, Any]) -> None:
    """Add an event, and when it was."""
    line = json.dumps({"time": time.time(), **event}) + "\n"
    try:
        try:
            _append(folder, line)
        except OSError:
            (folder / ROOM).unlink()
            _append(folder, line)
    except OSError as error:  # what follows decides nothing by it, and the log has the line
        logger.debug("no record of that: %s", error)


def _append(folder: Path, line: str) -> None:
    """Write a whole line, or nothing."""
    whole = line.encode()
    with (folder / EVENTS).open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        if file.write(whole) != len(whole):
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
