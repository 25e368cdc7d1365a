"""The only door to SLURM: run a stage's work as one job array, and see it through.

A job's result is what it leaves on disk, never what it returns. So whatever becomes of a job, the
answer is the same: ask the disk what is missing, and submit that.
"""

import dataclasses
import hashlib
import logging
import math
import re
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from submitit import Job

from . import events, share, sites, slurm
from .arrays import SILENCE_S, Array
from .dealing import MOST_SHARES, shares
from .efforts import Effort, Held, known
from .events import EVENTS
from .failures import FAULTS_OF_A_NODE, Course, Loss, units_in_words
from .guards import cancelling, only_driver, terminable
from .share import Share
from .share import name as unit_name
from .submission import Allocation, BusyError, add_arguments, allocation, devices, submit

__all__ = [
    "Allocation",
    "Effort",
    "Measured",
    "Work",
    "add_arguments",
    "allocation",
    "complete",
    "deal",
    "known",
    "rerun",
    "shares",
]

logger = logging.getLogger("equiscope.cluster")

Unit = TypeVar("Unit")

BUSY_S = 20.0  # before an array is offered again


class Work(Protocol[Unit]):
    """A frozen callable that pickles, and does units of work on any machine that sees the disk."""

    def missing(self) -> Sequence[Unit]:
        """Units that are not done yet, judged from disk."""

    def __call__(self, share: Sequence[Unit]) -> None:
        """Do these units, or what is left of them, and leave the results on disk."""


