"""How far the jobs are that make a store, and what they took: small files beside its records.

Each job says for itself, every few seconds, what it has done; whoever asks adds them up. None of it
decides anything, so a file that cannot be written or read is passed over.
"""

import contextlib
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline import receipts

log = logging.getLogger("equiscope.progress")

FOLDER, STEPS = "progress", "steps.json"
WRITE_S = 5.0
"""Between two words of a job."""
WINDOW_S = 300.0
"""Rates are those of so many seconds: jobs begin and end, and regions differ."""
Spent = Callable[[], Mapping[str, float]]
"""What a process has spent so far. Keys: `read_bytes`; where there is a device, `busy_s`, which
adds up over its workers, and `devices`, how many these are."""


class Meter:
    """Counts, in a job, what it has done, for a bar and for a file in `folder`.

    `level` is the finest that the job makes: its voxels are those that count.
    """

    def __init__(self, folder: Path, level: int, shards: int, spent: Spent) -> None:
        start = time.time_ns() // 1_000_000
        self.file = folder / f"{socket.gethostname()}-{os.getpid()}-{start}.json"
        self.level, self.spent = level, spent
        self.begun, self.before = time.monotonic(), dict(spent())
        self.shards = self.voxels = self.written_bytes = 0
        self.bar = tqdm(total=shards, unit="shard", desc="writing", mininterval=WRITE_S)
        self.gate = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator["Meter"]:
        """Write the file now and then, and at the end, however that comes."""
        ended = threading.Event()

        def report() -> None:
            while not ended.wait(WRITE_S):
                self._write()

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()
            self._write()
            self.bar.close()

    def add(self, voxels: int, written_bytes: int) -> None:
        """Count one more shard, with so many voxels of the level that counts. From any thread."""
        with self.gate:
            self.shards += 1
            self.voxels += voxels
            self.written_bytes += written_bytes
            rate = self.voxels / max(time.monotonic() - self.begun, 1e-3)
            self.bar.set_postfix_str(f"{rate / 1e6:.3g} Mvoxel/s", refresh=False)
            self.bar.update()

    def _write(self) -> None:
        spent = self.spent()
        said = {
            "level": self.level,
            "shards": self.shards,
            "voxels": self.voxels,
            "written_bytes": self.written_bytes,
            "read_bytes": spent["read_bytes"] - self.before["read_bytes"],
            "seconds": time.monotonic() - self.begun,
            "peak_memory_mb": peak_memory_mb(),
        }
        if "busy_s" in spent:
            said["busy_s"] = spent["busy_s"] - self.before["busy_s"]
            said["devices"] = spent["devices"]
        try:
            receipts.write(self.file, said, durable=False)
        except OSError as error:
            log.debug("no progress in %s: %s", self.file, error)


