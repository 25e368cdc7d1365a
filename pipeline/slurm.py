"""Ask SLURM what became of jobs, and cancel them.

Three sources, in this order, since each of them forgets or fails in its own way: `squeue` knows
what runs and, for minutes, what ended; `sacct` remembers, where a site keeps accounts;
`scontrol` is a second look at the controller.
"""

import contextlib
import fcntl
import itertools
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
ACCOUNTS_S = 15.0  # accounts are a second source: a third follows
REST_S = 600.0  # accounts that hang are left alone for so long
SPACING_S = 1.0  # the controller serves the whole site
CANCEL_ATTEMPTS = 3  # a controller that restarts is back within them
SHARED_S = 5.0  # how old an answer may be that another driver got
COLUMNS = {
    "JobArrayID": 40,
    "Name": 256,
    "State": 20,
    "RestartCnt": 12,
    "NodeList": 64,
    "Reason": 64,
}


SQUEUE_FAILS = "squeue fails: other sources are asked, and the jobs are waited for"
SACCT_HANGS = (
    f"sacct hangs: it is asked again in {REST_S / 60:.0f} minutes, and other sources meanwhile"
)
RESTED: dict[str, float] = {}
"""When accounts that hung may be asked of a name again: each submission has a queue of its own."""
HELD = {
    "JobHeldUser": "somebody who may hold your jobs holds them",
    "JobHeldAdmin": "an administrator holds them: ask why",
    "JobHoldMaxRequeue": "SLURM holds them, having started them again as often as the site allows",
    "launch failed requeued held": "SLURM holds them, since a node failed to start them",
}
"""What reasons of jobs mean that nobody will start."""


class SilentError(RuntimeError):
    """No source answered: nothing is known about the jobs, not even that they ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a source says of a job. `node` is empty where it has none yet, or none any more."""

    state: str
    node: str = ""
    restarts: int = 0


def is_live(state: str) -> bool:
    """Whether a job in this state may still write. Takes "PENDING (Priority)", too.

    Every state that is not known as an end counts as live, such as COMPLETING and REQUEUED.
    """
    return bool(state) and state.split()[0] not in ENDED


def held(reason: str, name: str) -> str:
    """What is the matter with jobs called `name` that pend for this reason, and what to do.

    Empty where they wait as jobs do.
    """
    for known, meaning in HELD.items():
        if known.lower() in reason.replace("_", " ").lower():
            return (
                f"held ({known}): {meaning}. To let them start:  scontrol release jobname={name}  "
                f"To have what they leave undone submitted anew:  scancel --name={name}"
            )
    return ""


