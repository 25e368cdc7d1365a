"""The only door to SLURM: run a stage's work as one job array, and see it through.

A job's result is what it leaves on disk, never what it returns. So whatever becomes of a job, the
answer is the same: ask the disk what is missing, and submit that.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import logging
import math
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Generic, NoReturn, Protocol, TypeVar, runtime_checkable

from . import slurm
from .arrays import Array
from .dealing import shares
from .submission import Allocation, add_arguments, allocation, devices, submit

__all__ = [
    "Allocation",
    "Measured",
    "Work",
    "add_arguments",
    "allocation",
    "complete",
    "deal",
    "shares",
]

logger = logging.getLogger("equiscope.cluster")

Unit = TypeVar("Unit")

RESUBMISSIONS = 3  # in a row without progress: one may be bad luck, three have one cause


class Work(Protocol[Unit]):
    """A frozen callable that pickles, and does units of work on any machine that sees the disk."""

    def missing(self) -> Sequence[Unit]:
        """Units that are not done yet, judged from disk."""

    def __call__(self, share: Sequence[Unit]) -> None:
        """Do these units, or what is left of them, and leave the results on disk."""


@runtime_checkable
class Measured(Work[Unit], Protocol[Unit]):
    """Work whose units have a size, and that can say how far it is."""

    def size(self, unit: Unit) -> float:
        """Billions of voxels in a unit."""

    def only(self, share: Sequence[Unit]) -> "Measured[Unit]":
        """The same work with these units alone: all that travels to a job."""

    def watch(self) -> Callable[[], str]:
        """Begin to watch jobs at work. What comes says, each time, how far they are."""


def deal(work: Work[Unit], units: Sequence[Unit], allocation: Allocation) -> list[Sequence[Unit]]:
    """Deal units to jobs, in their order.

    On SLURM jobs queue, so there are as many as `job_gvoxel` asks for; elsewhere all start at
    once, so there are at most `jobs`.
    """
    if not isinstance(work, Measured):
        return shares(units, allocation.jobs)
    budget = allocation.job_gvoxel if allocation.place == "slurm" else math.inf
    return shares(units, allocation.jobs, [work.size(unit) for unit in units], budget)


def complete(work: Work[Unit], allocation: Allocation, folder: Path, name: str) -> None:
    """Do all of `work` that is missing, and return when none is.

    `folder` keeps the array's record, pickles and logs; a driver that was killed is followed by
    the next one with the same folder, which first waits for the jobs that still run. `name` is
    what the queue shows. An interrupt cancels the jobs.

    Raises RuntimeError, with the end of the job's traceback, when the work raised in a job (in
    `debug`, what the work raised); when resubmitting makes no progress; when SLURM stays silent
    (the jobs then go on).
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with _only_driver(folder), _terminable():
        former = Array.read(folder)
        if former is not None and former.may_run():
            logger.info("%s: attached to the array that still runs in %s", name, former.folder)
            with _cancelling(former):
                former.wait(_watch(work))
            former.end()
        missing = work.missing()
        fruitless = 0
        while missing:
            lost = _run(work, missing, allocation, folder, name)
            left = work.missing()
            fruitless = 0 if len(left) < len(missing) else fruitless + 1
            if fruitless > RESUBMISSIONS:
                causes = ", ".join(sorted(set(lost.values()))) or "the jobs ended well"
                raise RuntimeError(
                    f"{name}: {len(left)} units stay undone after {RESUBMISSIONS} resubmissions"
                    f" without progress: {causes}. Logs: {folder}. Raise mem_mb if jobs are"
                    " killed, runtime if they time out."
                )
            missing = left
        logger.info("%s: done", name)


def _run(
    work: Work[Unit], missing: Sequence[Unit], allocation: Allocation, folder: Path, name: str
) -> Mapping[str, str]:
    """Have the missing units done once over; return the states of jobs that were lost."""
    if allocation.place == "debug":
        for share in deal(work, missing, allocation):
            work(share)
        return {}
    seen = devices(allocation) if allocation.place == "local" else [""]
    jobs = allocation.jobs if seen == [""] else min(allocation.jobs, len(seen))
    array = Array.new(allocation.place, _queue_name(folder, name), folder)
    calls = [
        _Share(_only(work, units), units, seen[index % len(seen)], array.folder)
        for index, units in enumerate(
            deal(work, missing, dataclasses.replace(allocation, jobs=jobs))
        )
    ]
    with _cancelling(array):
        # recorded before there are jobs: a driver killed while it submits leaves jobs, too
        array.write()
        submitted = submit(calls, allocation, array.folder, array.name)
        array = dataclasses.replace(array, jobs=tuple(job.job_id for job in submitted))
        array.write()
        logger.info(
            "%s: submitted %d jobs (%s) for %d units, logs in %s",
            name,
            len(calls),
            array.jobs[0].split("_")[0],
            len(missing),
            array.folder,
        )
        lost = array.wait(_watch(work))
    if allocation.place == "local":
        for job in submitted:
            job.done()  # reaps the process
    array.end()
    return lost


def _only(work: Work[Unit], units: Sequence[Unit]) -> Work[Unit]:
    return work.only(units) if isinstance(work, Measured) else work


def _watch(work: Work[Unit]) -> Callable[[], str]:
    if isinstance(work, Measured):
        return work.watch()
    return lambda: f"{len(work.missing())} units left"


@dataclass(frozen=True, slots=True)
class _Share(Generic[Unit]):
    """One job's call. `devices` are the GPUs it shall see; empty leaves them as they are."""

    work: Work[Unit]
    units: Sequence[Unit]
    devices: str
    folder: Path

    def __call__(self) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        if self.devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.devices
        units = self.units
        if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
            # SLURM may start a job again long after its driver gave it up, or saw its result
            current = Array.read(self.folder.parent)
            if current is None or current.ended or current.folder.name != self.folder.name:
                logger.warning("this job's array has ended: nothing is left to do")
                return
            missing = set(self.work.missing())
            units = [unit for unit in units if unit in missing]
        if units:
            self.work(units)


def _queue_name(folder: Path, name: str) -> str:
    """A name for the queue that no other folder's jobs have, and that SLURM takes in lists."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return f"{readable}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def _cancelling(array: Array) -> Iterator[None]:
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
def _only_driver(folder: Path) -> Iterator[None]:
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
def _terminable() -> Iterator[None]:
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