def peak_memory_mb() -> float:
    """The most memory that this process has had in use."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        # without /proc; a process may have inherited this number from the one that started it
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@dataclass(frozen=True, slots=True)
class Sum:
    """What jobs did together. `device_s` is how long their devices could have been busy.

    `voxels` are those of the finest level that each job made, `level_0_voxels` those of level 0.
    """

    jobs: int
    shards: int
    voxels: int
    level_0_voxels: int
    moved_bytes: float
    seconds: float
    busy_s: float
    device_s: float
    peak_memory_mb: float


def total(folder: Path) -> Sum:
    """The sum over all jobs that left word in `folder`."""
    jobs = list(_said(folder))
    return Sum(
        jobs=len(jobs),
        shards=sum(job["shards"] for job in jobs),
        voxels=sum(job["voxels"] for job in jobs),
        level_0_voxels=sum(job["voxels"] for job in jobs if job["level"] == 0),
        moved_bytes=sum(job["written_bytes"] + job["read_bytes"] for job in jobs),
        seconds=sum(job["seconds"] for job in jobs),
        busy_s=sum(job["busy_s"] for job in jobs if "busy_s" in job),
        device_s=sum(job["seconds"] * job["devices"] for job in jobs if "devices" in job),
        peak_memory_mb=max((job["peak_memory_mb"] for job in jobs), default=0.0),
    )


def _said(folder: Path) -> Iterator[dict[str, Any]]:
    if folder.is_dir():
        for path in folder.glob("[!.]*.json"):
            with contextlib.suppress(ValueError, OSError):
                yield receipts.read(path)


def cost(folder: Path, shards: int) -> dict[str, float]:
    """What the work took, all jobs that left word in `folder` together.

    `shards` is how many there are; made more often than that, some were redone (a job that was
    killed has not told of its last seconds, so it may be a few more). Rates are means per job,
    bytes those read and written; `busy` is the part of their time that devices computed, and is
    there only where there were any.
    """
    said = total(folder)
    seconds = max(said.seconds, 1e-3)
    found: dict[str, float] = {
        "shards": shards,
        "redone_shards": max(said.shards - shards, 0),
        "voxels": said.level_0_voxels,
        "jobs": said.jobs,
        "seconds_of_jobs": round(said.seconds, 1),
        "mvoxel_per_s": said.level_0_voxels / seconds / 1e6,
        "mb_per_s": said.moved_bytes / seconds / 1e6,
        "peak_memory_mb": said.peak_memory_mb,
    }
    return found | ({"busy": said.busy_s / said.device_s} if said.device_s else {})


class Watch:
    """Says how far the jobs of one phase are.

    Attributes
    ----------
    shards: how many the phase has at each level, by its number.
    voxels: how many it has at the finest of these.
    done: counts, by level, the shards that are recorded. Those at the volume's edge are taken to
        be as large as the others.
    """

    def __init__(
        self,
        folder: Path,
        shards: Mapping[int, int],
        voxels: int,
        done: Callable[[], Mapping[int, int]],
    ) -> None:
        self.folder, self.shards, self.voxels, self.done = folder, shards, voxels, done
        self.heard = deque([(time.monotonic(), total(folder))])

    def __call__(self) -> str:
        """The sentence for the log."""
        self.heard.append((time.monotonic(), total(self.folder)))
        while len(self.heard) > 2 and self.heard[1][0] < self.heard[-1][0] - WINDOW_S:
            self.heard.popleft()
        counted = self.done()
        done = sum(counted.get(level, 0) for level in self.shards)
        finest = min(self.shards)
        part = min(counted.get(finest, 0) / self.shards[finest], 1.0)
        (begun, before), (now, after) = self.heard[0], self.heard[-1]
        parts = [
            f"{done:,} of {sum(self.shards.values()):,} shards",
            f"{part * self.voxels / 1e9:.3g} of {self.voxels / 1e9:.3g} Gvoxel",
            *rates(before, after, now - begun, (1 - part) * self.voxels),
        ]
        return ", ".join(parts)


def rates(before: Sum, after: Sum, seconds: float, voxels_left: float) -> list[str]:
    """What was done between two sums, per second, and how long the rest takes at that rate."""
    voxels = after.voxels - before.voxels
    if voxels <= 0 or seconds <= 0:
        return []
    moved = (after.moved_bytes - before.moved_bytes) / seconds
    said = [f"{voxels / seconds / 1e6:.3g} Mvoxel/s", f"{moved / 1e6:.3g} MB/s"]
    devices = after.device_s - before.device_s
    if devices > 0:
        said.append(f"device busy {100 * (after.busy_s - before.busy_s) / devices:.0f} %")
    return [*said, f"{duration(voxels_left * seconds / voxels)} left"]


class Pace:
    """Says in the folder of a training how many of its steps are done, and how long one takes."""

    def __init__(self, folder: Path, done: int, steps: int) -> None:
        self.file, self.begun, self.steps = folder / STEPS, done, steps
        self.at = time.monotonic()

    def tell(self, done: int) -> None:
        """Say that so many steps are done."""
        took = time.monotonic() - self.at
        said = {"done": done, "steps": self.steps, "step_s": took / max(done - self.begun, 1)}
        try:
            receipts.write(self.file, said, durable=False)
        except OSError as error:
            log.debug("no progress in %s: %s", self.file, error)


def pace(folder: Path) -> str:
    """What a `Pace` said last in this folder, in words; empty where there is none."""
    try:
        said = receipts.read(folder / STEPS)
        age = time.time() - (folder / STEPS).stat().st_mtime
        left = max(0.0, (said["steps"] - said["done"]) * said["step_s"] - age)
        rate = f"{1 / max(said['step_s'], 1e-9):.3g} steps/s, {duration(left)} left"
        return f"{folder.name} at step {said['done']:,} of {said['steps']:,}, {rate}"
    except (ValueError, KeyError, OSError):
        return ""


def duration(seconds: float) -> str:
    """A time as people say it."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
