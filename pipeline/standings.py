"""What the jobs of recorded arrays do, as this machine or SLURM says when asked once."""

import getpass
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil

from pipeline import sites, slurm

ANSWER_S = 15.0


class Queue:
    """Jobs of this user on SLURM, asked for at most once."""

    def __init__(self) -> None:
        self.jobs: Mapping[str, Counter[str]] | None = None

    def standing(self, array: Mapping[str, Any]) -> str:
        """Of an array whose end nobody recorded, what its jobs do; empty where none is left."""
        if array["place"] == "local":
            return _processes(array)
        if self.jobs is None:
            self.jobs = _queued()
        counts = self.jobs.get(array["name"], Counter())
        if "unknown" in self.jobs:
            return f"{len(array['jobs'])} jobs on SLURM, which does not answer"
        return ", ".join(f"{count} jobs {state}" for state, count in sorted(counts.items()))


def _processes(array: Mapping[str, Any]) -> str:
    if array["host"] != socket.gethostname():
        return f"{len(array['jobs'])} processes on {array['host']}, if they have not ended"
    alive = sum(psutil.pid_exists(int(job)) for job in array["jobs"] if str(job).isdecimal())
    return f"{alive} processes" if alive else ""


def _queued() -> dict[str, Counter[str]]:
    """States of this user's jobs that pend or run, by name; "unknown" where SLURM is silent."""
    command = ["squeue", "--noheader", "--array", "--format=%j|%T|%r"]
    command.append(f"--user={getpass.getuser()}")
    said = sites.ask(*command, within_s=ANSWER_S)
    if said is None:
        return {"unknown": Counter()}
    found: dict[str, Counter[str]] = {}
    for line in said.splitlines():
        name, state, reason = line.strip().rsplit("|", 2)
        held = slurm.held(reason, name) if state == "PENDING" else ""
        found.setdefault(name, Counter())[held or state.lower()] += 1
    return found
