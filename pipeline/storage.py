"""What the disk that holds a campaign can do: room, files, atomic renames, bytes that last."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """What is left on a file system; None where it sets no limit on files. Quotas may be lower."""

    free_bytes: int
    free_files: int | None


def room(folder: Path) -> Room:
    """What is left where a folder is, or will be."""
    found = os.statvfs(existing(folder))
    # file systems that make inodes as they need them have none, or say so with zero
    files = found.f_favail if found.f_files else None
    return Room(found.f_bavail * found.f_frsize, files)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def faults(results: Path, folders: list[str]) -> list[str]:
    """Why results cannot be made here, one sentence each.

    Writes small files into the results' folder, and takes them away again. `folders` are the
    stages', which results are renamed between.
    """
    try:
        with _probed(results) as probe:
            _try(probe)
            return _apart(results, folders)
    except OSError as error:
        what = error.filename or str(results)
        sentence = (
            f"results is {str(results)!r}: {_sentence(error)} ({what}). Give a folder that you may "
            "write to, on a disk that keeps what it is given."
        )
        return [sentence]


@contextlib.contextmanager
def _probed(results: Path) -> Iterator[Path]:
    """A folder to try things in. Folders that were made for it go, too."""
    made = [place for place in (results, *results.parents) if not place.exists()]
    probe = results / f".probe-{os.getpid()}"
    probe.mkdir(parents=True)
    try:
        yield probe
    finally:
        shutil.rmtree(probe, ignore_errors=True)
        for place in made:
            with contextlib.suppress(OSError):  # somebody else's work is in it by now
                place.rmdir()


def _try(probe: Path) -> None:
    """Write, rename over a file and over a folder's place, and read back.

    Raises OSError where one of these fails or does something else.
    """
    old, new = probe / "old", probe / "new"
    old.write_bytes(b"old")
    with new.open("wb") as stream:
        stream.write(b"new")
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(old)
    if old.read_bytes() != b"new" or new.exists():
        raise OSError(errno.EIO, "a file renamed over another does not take its place", str(old))
    folder = probe / "building"
    folder.mkdir()
    (folder / "inside").write_bytes(b"x")
    folder.rename(probe / "target")
    if (probe / "target" / "inside").read_bytes() != b"x":
        raise OSError(errno.EIO, "a folder that is renamed loses what is in it", str(folder))
    descriptor = os.open(probe, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _apart(results: Path, folders: list[str]) -> list[str]:
    """Folders of stages that lie elsewhere: what is made in one cannot be renamed into another."""
    home = results.stat().st_dev
    return [
        f"{results / name} lies on another file system than {results}: what is made in one is "
        "renamed into the other. Let both lie on one, or give a results folder that does."
        for name in folders
        if (results / name).exists() and (results / name).stat().st_dev != home
    ]


def _sentence(error: OSError) -> str:
    return (error.strerror or str(error))[:1].lower() + (error.strerror or str(error))[1:]
