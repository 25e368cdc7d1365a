"""What jobs took: each leaves a small file when it ends. One that was killed leaves none."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ENDING = ".took.json"


@dataclass(frozen=True, slots=True)
class Effort:
    """One job that ran to its end, well or not.

    Attributes
    ----------
    job: its id on SLURM, else that of its process.
    node: the machine it ran on, as SLURM calls it.
    seconds: that it held `cpus` cores and `gpus` GPUs.
    """

    place: str
    job: str
    node: str
    seconds: float
    cpus: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Held:
    """Where a job runs, and the cores and GPUs that nobody else has meanwhile."""

    place: str
    cpus: int
    gpus: int


ALONE = Held("debug", 1, 0)
"""What the work of a single process holds."""


@contextlib.contextmanager
def recorded(folder: Path, held: Held) -> Iterator[None]:
    """Measure this process as a job, and leave the file in its array's folder."""
    began = time.monotonic()
    try:
        yield
    finally:
        job, ran = _job(), os.environ.get("SLURM_RESTART_COUNT", "0")
        took = Effort(
            place=held.place,
            job=job,
            node=os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            seconds=round(time.monotonic() - began, 3),
            cpus=held.cpus,
            gpus=held.gpus,
        )
        # it decides nothing, so a disk that refuses it does not fail the job
        with contextlib.suppress(OSError):
            whole = folder / f"{job}-{ran}{ENDING}"
            partial = whole.with_suffix(".part")
            partial.write_text(json.dumps(asdict(took)))
            partial.replace(whole)


def known(folder: Path) -> dict[str, Effort]:
    """What the jobs of all arrays of a folder took, by the names of their files in it."""
    found = {}
    for path in sorted(folder.glob(f"*/*{ENDING}")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found[str(path.relative_to(folder))] = Effort(**json.loads(path.read_text()))
    return found


def _job() -> str:
    array, task = (os.environ.get(f"SLURM_ARRAY_{key}_ID", "") for key in ("JOB", "TASK"))
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID") or str(os.getpid())
