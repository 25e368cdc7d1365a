"""A job array that was submitted: its record on disk, and the wait for its end."""

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from submitit.core.utils import JobPaths, pickle_load

from . import events, failures, sites, slurm
from .failures import Evidence, Kind, Loss
from .processes import Processes

logger = logging.getLogger("equiscope.cluster")

RECORD = "array.json"
GRACE_S = 10.0  # a result may show up on a shared disk after SLURM has seen its job end
SILENCE_S = 3600.0  # a controller under maintenance comes back within the hour
FIRST_POLL_S, LAST_POLL_S, POLL_GROWTH = 0.5, 10.0, 1.25
REMINDER_S = 60.0  # between log lines while nothing changes
QUIET_S = 5.0  # between log lines while everything changes
TRACEBACK_LINES = 12
RESULT_BYTES = 2**16  # a job's result and log fit into so many
LOG_BYTES = 4096  # of a job's log: SLURM says last why it ended it


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Jobs that were submitted together. Its folder holds their pickles and logs, and no others'.

    `name` is the jobs' name in the queue. `host` started the array, as part of the SLURM job
    `within` unless that is empty. `jobs` is empty while the array is being submitted; `units`
    says in words what each of them does. `mem_mb` is what a job gets, `faults` those of a
    `failures.Course` so far, for the next driver.
    """

    place: str
    name: str
    folder: Path
    host: str
    within: str
    jobs: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    mem_mb: int = 0
    faults: tuple[str, ...] = ()
    ended: bool = False
    cancelled: bool = False

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
        own = folder / facts.pop("folder")
        lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
        return cls(**facts | lists, folder=own)

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

    def wait(self, progress: Callable[[], str], shared: Path | None = None) -> list[Loss]:
        """Wait until no job runs or will run; return those that left no result.

        `progress` says for the log how far the work is; it is asked every minute or so. `shared`
        is that of a `slurm.Queue`.
        Raises RuntimeError when a job ended in a way that the next would, too, and
        `slurm.SilentError` when nothing has been heard of the jobs for too long.
        """
        crowd, report = self._crowd(shared), _Report(self.name, progress)
        grace = 0.0 if self.place == "local" else GRACE_S
        waiting, finished, lost = set(self.jobs), set[str](), dict[str, Loss]()
        heard, vanished, pause = time.monotonic(), dict[str, float](), FIRST_POLL_S
        before: dict[str, slurm.Standing] = {}
        while True:
            states = self._heard(crowd, waiting, heard)
            now = time.monotonic()
            heard = heard if states is None else now
            self._note_restarts(crowd, before)
            # results after states: who has left by now has left its result, too
            for job in self._results() - finished:
                finished.add(job)
                if loss := self._raised(job):
                    lost[job] = loss
                    self._note(loss)
            live = {job for job, state in (states or {}).items() if slurm.is_live(state)}
            # a local process is waited for to its end, a job on SLURM to its result
            done = finished - live if self.place == "local" else finished
            waiting = (waiting | live) - done
            for job in waiting - live if states is not None else ():
                if now - vanished.setdefault(job, now) >= grace:
                    loss = self._gone(job, (states or {}).get(job, "vanished"), crowd)
                    if loss.kind in failures.FATAL:
                        self._stop(loss)
                    lost[job] = loss
                    self._note(loss)
            vanished = {job: since for job, since in vanished.items() if job not in live}
            waiting -= lost.keys()
            if not waiting and (states is not None or self.jobs):
                return list(lost.values())
            report(states, waiting)
            time.sleep(pause)
            pause = min(pause * POLL_GROWTH, LAST_POLL_S)

    def cancel(self) -> None:
        """End all jobs. On SLURM this takes effect later: some may still run for seconds."""
        self._crowd().cancel()
        if self.place == "local":
            self.end()
        elif current := Array.read(self.folder.parent):
            with contextlib.suppress(OSError):  # a full disk may be why
                dataclasses.replace(current, cancelled=True).write()

    def vanish(self) -> None:
        """Wait until no job of an array that was cancelled runs any more.

        Raises `slurm.SilentError` where that does not come about.
        """
        until = time.monotonic() + SILENCE_S
        while self.may_run():
            if time.monotonic() > until:
                raise slurm.SilentError(f"{self.name}: its jobs were cancelled, and may still run.")
            time.sleep(slurm.SPACING_S)
        self.end()

    def end(self) -> None:
        """Record that no job runs any more."""
        dataclasses.replace(self, ended=True).write()

    def log(self, job: str) -> Path:
        """Where the job writes its errors."""
        return JobPaths(self.folder, job).stderr

    def _crowd(self, shared: Path | None = None) -> slurm.Queue | Processes:
        return Processes(self.folder) if self.place == "local" else slurm.Queue(self.name, shared)

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

    def _raised(self, job: str) -> Loss | None:
        """The loss of a job that left an exception; None of one that ended well."""
        outcome, text = pickle_load(JobPaths(self.folder, job).result_pickle)
        if outcome != "error":
            return None
        evidence, node, said = failures.read_note(text)
        kind = failures.kind(evidence)
        lines = said.splitlines()
        loss = Loss(job=job, kind=kind, state=lines[-1], node=node, units=self._units(job))
        if kind in failures.FATAL:
            self._stop(loss, ["Its traceback ends so:", *lines[-TRACEBACK_LINES:]])
        return loss

    def _stop(self, loss: Loss, said: Sequence[str] = ()) -> NoReturn:
        """Note the loss of a job, and raise RuntimeError, since the next would fail like it."""
        self._note(loss)
        rerun = [sys.executable, "-m", "pipeline", "rerun", str(self.folder / loss.job)]
        remedy = (
            "Make room on the disk, or have it mounted writable, and run again: what was written "
            "stays."
            if loss.kind == "disk"
            else f"To see it happen on one unit, in this shell:  {shlex.join(rerun)}"
        )
        what = f"job {loss.job} raised {loss.state}" if said else str(loss)
        log = f"The others are cancelled. Log: {self.log(loss.job)}."
        raise RuntimeError("\n".join([f"{self.name}: {what}", log, *said, remedy]))

    def _gone(self, job: str, state: str, crowd: slurm.Queue | Processes) -> Loss:
        """The loss of a job that left nothing but its log."""
        said = self._end_of_log(job)
        disk = shutil.disk_usage(self.folder)
        full = disk.total > 0 and disk.free < RESULT_BYTES
        kind = failures.kind(Evidence(state=state.split()[0], said=said, full=full))
        state = failures.last_words(said) if kind == "setup" else state
        node = crowd.seen[job].node if isinstance(crowd, slurm.Queue) and job in crowd.seen else ""
        if self.place == "local":
            node = self.host
        return Loss(job=job, kind=kind, state=state, node=node, units=self._units(job))

    def _note_restarts(
        self, crowd: slurm.Queue | Processes, before: dict[str, slurm.Standing]
    ) -> None:
        """Say of jobs that SLURM has started again on its own, or is about to."""
        for job, now in crowd.seen.items() if isinstance(crowd, slurm.Queue) else ():
            former = before.get(job, slurm.Standing(state="", node=now.node))
            before[job] = now
            for restart in range(former.restarts, now.restarts):
                told = failures.in_log(self._end_of_log(job))
                down = told == "node" or (told != "preemption" and sites.troubled(former.node))
                kind: Kind = "node" if down else "preemption"
                state, units = f"restart {restart + 1}", self._units(job)
                again = Loss(job=job, kind=kind, state=state, node=former.node, units=units)
                self._note(again, "SLURM starts it again, with what it has left to do")

    def _note(self, loss: Loss, answer: str = "") -> None:
        """One line for what happened to a job: in the record of events, and in the log."""
        answer = answer or failures.ANSWERS[loss.kind]
        events.note(self.folder.parent, dataclasses.asdict(loss) | {"answer": answer})
        logger.warning("%s: %s: %s. Log: %s", self.name, loss, answer, self.log(loss.job))

    def _units(self, job: str) -> str:
        return dict(zip(self.jobs, self.units, strict=False)).get(job, failures.units_in_words(()))

    def _end_of_log(self, job: str) -> str:
        try:
            with self.log(job).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""


class _Report:
    """Says in the log what is waited for: when it changes, and now and then."""

    def __init__(self, name: str, progress: Callable[[], str]) -> None:
        self.name, self.progress = name, progress
        self.said, self.at = "", float("-inf")
        self.warned = set[str]()

    def __call__(self, states: Mapping[str, str] | None, waiting: Collection[str]) -> None:
        counts = Counter((states or {}).get(job, "vanished") for job in waiting)
        for words in {slurm.held(state, self.name) for state in counts} - self.warned - {""}:
            logger.warning("%s: jobs are %s", self.name, words)
            self.warned.add(words)
        text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        text = text if states is not None else f"{len(waiting)} jobs; SLURM does not answer"
        age = time.monotonic() - self.at
        if age >= (QUIET_S if text != self.said else REMINDER_S):
            logger.info("%s: waiting: %s; %s", self.name, text, self.progress())
            self.said, self.at = text, time.monotonic()
