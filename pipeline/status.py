"""How far a campaign is: read from what stages and jobs wrote down, while they work or after.

Nothing is written, and no job is asked. SLURM is asked once, where there are arrays whose end
nobody recorded.
"""

import itertools
import json
import math
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from pipeline import progress, receipts, records, shards
from pipeline.arrays import RECORD
from pipeline.config import Campaign
from pipeline.events import EVENTS
from pipeline.standings import Queue

State = Literal["done", "running", "waiting", "failed"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "failed")
LOGS = Path("logs")
LOCK = Path(".snakemake/campaign.lock")
TAIL_BYTES = 8192
"""Of a log's end: a stage's last words, with the traceback of a job in them."""
FRESH_S = 60.0
"""A job that has said nothing for so long is taken to have ended."""
RECENT_S, FEW = 900.0, 3
"""The pace of results is that of the last minutes, where so many were made in them."""
NAMED = 10
"""Results of a state that are listed unless all are asked for."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result of one stage.

    Attributes
    ----------
    why: of one that failed, its last words; of one at work, how far it is.
    rate: voxels a second; 0 where that is not known. `left`: voxels still to be made.
    made: when it was done, in seconds since 1970, while a run is on.
    """

    stage: str
    name: str
    state: State
    why: str = ""
    rate: float = 0.0
    left: float = 0.0
    made: float = 0.0

    def __str__(self) -> str:
        """A line about it."""
        return f"{self.stage}/{self.name}: {self.state}{f': {self.why}' if self.why else ''}"


@dataclass(frozen=True, slots=True)
class Status:
    """How far all results of a campaign are, and who is at work on it, in words."""

    campaign: str
    holder: str
    results: tuple[Result, ...]

    def lines(self, everything: bool = False) -> Iterator[str]:
        """The whole first, then each stage, then what is at work or failed; or each result."""
        yield f"{self.campaign}: {_counts(self.results)}"
        yield self.holder
        for stage, group in itertools.groupby(self.results, lambda result: result.stage):
            found = list(group)
            yield f"{stage}: {_counts(found)}{_pace(found)}"
        if everything:
            yield from map(str, self.results)
            return
        for state in ("failed", "running"):
            chosen = [result for result in self.results if result.state == state]
            yield from map(str, chosen[:NAMED])
            if len(chosen) > NAMED:
                yield f"and {len(chosen) - NAMED} more {state}: --all lists them"


def _counts(results: Sequence[Result]) -> str:
    counts = Counter(result.state for result in results)
    said = [f"{counts[state]:,} {state}" for state in STATES if counts[state] and state != "done"]
    return ", ".join([f"{counts['done']:,} of {len(results):,} done", *said])


def _pace(results: Sequence[Result]) -> str:
    """How fast the results at work come, and how long they and all that wait take."""
    rate, said = sum(result.rate for result in results), ""
    if rate:
        slowest = max(result.left / result.rate for result in results if result.rate)
        said = f"; {rate / 1e6:.3g} Mvoxel/s, those at work take {progress.duration(slowest)}"
    now, left = time.time(), sum(result.state in ("running", "waiting") for result in results)
    recent = [now - result.made for result in results if now - result.made < RECENT_S]
    if left and len(recent) >= FEW:
        each = max(*recent, 1.0) / (len(recent) - 1)
        said += f"; {60 / each:.2g} a minute, the others take {progress.duration(left * each)}"
    return said


def status(campaign: Campaign) -> Status:
    """How far a campaign is."""
    results = Path(campaign.results)
    holder, alive = _holder()
    wanted = [("ingest", name) for name in campaign.acquisitions]
    wanted += [("finetune", name) for name in campaign.models]
    wanted += [("predict", f"{model}/{name}") for model, name in campaign.pairs]
    wanted += [("report", "campaign")]
    present = _Present()
    queue = Queue()
    found = [
        Result(stage, name, "done", made=_made(results / stage / f"{name}.json") if alive else 0.0)
        if present.has(results, stage, name)
        else _unfinished(results, stage, name, present, queue, alive)
        for stage, name in wanted
    ]
    return Status(campaign.campaign, holder, tuple(found))


class _Present:
    """Names of files, one listing for each folder: a campaign may have thousands in one."""

    def __init__(self) -> None:
        self.folders: dict[Path, set[str]] = {}

    def has(self, root: Path, stage: str, name: str, ending: str = ".json") -> bool:
        """Whether a stage has left a file of this ending for a result."""
        path = root / stage / f"{name}{ending}"
        if path.parent not in self.folders:
            try:
                self.folders[path.parent] = set(os.listdir(path.parent))
            except OSError:
                self.folders[path.parent] = set()
        return path.name in self.folders[path.parent]


