"""Ask SLURM what became of jobs, and cancel them.

Three sources, in this order, since each of them forgets or fails in its own way: `squeue` knows
what runs and, for minutes, what ended; `sacct` remembers, where a site keeps accounts;
`scontrol` is a second look at the controller.
"""

import logging
import os
import re
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from submitit.slurm.slurm import SlurmInfoWatcher

logger = logging.getLogger("equiscope.cluster")

ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
ANSWER_S = 60.0  # a loaded controller takes its time; after a minute it will not answer
SPACING_S = 1.0  # the controller serves the whole site
CANCEL_ATTEMPTS = 3  # a controller that restarts is back within them


class SilentError(RuntimeError):
    """No source answered: nothing is known about the jobs, not even that they ended."""


def is_live(state: str) -> bool:
    """Whether a job in this state may still write. Takes "PENDING (Priority)", too.

    Every state that is not known as an end counts as live, such as COMPLETING and REQUEUED.
    """
    return bool(state) and state.split()[0] not in ENDED


@dataclass(slots=True)
class Queue:
    """The jobs of one name that this user has on SLURM.

    The name, unique to a folder, also finds an array whose driver died before it noted the id,
    and tells apart a foreign job that got the same id after a controller was set up anew.
    """

    name: str
    asked: float = field(default=float("-inf"), init=False)  # seconds, monotonic

    def states(self, jobs: Collection[str]) -> dict[str, str]:
        """The state of `jobs`, and of live jobs of this name that are not among them.

        A job that no source knows is left out. Raises `SilentError` when no source answers.
        """
        found: dict[str, str] = {}
        queued = self._squeue()
        if queued is not None:
            found = {job: state for job, state in queued.items() if job in jobs or is_live(state)}
        answered = queued is not None
        for source in (self._sacct, self._scontrol):
            unknown = [job for job in jobs if job not in found]
            if not unknown and answered:
                break
            states = source({job.split("_")[0] for job in unknown})
            if states is None:
                continue
            # accounts may call a job running for ever whose end was never reported
            trusted = source == self._scontrol or queued is None
            found |= {
                job: states[job]
                for job in unknown
                if job in states and (trusted or not is_live(states[job]))
            }
            answered = True
        if not answered:
            raise SilentError("Neither squeue nor sacct nor scontrol answers.")
        return found

    def cancel(self) -> None:
        """Cancel every job of this name; says so in the log if SLURM does not obey."""
        mine = [f"--user={os.getuid()}", f"--name={self.name}"]
        for _ in range(CANCEL_ATTEMPTS):
            # a job may ignore the polite signal, and would write on until SLURM's patience ends
            self._ask("scancel", "--quiet", "--full", "--signal=KILL", "--state=RUNNING", *mine)
            if self._ask("scancel", "--quiet", *mine) is not None:
                return
        logger.error("cannot cancel: run  scancel %s  by hand", " ".join(mine))

    def _squeue(self) -> dict[str, str] | None:
        output = self._ask(
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            "--format=%i|%T|%r",
            f"--user={os.getuid()}",
            f"--name={self.name}",
        )
        if output is None:
            return None
        rows = [line.strip().split("|") for line in output.splitlines() if line.count("|") == 2]
        return {
            job: f"{state} ({reason})" if state == "PENDING" else state
            for job, state, reason in rows
        }

    def _sacct(self, arrays: Collection[str]) -> dict[str, str] | None:
        output = self._ask(
            "sacct",
            "--parsable2",
            "--allocations",
            "--format=JobID,State",
            f"--name={self.name}",
            f"--jobs={','.join(sorted(arrays))}",
        )
        if output is None:
            return None
        # "CANCELLED by 1000" becomes "CANCELLED"
        return {
            job: (row["State"].split() or [""])[0]
            for job, row in SlurmInfoWatcher().read_info(output).items()
        }

    def _scontrol(self, arrays: Collection[str]) -> dict[str, str] | None:
        states: dict[str, str] = {}
        for array in sorted(arrays):
            output = self._ask("scontrol", "--oneliner", "show", "job", array)
            if output is None:
                return None
            for line in output.splitlines():
                facts = dict(re.findall(r"(\w+)=(\S*)", line))
                if facts.get("JobName") == self.name:
                    task = facts.get("ArrayTaskId")
                    states[array if task is None else f"{array}_{task}"] = facts["JobState"]
        return states

    def _ask(self, *command: str) -> str | None:
        """What a SLURM command prints: nothing for an unknown job, None if the command fails."""
        time.sleep(max(0.0, self.asked + SPACING_S - time.monotonic()))
        try:
            # in a session of its own, so that Ctrl-C does not end the cancelling
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=ANSWER_S, start_new_session=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            logger.debug("%s: %s", command[0], error)
            return None
        finally:
            self.asked = time.monotonic()
        if done.returncode == 0:
            return done.stdout
        logger.debug("%s: %s", command[0], done.stderr.strip())
        return "" if "Invalid job id" in done.stderr else None


def may_run(job: str) -> bool:
    """Whether a job of any name may still run; no answer counts as yes."""
    try:
        done = subprocess.run(
            ["squeue", "--noheader", "--format=%T", f"--jobs={job}"],
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return "Invalid job id" not in done.stderr and (
        done.returncode != 0 or any(map(is_live, done.stdout.split()))
    )
