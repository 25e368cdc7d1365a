"""One job's call: what travels to a job, how it ends, and how to do it again by hand."""

import datetime
import json
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import psutil
from submitit.core.utils import DelayedSubmission, JobPaths

from .arrays import Array
from .efforts import ALONE, Held, recorded
from .failures import NOTE

logger = logging.getLogger("equiscope.cluster")

Unit = TypeVar("Unit")
END = "EQUISCOPE_JOB_END"
"""Variable of a job that is ended at a known time, in seconds since 1970; see boundaries.py."""


class Calls(Protocol[Unit]):
    """The part of the work that a job needs."""

    def missing(self) -> Sequence[Unit]:
        """Units that are not done yet."""

    def __call__(self, share: Sequence[Unit]) -> None:
        """Do these units."""


@dataclass(frozen=True, slots=True)
class Share(Generic[Unit]):
    """One job's call.

    Attributes
    ----------
    devices: the GPUs it shall see; empty leaves them as they are.
    folder: of its array.
    runtime: its time limit in minutes; 0 where it has none.
    held: what it has for itself while it runs.
    """

    work: Calls[Unit]
    units: Sequence[Unit]
    devices: str
    folder: Path
    runtime: int = 0
    held: Held = ALONE

    def __call__(self) -> None:
        """Do the units, or what is left of them if SLURM has started the job again."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
        if self.devices:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.devices
        if self.runtime:
            os.environ[END] = str(_end(self.runtime))
        units = self.units
        if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
            # SLURM may start a job again long after its driver gave it up, or saw its result
            current = Array.read(self.folder.parent)
            if current is None or current.ended or current.folder.name != self.folder.name:
                logger.warning("this job's array has ended: nothing is left to do")
                return
            units = self.left()
        if units:
            try:
                with recorded(self.folder, self.held):
                    self.work(units)
            except Exception as error:
                error.add_note(_note(error))
                raise

    def left(self) -> list[Unit]:
        """Those of its units that are not done."""
        missing = set(self.work.missing())
        return [unit for unit in self.units if unit in missing]


def name(unit: object) -> str:
    """A unit's name: its own, or how it is written."""
    return str(getattr(unit, "name", unit))


def _end(runtime: int) -> float:
    """When SLURM ends this job. Its first process, a shell, became this one."""
    said = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(said) if said.isdecimal() else psutil.Process().create_time() + 60 * runtime


def _note(error: Exception) -> str:
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    names = [each.__name__ for each in type(error).__mro__]
    number = error.errno if isinstance(error, OSError) else 0
    return NOTE + json.dumps({"raised": names, "errno": number or 0, "node": node})


def rerun(job: Path, say: Callable[[str], None]) -> bool:
    """Do what a job left undone in this process, unit by unit, up to the first that fails.

    `job` is ARRAY/ID, as the log says it. Whether all went well; `say` gets the traceback of what
    did not. Raises ValueError where there is no such job, RuntimeError while others are at work.
    """
    pickle = JobPaths(job.parent, job.name).submitted_pickle
    if not pickle.is_file():
        raise ValueError(f"there is no {pickle}: give the job as the log does, ARRAY/ID.")
    share = DelayedSubmission.load(pickle).function
    if not isinstance(share, Share):
        raise ValueError(f"{pickle} is no job of ours.")
    current = Array.read(job.parent.parent)
    if current is not None and current.may_run():
        raise RuntimeError(f"jobs of {current.folder} still run: wait for their end.")
    for unit in share.left():
        began = time.monotonic()
        try:
            share.work([unit])
        except Exception:
            say(f"{traceback.format_exc()}unit {name(unit)} of job {job.name} failed, as above")
            return False
        took = datetime.timedelta(seconds=round(time.monotonic() - began))
        say(f"unit {name(unit)} is done, in {took}")
    return True
