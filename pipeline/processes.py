"""Find and end the job processes that submitit started on this machine.

The processes are found by their command line, which holds the array's folder: a process id alone
may have been given to a stranger since, and a driver killed at once may have noted none.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MODULES = ("submitit.local._local", "submitit.core._submit")  # a job's controller, and its task


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of the array in `folder`."""

    folder: Path

    def states(self, jobs: Collection[str]) -> dict[str, str]:
        """Live jobs, whether among `jobs` or not. A job is named by its controller's process id."""
        return {job: "RUNNING" for job, _ in self._live()}

    def cancel(self) -> None:
        """Kill them, with their children. Results are whole or absent, so this loses nothing."""
        live = [process for _, process in self._live()]
        for process in [*live, *(child for parent in live for child in _children(parent))]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def _live(self) -> Iterator[tuple[str, psutil.Process]]:
        for process in psutil.process_iter():
            try:
                words = process.cmdline()  # empty for one that ended and is not yet reaped
                if str(self.folder) not in words or not set(MODULES) & set(words):
                    continue
                # a task outlives its killed controller, and goes on writing under its name
                controller = MODULES[0] in words
                job = process.pid if controller else process.environ()["SUBMITIT_LOCAL_JOB_ID"]
            except (psutil.Error, KeyError, OSError):
                continue
            if process.pid != os.getpid():
                yield str(job), process


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
