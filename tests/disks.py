"""Disks that are small, or become read-only, for tests of what fails."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
KILOBYTE = 1024


@contextlib.contextmanager
def small(folder: Path) -> Iterator[Path]:
    """A disk of 16 MB in this folder, which is made."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*words: str) -> None:
    """Mount, or skip the test where that is not allowed."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine allows no mount: {done.stderr.strip()}")


def fill(ballast: Path) -> None:
    """Write a file that takes all that is left of its disk."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as full:
        while full.write(bytes(4 * KILOBYTE)):
            pass