@runtime_checkable
class Traced(Protocol):
    """Work that makes progress within a unit, too."""

    def trace(self) -> Hashable:
        """What is on disk so far: another value whenever there is more."""


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

    On SLURM jobs queue, so there are as many as `job_gvoxel` asks for, within what the site lets
    an array have; elsewhere all start at once, so there are at most `jobs`.
    """
    sizes, budget = list[float](), math.inf
    if isinstance(work, Measured):
        sizes = [work.size(unit) for unit in units]
        budget = allocation.job_gvoxel if allocation.place == "slurm" else math.inf
    dealt = shares(units, allocation.jobs, sizes, budget)
    if allocation.place != "slurm" or len(dealt) < 2:
        return dealt
    most = sites.most_tasks() or MOST_SHARES
    return (
        dealt
        if len(dealt) <= most
        else shares(units, min(allocation.jobs, most), sizes, budget, most)
    )


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
    with only_driver(folder), terminable(), events.room(folder):
        course, losses = Course(mem_mb=allocation.mem_mb), list[Loss]()
        former = Array.read(folder)
        if former is not None and former.cancelled:
            former.vanish()  # what it raised may be mended since
        elif former is not None and former.may_run():
            logger.info("%s: attached to the array that still runs in %s", name, former.folder)
            mem_mb = max(former.mem_mb, allocation.mem_mb)
            course = Course(mem_mb=mem_mb, faults=former.faults)
            before = _trace(work)
            with cancelling(former):
                losses = former.wait(_watch(work), _shared(allocation))
            former.end()
            course = _next(course, losses, _trace(work) != before, allocation)
        missing = work.missing()
        while missing:
            if course.ended:
                raise RuntimeError(
                    f"{name}: {len(missing)} units stay undone: {course.why(losses)} What became of"
                    f" jobs: {folder / EVENTS}; logs beside it."
                )
            before = _trace(work)
            losses = _run(work, missing, _asked(allocation, course), folder, name, course)
            left = work.missing()
            progress = len(left) < len(missing) or _trace(work) != before
            course = _next(course, losses, progress, allocation)
            if left and not losses:
                logger.warning(
                    "%s: %d units are left of jobs that ended well, as jobs do before their time"
                    " is up: they are submitted again",
                    name,
                    len(left),
                )
            missing = left
        logger.info("%s: done", name)


def rerun(job: Path) -> bool:
    """Do here, unit by unit, what a job of an array left undone; `job` is ARRAY/ID.

    Stops at the first unit that fails, and shows its traceback. Whether all went well.
    Raises ValueError where there is no such job, RuntimeError while a driver is at work.
    """
    job = job.resolve()
    if not job.parent.is_dir():
        raise ValueError(f"there is no folder {job.parent}: give the job as the log does.")
    with only_driver(job.parent.parent):
        return share.rerun(job, lambda text: logger.info("%s", text))


def _next(course: Course, losses: Sequence[Loss], progress: bool, allocation: Allocation) -> Course:
    most_mb = course.mem_mb
    if any(loss.kind == "memory" for loss in losses) and allocation.place == "slurm":
        most_mb = max(sites.memories_mb(allocation.slurm_partition).values(), default=most_mb)
    return course.after(losses, progress, most_mb)


def _asked(allocation: Allocation, course: Course) -> Allocation:
    """The allocation of the next array."""
    asked = dataclasses.replace(allocation, mem_mb=course.mem_mb)
    if allocation.place != "slurm" or not course.faults:
        return asked
    excluded = course.excluded(sites.memories_mb(allocation.slurm_partition))
    if excluded:
        logger.warning(
            "nodes %s failed %d times or more: they get no further jobs",
            ", ".join(excluded),
            FAULTS_OF_A_NODE,
        )
    return dataclasses.replace(asked, exclude=excluded)


def _run(
    work: Work[Unit],
    missing: Sequence[Unit],
    allocation: Allocation,
    folder: Path,
    name: str,
    course: Course,
) -> list[Loss]:
    """Have the missing units done once over; return the jobs that were lost."""
    if allocation.place == "debug":
        for units in deal(work, missing, allocation):
            work(units)
        return []
    seen = devices(allocation) if allocation.place == "local" else [""]
    jobs = allocation.jobs if seen == [""] else min(allocation.jobs, len(seen))
    array = Array.new(allocation.place, _queue_name(folder, name), folder)
    array = dataclasses.replace(array, mem_mb=allocation.mem_mb, faults=course.faults)
    runtime = allocation.runtime if allocation.place == "slurm" else 0
    held = Held(allocation.place, allocation.cpus_per_task, allocation.gpu)
    calls = [
        Share(_only(work, units), units, seen[index % len(seen)], array.folder, runtime, held)
        for index, units in enumerate(
            deal(work, missing, dataclasses.replace(allocation, jobs=jobs))
        )
    ]
    with cancelling(array):
        # recorded before there are jobs: a driver killed while it submits leaves jobs, too
        array.write()
        submitted = _submitted(calls, allocation, array)
        array = dataclasses.replace(
            array,
            jobs=tuple(job.job_id for job in submitted),
            units=tuple(units_in_words([unit_name(u) for u in call.units]) for call in calls),
        )
        array.write()
        logger.info(
            "%s: submitted %d jobs (%s) for %d units, %d MB each, logs in %s",
            name,
            len(calls),
            array.jobs[0].split("_")[0],
            len(missing),
            allocation.mem_mb,
            array.folder,
        )
        losses = array.wait(_watch(work), _shared(allocation))
    if allocation.place == "local":
        for job in submitted:
            job.done()  # reaps the process
    array.end()
    return losses


def _submitted(
    calls: Sequence[Share[Unit]], allocation: Allocation, array: Array
) -> Sequence[Job[None]]:
    """Submit the array, later if SLURM is busy; then it may have taken what it did not confirm."""
    until = time.monotonic() + SILENCE_S
    while True:
        try:
            return submit(calls, allocation, array.folder, array.name)
        except BusyError as error:
            if time.monotonic() > until:
                raise
            logger.warning("%s: SLURM takes no jobs now: %s: trying again", array.name, error)
        time.sleep(BUSY_S)
        queue = slurm.Queue(array.name)
        queue.cancel()
        while _may_have_jobs(queue) and time.monotonic() < until:
            time.sleep(1.0)


def _may_have_jobs(queue: slurm.Queue) -> bool:
    try:
        return bool(queue.states(()))
    except slurm.SilentError:
        return True


def _shared(allocation: Allocation) -> Path | None:
    return Path(allocation.slurm_answers) if allocation.slurm_answers else None


def _trace(work: Work[Unit]) -> Hashable:
    return work.trace() if isinstance(work, Traced) else None


def _only(work: Work[Unit], units: Sequence[Unit]) -> Work[Unit]:
    return work.only(units) if isinstance(work, Measured) else work


def _watch(work: Work[Unit]) -> Callable[[], str]:
    if isinstance(work, Measured):
        return work.watch()
    return lambda: f"{len(work.missing())} units left"


def _queue_name(folder: Path, name: str) -> str:
    """A name for the queue that no other folder's jobs have, and that SLURM takes in lists."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return f"{readable}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
