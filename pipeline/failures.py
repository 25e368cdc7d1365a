"""Why a job left no result, told from evidence, and what is done about it. Pure values.

memory         the node's memory was not enough for it: again, with more
device memory  the memory of its GPU: again, where other processes may have left more
time           its time limit: what is left again
preemption     a job that counts more took its place, or SLURM started it again: again, for nothing
node           the machine under it failed: again, for nothing; elsewhere if that repeats itself
cancelled      by somebody: again, for nothing
setup          the commands of slurm_setup failed: again, once, elsewhere if that repeats itself
disk           full or read-only: stop, since the next would fail, too
error          in code or data: stop, since it would come again
unknown        killed by nobody knows whom: again
"""

import errno
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

Kind = Literal[
    "memory",
    "device memory",
    "time",
    "preemption",
    "node",
    "cancelled",
    "setup",
    "disk",
    "error",
    "unknown",
]
RESUBMISSIONS = 3  # in a row without progress: one may be bad luck, three have one cause
UNPREPARED = 1  # resubmissions in a row of jobs that all failed in their setup
FREE_RESUBMISSIONS = 20  # of jobs that could not help it, in a row without progress
MORE_MEMORY = 1.5  # times what a job had that ran out of it
FAULTS_OF_A_NODE = 2  # after so many it gets no further jobs: one may be bad luck
FATAL = frozenset[Kind]({"error", "disk"})
FREE = frozenset[Kind]({"preemption", "node", "cancelled"})
BLAMED = frozenset[Kind]({"node", "unknown", "device memory", "setup"})
STATES: dict[str, Kind] = {
    "OUT_OF_MEMORY": "memory",
    "TIMEOUT": "time",
    "DEADLINE": "time",
    "PREEMPTED": "preemption",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "REVOKED": "cancelled",
}
SAID: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("memory", re.compile(r"oom.?kill|exceeded.{0,30}memory limit|out.of.memory", re.I)),
    ("time", re.compile(r"CANCELLED AT .* DUE TO TIME LIMIT")),
    ("preemption", re.compile(r"CANCELLED AT .* DUE TO PREEMPTION")),
    ("node", re.compile(r"CANCELLED AT .* DUE TO (NODE FAILURE|SIGNAL Communication)")),
)
"""What SLURM writes into a job's own log before it kills it; this needs no accounting."""
CANCELLED = re.compile(r"CANCELLED AT ")
SETUP_FAILED = "slurm_setup failed"
"""What a job says last whose setup failed."""
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
MACHINE = frozenset({errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.EREMOTEIO})
"""Errors of a disk that is gone from one machine while others have it."""
DEVICE = re.compile(
    r"uncorrectable ECC|busy or unavailable|fallen off the bus|no CUDA-capable device"
    r"|CUDA driver initialization failed",
    re.I,
)
"""Errors of a GPU that does not work."""
NOTE = "evidence: "
"""Begins the last line of a job's traceback: the exception, for a machine to read."""
ANSWERS: dict[Kind, str] = {
    "memory": "what is left is submitted again with more memory",
    "device memory": "what is left is submitted again",
    "time": "what is left is submitted again",
    "preemption": "what is left is submitted again, which counts as no failure",
    "node": "what is left is submitted again, which counts as no failure",
    "cancelled": "what is left is submitted again, which counts as no failure",
    "setup": "what is left is submitted again, once",
    "disk": "the others are cancelled",
    "error": "the others are cancelled",
    "unknown": "what is left is submitted again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a job that ended without its result.

    Attributes
    ----------
    state: SLURM's word; "vanished" where no source knows the job.
    raised: names of the classes of the exception that ended it, its own first.
    errno: of the exception; 0 where it has none.
    said: the end of the job's log, or of its traceback.
    full: whether the disk of its log and its result is full: then it could leave neither.
    """

    state: str = "vanished"
    raised: tuple[str, ...] = ()
    errno: int = 0
    said: str = ""
    full: bool = False


def kind(evidence: Evidence) -> Kind:
    """The class of a failure. What the job itself raised tells most; then states; then its log."""
    if evidence.raised:
        return _kind_of_exception(evidence)
    if evidence.state in STATES:
        return STATES[evidence.state]
    if evidence.said.rstrip().endswith(SETUP_FAILED):
        return "setup"
    if found := in_log(evidence.said):
        return found
    if evidence.state == "CANCELLED" or CANCELLED.search(evidence.said):
        return "cancelled"
    return "disk" if evidence.full else "unknown"


def in_log(said: str) -> Kind | None:
    """The class that SLURM's last word in a job's log tells of; None where there is none."""
    found = [(match.start(), kind) for kind, pattern in SAID for match in pattern.finditer(said)]
    return max(found)[1] if found else None


def last_words(said: str) -> str:
    """What a job whose setup failed said before it ended: a line of what failed, where there is."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return ", ".join(lines[-2:])


def _kind_of_exception(evidence: Evidence) -> Kind:
    if "MemoryError" in evidence.raised:
        return "memory"
    if "OutOfMemoryError" in evidence.raised:
        return "device memory"
    if evidence.errno in DISK:
        return "disk"
    if evidence.errno in MACHINE or DEVICE.search(evidence.said):
        return "node"
    return "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A job without its result. `units` says in words which units it had."""

    job: str
    kind: Kind
    state: str
    node: str
    units: str

    def __str__(self) -> str:
        node = f" on {self.node}" if self.node else ""
        return f"{self.kind}: job {self.job}{node} ({self.state}), {self.units}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the next submission goes by.

    Attributes
    ----------
    mem_mb: memory of a job.
    fruitless: submissions in a row that made no progress.
    free: and those in which no job could help it, or that are followed by more memory.
    unprepared: and those in which no job came further than its setup.
    faults: for each fault that a node may be blamed for, the node.
    """

    mem_mb: int
    fruitless: int = 0
    free: int = 0
    unprepared: int = 0
    faults: tuple[str, ...] = ()

    def after(self, losses: Collection[Loss], progress: bool, most_mb: int) -> Self:
        """The course after a submission that lost these jobs; memory grows up to `most_mb`."""
        kinds = {loss.kind for loss in losses}
        mem_mb = self.mem_mb
        if "memory" in kinds:
            mem_mb = max(mem_mb, min(int(mem_mb * MORE_MEMORY), most_mb))
        blamed = tuple(loss.node for loss in losses if loss.kind in BLAMED and loss.node)
        free = (bool(kinds) and kinds <= FREE) or mem_mb > self.mem_mb
        return replace(
            self,
            mem_mb=mem_mb,
            fruitless=0 if progress else self.fruitless + (not free),
            free=0 if progress else self.free + free,
            unprepared=0 if progress or kinds != {"setup"} else self.unprepared + 1,
            faults=self.faults + blamed,
        )

    @property
    def ended(self) -> bool:
        """Whether it is no use to submit once more."""
        return (
            self.fruitless > RESUBMISSIONS
            or self.free > FREE_RESUBMISSIONS
            or self.unprepared > UNPREPARED
        )

    def why(self, losses: Sequence[Loss]) -> str:
        """Why it has ended, with the last jobs that were lost, and what to do."""
        if self.unprepared > UNPREPARED:
            said = f"; the last said: {losses[-1].state}" if losses else ""
            return (
                f"slurm_setup failed in all jobs of {self.unprepared} submissions in a row{said}. "
                "Mend slurm_setup in the profile: its commands must do on every node."
            )
        causes = f"{RESUBMISSIONS} resubmissions in a row"
        if self.free > FREE_RESUBMISSIONS:
            causes = f"{FREE_RESUBMISSIONS} submissions in a row were preempted, cancelled or lost"
        return (
            f"{causes}, without progress. Raise mem_mb (jobs had {self.mem_mb} MB) if they are "
            "killed, runtime if they time out."
        )

    def excluded(self, nodes: Collection[str]) -> tuple[str, ...]:
        """Of all nodes there are, those that failed again and again; not if no other is left."""
        counts = Counter(self.faults)
        bad = sorted(node for node, count in counts.items() if count >= FAULTS_OF_A_NODE)
        return tuple(bad) if set(nodes) - set(bad) else ()


def read_note(text: str) -> tuple[Evidence, str, str]:
    """Evidence, node and traceback, from the text that a job left of its exception."""
    said, found, line = text.strip().rpartition(f"\n{NOTE}")
    if not found:
        return Evidence(raised=("unknown",), said=text), "", text.strip()
    noted = json.loads(line)
    evidence = Evidence(raised=tuple(noted["raised"]), errno=noted["errno"], said=said)
    return evidence, noted["node"], said


def units_in_words(names: Sequence[str]) -> str:
    """Units as a line of the log names them."""
    if len(names) == 1:
        return f"unit {names[0]}"
    return f"{len(names)} units, {names[0]} to {names[-1]}" if names else "its units"
