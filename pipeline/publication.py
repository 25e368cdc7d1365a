"""Putting finished stores where readers look: by rename, whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pipeline import ngff
from pipeline.volumes import attributes, write_group

Inherit = Callable[[Path, Path], None]
ROOM_BYTES = 2**16
"""More than the descriptions of two results, and of the groups that they lie in."""


def check_place(building: Path, target: Path) -> None:
    """Check, before work starts, that what grows in one folder can be renamed into the other.

    Raises OSError where it cannot: one is read-only, or they lie on different file systems.
    """
    building.mkdir(parents=True, exist_ok=True)
    probe, placed = (folder / f".{os.getpid()}.probe" for folder in (building, target))
    try:
        probe.touch()
        probe.rename(placed)
        placed.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        raise OSError(
            f"{target} cannot take what is made in {building}: {error.strerror}. Let both be "
            "writable and lie on one file system."
        ) from error


def find_room(folder: Path) -> None:
    """Find out, before the first rename, that the small files written after it have room.

    A disk that is full by then would leave one result out of its place, and the next not in it.
    Raises OSError where it has no room.
    """
    probe = folder / f".{os.getpid()}.room"
    try:
        with probe.open("wb") as stream:
            # no zeros: some file systems keep none
            stream.write(os.urandom(ROOM_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        probe.unlink(missing_ok=True)


def publish(building: Path, target: Path, inherit: Inherit | None = None) -> None:
    """Put a finished store in its place by rename; what stood there goes only then.

    `inherit` takes, from the old store into the new one, what is to stay of it.
    """
    # What a writer that was killed left half-written beside its file.
    for partial in building.rglob("*.partial"):
        partial.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        settle(target, inherit)
        target.rename(_replaced(target))
    building.rename(target)
    settle(target, inherit)


def settle(target: Path, inherit: Inherit | None = None) -> None:
    """Let go of what stood in the place of a published store, and of what a kill left of that."""
    old = _replaced(target)
    if old.exists():
        if inherit is not None:
            inherit(old, target)
        shutil.rmtree(old)


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def list_children(group: Path, key: Literal["labels", "tables"]) -> None:
    """Make a `labels` or `tables` group name exactly what lies in it.

    Safe beside others that do the same: each looks again after it wrote, so the last to write
    has seen every rename before it.
    """
    group.mkdir(exist_ok=True)
    while True:
        names = sorted(
            child.name
            for child in group.iterdir()
            if (child / "zarr.json").is_file() and not child.name.startswith(".")
        )
        inner = {"version": ngff.OME_VERSION, key: names}
        described = {"ome": inner} if key == "labels" else inner
        if attributes(group) == described:
            return
        write_group(group, described)