def _made(receipt: Path) -> float:
    """When a receipt was written, in seconds since 1970; 0 where it is gone."""
    try:
        return receipt.stat().st_mtime
    except OSError:
        return 0.0


def _unfinished(
    results: Path, stage: str, name: str, present: _Present, queue: Queue, alive: bool
) -> Result:
    log = LOGS / stage / f"{name}.log"
    if not present.has(LOGS, stage, name, ".log"):
        return Result(stage, name, "waiting")
    jobs = log.with_name(f"{log.name}.jobs")
    array = _record(jobs) if present.has(LOGS, stage, name, ".log.jobs") else None
    standing = queue.standing(array) if array and not array.get("ended", True) else ""
    why = _last_words(log)
    if not standing and why:
        return Result(stage, name, "failed", why)
    if not standing and not alive:
        return Result(stage, name, "waiting", "was interrupted; the next run goes on with it")
    done, rate, left = _work(results, stage, name)
    said = "; ".join(filter(None, [standing, done, _event(jobs)]))
    return Result(stage, name, "running", said, rate, left)


def _record(jobs: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((jobs / RECORD).read_text())
        return found
    except (OSError, ValueError):
        return None


def _last_words(log: Path) -> str:
    """The sentence that a stage that failed ends with; empty where it has not."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    said = [line for line in lines if line.startswith("equiscope: ")]
    if said:
        return said[-1].removeprefix("equiscope: ")
    raised = [line for line in lines if re.match(r"[A-Za-z_.]*(Error|Exception|Interrupt)\b", line)]
    return raised[-1] if raised else ""


def _event(jobs: Path) -> str:
    """What happened last to one of the jobs."""
    try:
        with (jobs / EVENTS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            event = json.loads(file.read().splitlines()[-1])
        return f"last event: {event['kind']} of job {event['job']} on {event['node']}"
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _work(results: Path, stage: str, name: str) -> tuple[str, float, float]:
    """How far a result is in words; voxels a second, and voxels left."""
    ending = {"ingest": ".ome.zarr.building", "finetune": ".model.building"}.get(stage, ".building")
    building = results / stage / f"{name}{ending}"
    if stage == "finetune":
        trained = {path.parent for path in building.glob("*/result.json")}
        begun = {path.parent for path in building.glob(f"*/{progress.STEPS}")}
        said = [f"{len(trained)} trainings done", *map(progress.pace, sorted(begun - trained))]
        return ("; ".join(filter(None, said)) if building.is_dir() else ""), 0.0, 0.0
    levels = dict(_levels(building))
    if not levels:
        return "", 0.0, 0.0
    units = shards.units_folder(building)
    written = Counter(int(record.partition("-")[0]) for record in records.names(units))
    count = sum(number for number, _ in levels.values())
    made = sum(written[level] for level in levels)
    shards_0, voxels_0 = levels[0]
    left = (1 - min(1.0, written[0] / shards_0)) * voxels_0
    rate = _rate(units / progress.FOLDER)
    said = [f"{made:,} of {count:,} shards"]
    if rate:
        said += [f"{rate / 1e6:.3g} Mvoxel/s", f"{progress.duration(left / rate)} left"]
    return ", ".join(said), rate, left


def _levels(store: Path) -> Iterator[tuple[int, tuple[int, int]]]:
    """Of each level of a store in the making, how many shards and voxels it has."""
    for number in itertools.count():
        try:
            said = receipts.read(store / str(number) / "zarr.json")
            shape, shard = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"]
        except (ValueError, KeyError, OSError):
            return
        count = math.prod(-(-n // side) for n, side in zip(shape, shard, strict=True))
        yield number, (count, math.prod(shape))


def _rate(folder: Path) -> float:
    """Voxels that jobs at work make in a second, all together."""
    now, rate = time.time(), 0.0
    for path in folder.glob("[!.]*.json"):
        try:
            if now - path.stat().st_mtime < FRESH_S:
                said = receipts.read(path)
                rate += said["voxels"] / max(said["seconds"], 1e-3)
        except (OSError, ValueError, KeyError):
            continue
    return rate


def _holder() -> tuple[str, bool]:
    """Who is at work, in words; and whether anybody may be."""
    try:
        said = LOCK.read_text().strip()
    except OSError:
        return "no run was started here", False
    found = re.search(r" on (\S+), process (\d+)", said)
    if not found:
        return "no run was started here", False
    if found[1] == socket.gethostname():
        alive = psutil.pid_exists(int(found[2]))
        return (
            f"at work: {said}" if alive else f"no run is on; the last was that of {said}"
        ), alive
    return f"at work, if it has not ended: {said}", True
