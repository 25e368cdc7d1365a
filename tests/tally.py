"""A driver to be tested: counts on disk how often each unit of a toy work was done.

    python tests/tally.py FOLDER --units 8 --seconds 0.5 --place local --jobs 2 ...

FOLDER then holds done/UNIT, facts/UNIT.json (what the job saw), attempts/ (one file per attempt),
and collisions/UNIT if two processes ever wrote one unit at the same time.
"""

import argparse
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline import cluster

HANG_S = 3600.0
HOARD_BYTES, HOARD_S = 350_000_000, 6.0  # SLURM looks every 2 s
FOLDERS = ("done", "facts", "attempts", "locks", "collisions")
SEEN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", "SLURM_JOB_PARTITION")


@dataclass(frozen=True)
class Tally:
    """Takes `seconds` per unit.

    A `fault` strikes at unit 0: raise, idle, hog (memory), or hang (the first time it is done).
    """

    folder: Path
    units: int
    seconds: float
    fault: str

    def missing(self) -> list[int]:
        done = {entry.name for entry in (self.folder / "done").iterdir()}
        return [unit for unit in range(self.units) if str(unit) not in done]

    def __call__(self, share: list[int]) -> None:
        for unit in share:
            self.do(unit)

    def do(self, unit: int) -> None:
        (self.folder / "attempts" / f"{unit}.{uuid.uuid4().hex}").touch()
        with (self.folder / "locks" / str(unit)).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                (self.folder / "collisions" / str(unit)).touch()
            time.sleep(self.seconds)
            if unit == 0 and self.fault == "raise":
                raise LookupError(f"no optics for unit {unit}")
            if unit == 0 and self.fault == "idle":
                return
            if unit == 0 and self.fault == "hog":
                hoard = bytearray(HOARD_BYTES)
                for page in range(0, len(hoard), 4096):
                    hoard[page] = 1
                time.sleep(HOARD_S)
            if unit == 0 and self.fault == "hang" and attempts(self.folder)[0] == 1:
                time.sleep(HANG_S)
            facts = {name: os.environ.get(name, "") for name in SEEN}
            facts |= {"node": os.environ.get("SLURMD_NODENAME", ""), "pid": os.getpid()}
            (self.folder / "facts" / f"{unit}.json").write_text(json.dumps(facts))
            (self.folder / "done" / str(unit)).touch()


RESOURCES = {"cpus-per-task": 1, "mem-mb": 300, "runtime": 5, "gpu": 0}


def start(
    folder: Path, environment: Mapping[str, str] | None = None, **options: object
) -> subprocess.Popen[bytes]:
    """Start a driver on `folder`, as a shell would. What it says is appended to FOLDER.log."""
    given = RESOURCES | {name.replace("_", "-"): value for name, value in options.items()}
    with folder.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, str(folder), *(f"--{k}={v}" for k, v in given.items())],
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            cwd=Path(__file__).parents[1],
        )


def said(folder: Path) -> str:
    """What the drivers on `folder` said."""
    return folder.with_suffix(".log").read_text()


def until(condition: Callable[[], object], seconds: float) -> None:
    """Wait until the condition holds. Raises TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.1)


def names(folder: Path) -> set[str]:
    """What a folder holds; nothing when it is not there yet."""
    return {entry.name for entry in folder.iterdir()} if folder.exists() else set()


def attempts(folder: Path) -> Counter[int]:
    """How often each unit was begun."""
    return Counter(int(entry.name.split(".")[0]) for entry in (folder / "attempts").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--units", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--fault", default="")
    cluster.add_arguments(parser)
    arguments = parser.parse_args()
    # a shell that starts tests in the background has SIGINT ignored in all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("equiscope").setLevel(logging.DEBUG)
    for name in FOLDERS:
        (arguments.folder / name).mkdir(parents=True, exist_ok=True)
    work = Tally(arguments.folder, arguments.units, arguments.seconds, arguments.fault)
    allocation = cluster.allocation(arguments)
    cluster.complete(work, allocation, arguments.folder / "tally.jobs", "tally")


if __name__ == "__main__":
    main()
