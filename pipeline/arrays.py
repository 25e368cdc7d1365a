"""A job array that was submitted: its record on disk, and the wait for its end."""

import dataclasses
import json
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from submitit.core.utils import JobPaths, pickle_load

from . import slurm
from .processes import Processes

logger = logging.getLogger("equiscope.cluster")

RECORD = "array.json"
GRACE_S = 10.0  # a result may show up on a shared disk after SLURM has seen its job end
SILENCE_S = 3600.0  # a controller under maintenance comes back within the hour
FIRST_POLL_S, LAST_POLL_S, POLL_GROWTH = 0.5, 10.0, 1.25
REMINDER_S = 60.0  # between log lines while nothing changes
QUIET_S = 5.0  # between log lines while everything changes
TRACEBACK_LINES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Jobs that were submitted together. Its folder holds their pickles and logs, and no others'.

    `name` is the jobs' name in the queue. `host` started the array, as part of the SLURM job
    `within` unless that is empty. `jobs` is empty while the array is being submitted.
    """

    place: str
    name: str
    folder: Path
    host: str
    within: str
    jobs: tuple[str, ...] = ()
    ended: bool = False

    @classmethod
    def new(cls, place: str, name: str, folder: Path) -> Self:
        """An array without jobs, in a new folder inside `folder`.

        Every array has its own, since ids come back: process ids do, and job ids do where a
        controller was set up anew. An old result would pass for a new one.
        """
        numbers = [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]
        own = folder / f"{max(numbers, default=0) + 1:03d}"
        own.mkdir()
        within = os.environ.get("SLURM_JOB_ID", "")
        return cls(place=place, name=name, folder=own, host=socket.gethostname(), within=within)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The last array submitted from `folder`, if there was one."""
        try:
            facts = json.loads((folder / RECORD).read_text())
        except FileNotFoundError:
            return None
        own, jobs = folder / facts.pop("folder"), tuple(facts.pop("jobs"))
        return cls(**facts, folder=own, jobs=jobs)

    def write(self) -> None:
        """Record the array, so that the next driver finds it. The record is whole at any moment."""
        facts = dataclasses.asdict(self) | {"folder": self.folder.name}
        path = self.folder.parent / RECORD
        part = path.with_suffix(".part")
        part.write_text(json.dumps(facts, indent=1))
        part.replace(path)

    def may_run(self) -> bool:
        """Whether some of the jobs may still write.

        Raises RuntimeError where this can't be seen from here: for processes of another machine.
        """
        if self.ended:
            return False
        if self.place == "local" and self.host != socket.gethostname():
            # SLURM ends a job's processes with the job
            if self.within and not slurm.may_run(self.within):
                return False
            raise RuntimeError(
                f"An earlier run started processes on {self.host}, which may still write. Go on"
                f" there; or, if they have ended, delete {self.folder.parent / RECORD}."
            )
        try:
            return any(map(slurm.is_live, self._crowd().states(self.jobs).values()))
        except slurm.SilentError:
            return True

    def wait(self, progress: Callable[[], str]) -> dict[str, str]:
        """Wait until no job runs or will run; return the state of those that left no result.

        `progress` says for the log how far the work is; it is asked every minute or so.
        Raises RuntimeError when the work raised in a job, and `slurm.SilentError` when nothing has
        been heard of the jobs for too long.
        """
        crowd, report = self._crowd(), _Report(self.name, progress)
        grace = 0.0 if self.place == "local" else GRACE_S
        waiting, finished, lost = set(self.jobs), set[str](), dict[str, str]()
        heard, vanished, pause = time.monotonic(), dict[str, float](), FIRST_POLL_S
        while True:
            states = self._heard(crowd, waiting, heard)
            now = time.monotonic()
            heard = heard if states is None else now
            # results after states: who has left by now has left its result, too
            for job in self._results() - finished:
                self._check(job)
                finished.add(job)
            live = {job for job, state in (states or {}).items() if slurm.is_live(state)}
            # a local process is waited for to its end, a job on SLURM to its result
            done = finished - live if self.place == "local" else finished
            waiting = (waiting | live) - done
            for job in waiting - live if states is not None else ():
                if now - vanished.setdefault(job, now) >= grace:
                    lost[job] = (states or {}).get(job, "vanished")
                    logger.warning(
                        "%s: job %s lost: %s; what it left undone is submitted again. Log: %s",
                        self.name,
                        job,
                        lost[job],
                        self.log(job),
                    )
            vanished = {job: since for job, since in vanished.items() if job not in live}
            waiting -= lost.keys()
            if not waiting and (states is not None or self.jobs):
                return lost
            report(states, waiting)
            time.sleep(pause)
            pause = min(pause * POLL_GROWTH, LAST_POLL_S)

    def cancel(self) -> None:
        """End all jobs. On SLURM this takes effect later: some may still run for seconds."""
        self._crowd().cancel()
        if self.place == "local":
            self.end()

    def end(self) -> None:
        """Record that no job runs any more."""
        dataclasses.replace(self, ended=True).write()

    def log(self, job: str) -> Path:
        """Where the job writes its errors."""
        return JobPaths(self.folder, job).stderr

    def _crowd(self) -> slurm.Queue | Processes:
        return Processes(self.folder) if self.place == "local" else slurm.Queue(self.name)

    def _heard(
        self, crowd: slurm.Queue | Processes, jobs: Collection[str], heard: float
    ) -> dict[str, str] | None:
        try:
            return crowd.states(jobs)
        except slurm.SilentError as error:
            if time.monotonic() - heard < SILENCE_S:
                return None
            raise slurm.SilentError(
                f"{self.name}: {error} Jobs may still run: {', '.join(sorted(jobs))}. Start again"
                " when SLURM is back: they are found and waited for."
            ) from error

    def _results(self) -> set[str]:
        ending = "_0_result.pkl"
        return {
            entry.name.removesuffix(ending)
            for entry in self.folder.iterdir()
            if entry.name.endswith(ending)
        }

    def _check(self, job: str) -> None:
        outcome, traceback = pickle_load(JobPaths(self.folder, job).result_pickle)
        if outcome == "error":
            lines = traceback.strip().splitlines()
            end = "\n".join(lines[-TRACEBACK_LINES:])
            raise RuntimeError(
                f"{self.name}: job {job} raised {lines[-1]}\n"
                f"The others are cancelled. Log: {self.log(job)}. Its traceback ends so:\n{end}"
            )


class _Report:
    """Says in the log what is waited for: when it changes, and now and then."""

    def __init__(self, name: str, progress: Callable[[], str]) -> None:
        self.name, self.progress = name, progress
        self.said, self.at = "", float("-inf")

    def __call__(self, states: Mapping[str, str] | None, waiting: Collection[str]) -> None:
        counts = Counter((states or {}).get(job, "vanished") for job in waiting)
        text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        text = text if states is not None else f"{len(waiting)} jobs; SLURM does not answer"
        age = time.monotonic() - self.at
        if age >= (QUIET_S if text != self.said else REMINDER_S):
            logger.info("%s: waiting: %s; %s", self.name, text, self.progress())
            self.said, self.at = text, time.monotonic()