@dataclass(slots=True)
class Queue:
    """The jobs of one name that this user has on SLURM.

    The name, unique to a folder, also finds an array whose driver died before it noted the id,
    and tells apart a foreign job that got the same id after a controller was set up anew.

    Attributes
    ----------
    shared: folder where drivers leave what `squeue` said, so that together they ask once; None
        for a driver that asks for itself.
    begun: answers from before this time, in seconds since 1970, tell nothing: the jobs are younger.
    seen: the last that any source said of each job.
    """

    name: str
    shared: Path | None = None
    begun: float = field(default_factory=time.time)
    asked: float = field(default=float("-inf"), init=False)  # seconds, monotonic
    mute: bool = field(default=False, init=False)
    seen: dict[str, Standing] = field(default_factory=dict, init=False)

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
        output = self._listed() if self.shared is None else self._listed_for_all(self.shared)
        if (output is None) != self.mute:
            self.mute = not self.mute
            logger.warning(
                "%s: %s", self.name, SQUEUE_FAILS if self.mute else "squeue answers again"
            )
        if output is None:
            return None
        rows = [_row(line) for line in output.splitlines()]
        told = {
            row["JobArrayID"]: Standing(
                state=f"PENDING ({row['Reason']})" if row["State"] == "PENDING" else row["State"],
                node=row["NodeList"],
                restarts=int(row["RestartCnt"]),
            )
            for row in rows
            if row["Name"] == self.name and row["RestartCnt"].isdecimal()
        }
        return self._heard(told)

    def _listed(self) -> str | None:
        columns = ",".join(f"{column}:{width}" for column, width in COLUMNS.items())
        whose = [f"--user={os.getuid()}", *([] if self.shared else [f"--name={self.name}"])]
        return self._ask(
            "squeue", "--noheader", "--array", "--states=all", f"--Format={columns}", *whose
        )

    def _listed_for_all(self, folder: Path) -> str | None:
        """What `squeue` says of all jobs of this user, asked by whichever driver needs it first.

        Where another driver got an answer just before this one's jobs were submitted, that says
        nothing of them, and the next is waited for: however many drivers there are, together they
        ask once in `SHARED_S`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"squeue.{socket.gethostname()}.txt"
        while True:
            with path.open("a+") as file:
                with contextlib.suppress(OSError):  # without locks some ask twice
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                head, _, body = file.read().partition("\n")
                at, _, verdict = head.partition(" ")
                known = float(at) if verdict else float("-inf")
                age = time.time() - known
                if not 0 <= age < SHARED_S:  # nor what a clock says that was set back
                    known, output = time.time(), self._listed()
                    file.truncate(0)
                    verdict = "silent" if output is None else "answered"
                    file.write(f"{known} {verdict}\n{output or ''}")
                    return output
            if self.begun < known:
                return body if verdict == "answered" else None
            time.sleep(SHARED_S - age)

    def _sacct(self, arrays: Collection[str]) -> dict[str, str] | None:
        began = time.monotonic()
        if began < RESTED.get(self.name, began):
            return None
        output = self._ask(
            "sacct",
            "--parsable2",
            "--allocations",
            "--format=JobID,State,NodeList",
            f"--name={self.name}",
            f"--jobs={','.join(sorted(arrays))}",
            within_s=ACCOUNTS_S,
        )
        if output is None:
            if time.monotonic() - began >= ACCOUNTS_S:
                RESTED[self.name] = time.monotonic() + REST_S
                logger.warning("%s: %s", self.name, SACCT_HANGS)
            return None
        # "CANCELLED by 1000" becomes "CANCELLED"
        return self._heard(
            {
                job: Standing(state=(row["State"].split() or [""])[0], node=row.get("NodeList", ""))
                for job, row in SlurmInfoWatcher().read_info(output).items()
            }
        )

    def _scontrol(self, arrays: Collection[str]) -> dict[str, str] | None:
        told: dict[str, Standing] = {}
        for array in sorted(arrays):
            output = self._ask("scontrol", "--oneliner", "show", "job", array)
            if output is None:
                return None
            for line in output.splitlines():
                facts = dict(re.findall(r"(\w+)=(\S*)", line))
                if facts.get("JobName") == self.name:
                    task = facts.get("ArrayTaskId")
                    told[array if task is None else f"{array}_{task}"] = Standing(
                        state=facts["JobState"],
                        node=facts.get("NodeList", ""),
                        restarts=int(facts.get("Restarts", 0)),
                    )
        return self._heard(told)

    def _heard(self, told: Mapping[str, Standing]) -> dict[str, str]:
        """Keep what a source said, and the node and restarts that another one had said before."""
        for job, standing in told.items():
            before = self.seen.get(job, standing)
            self.seen[job] = Standing(
                state=standing.state,
                node=standing.node.strip("()").replace("null", "") or before.node,
                restarts=max(standing.restarts, before.restarts),
            )
        return {job: standing.state for job, standing in told.items()}

    def _ask(self, *command: str, within_s: float = ANSWER_S) -> str | None:
        """What a SLURM command prints: nothing for an unknown job, None if the command fails."""
        time.sleep(max(0.0, self.asked + SPACING_S - time.monotonic()))
        try:
            # in a session of its own, so that Ctrl-C does not end the cancelling
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=within_s, start_new_session=True
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


def _row(line: str) -> dict[str, str]:
    ends = itertools.accumulate(COLUMNS.values())
    return {
        column: line[end - width : end].strip()
        for (column, width), end in zip(COLUMNS.items(), ends, strict=True)
    }


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
