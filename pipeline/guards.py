"""What surrounds a driver's work: it is the only one, it can be ended, and it leaves no job."""

import contextlib
import fcntl
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from . import slurm
from .arrays import Array

logger = logging.getLogger("equiscope.cluster")


@contextlib.contextmanager
def cancelling(array: Array) -> Iterator[None]:
    """Leave no job behind: whatever interrupts the wait cancels them. Silence alone does not."""
    try:
        yield
    except slurm.SilentError:
        raise
    except BaseException as error:
        logger.warning("%s: cancelling its jobs after %s", array.name, type(error).__name__)
        # a second Ctrl-C waits until nothing is left behind
        impatience = {signal.SIGINT, signal.SIGTERM}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, impatience)
        try:
            array.cancel()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise


@contextlib.contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Refuse a second driver while one is at work: both would submit what is missing."""
    with (folder / "driver.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"Another process is at work on {folder}: wait for it, or end it."
            ) from error
        except OSError as error:  # a file system without locks; Snakemake's own lock remains
            logger.debug("no lock on %s: %s", folder, error)
        yield


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise SystemExit(143), as Ctrl-C raises KeyboardInterrupt."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
