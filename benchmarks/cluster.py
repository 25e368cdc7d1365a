"""Mishaps on a real SLURM, done to a stage that runs."""

import argparse
import contextlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile

from benchmarks import driven, site, staging
from benchmarks.driven import Scene, marks, snapshot
from benchmarks.measurement import Figure, Measurement, Target, environment
from benchmarks.mishaps import MISHAPS, PATIENCE_S, Mishap, Running, nothing

SHAPE, QUICK_SHAPE, SHARD = (63, 512, 512), (31, 192, 192), (16, 32, 32)
CROWD = 2500
"""Voxels per object."""
BEGUN = 12
"""Shards that are recorded before something happens."""
NONE = Target("<=", 0.0)
CALM = {
    "--place": "slurm",
    "--jobs": 2,
    "--mem-mb": 900,
    "--runtime": 10,
    "--slurm-extra": "--nice=1",
}
STAGE = (
    "`python -m pipeline ingest --place slurm` on a SLURM that runs on one machine: nodes c1 and "
    "c2 with 4 CPUs and 4000 MB each, without accounting unless said. A calm run goes first; after "
    "each mishap all files of the volume are compared with its, byte for byte."
)
COUNTED = (
    "A mishap happens once 12 shards are recorded. Where the driver must stop, what was wrong is "
    "mended and the same command given again. 'Events' are those in the driver's record, each one "
    "line of its log that names class, job, node, units and answer; 'unlike' counts those of "
    "another class than the mishap calls for, missing, or beyond. 'Shards written again' counts "
    "files of recorded shards that were not the same file at the end."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one run.

    Attributes
    ----------
    differing: files that are not those of the calm run.
    again: recorded shards whose files were written once more.
    events: what was logged; `unlike` how many of it should not be, or lack.
    lines: of the log that tell of events.
    left: jobs in the queue at the end.
    stopped: whether the driver stopped where it had to, and only there.
    """

    seconds: float
    differing: int
    again: int
    events: int
    unlike: int
    lines: int
    left: int
    stopped: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--only", nargs="+", default=[], help="mishaps whose names hold these")


def measure(options: argparse.Namespace) -> Measurement:
    """Let every mishap happen once.

    Raises RuntimeError where no SLURM runs, or a run fails that should not.
    """
    chosen = [mishap for mishap in MISHAPS if all(word in mishap.name for word in options.only)]
    if not chosen:
        raise RuntimeError(f"no mishap's name holds {' and '.join(options.only)}.")
    here = environment()
    site.started()
    shape = QUICK_SHAPE if options.quick else SHAPE
    with tempfile.TemporaryDirectory(prefix="equiscope-cluster-") as temporary:
        folder = Path(temporary)
        objects = int(np.prod(shape)) // CROWD
        image, _ = staging.scattered(shape, objects, np.random.default_rng(0))
        raw = folder / "stack.tif"
        tifffile.imwrite(raw, image, photometric="minisblack", compression="zlib")
        figures = tuple(_mishaps(folder, raw, chosen))
    return Measurement("cluster", (STAGE, COUNTED), here, figures)


def _mishaps(folder: Path, raw: Path, chosen: list[Mishap]) -> Iterator[Figure]:
    calm = _scene(folder / "calm", raw, Mishap("calm", nothing, ()))
    began = time.monotonic()
    if calm.start().wait(PATIENCE_S):
        raise RuntimeError(calm.log.read_text("utf-8", "replace"))
    expected = snapshot(calm.results)
    yield Figure.of("a calm run", [time.monotonic() - began], "s")
    for number, mishap in enumerate(chosen):
        site.started(**mishap.site)
        place, disk = folder / f"{number}", contextlib.nullcontext()
        with site.small_disk(place) if mishap.name == "the disk full" else disk:
            outcome = happened(place, raw, mishap, expected)
        print(f"{mishap.name}: {outcome}", flush=True)
        yield from of(mishap, outcome)
        if mishap.site:
            site.started()


def _scene(folder: Path, raw: Path, mishap: Mishap) -> Scene:
    chunk = [side // 2 for side in SHARD]
    task = staging.ingesting(staging.acquisition(raw, "zyx"), chunk, SHARD)
    resources = {**CALM, **mishap.options}
    scene = driven.ingesting(folder / "stack.json", task, 2, resources)
    tools = site.counting(
        folder.parent / "tools", {name: str(shutil.which(name)) for name in site.COMMANDS}
    )
    return replace(scene, variables={"PATH": tools})


def happened(
    folder: Path,
    raw: Path,
    mishap: Mishap,
    expected: dict[str, str],
) -> Outcome:
    """Let a mishap happen to the stage, and see what becomes of it."""
    scene, began = _scene(folder, raw, mishap), time.monotonic()
    running = Running(scene, scene.start(), folder.parent / "tools", raw)
    running.until(lambda: len(scene.recorded()) >= BEGUN)
    settled = scene.settled()
    mishap.strike(running)
    stopped = bool(running.process.wait(PATIENCE_S))
    if mishap.stops:
        mishap.mend(running)
        if scene.start().wait(PATIENCE_S):
            raise RuntimeError(scene.log.read_text("utf-8", "replace"))
    found = snapshot(scene.results) if all(path.exists() for path in scene.results) else {}
    kinds = Counter(event["kind"] for event in running.events())
    wanted = Counter(mishap.kinds)
    if "memory" in wanted and kinds["memory"]:
        wanted["memory"] = kinds["memory"]  # as many as it takes to have enough
    lines = [line for line in scene.log.read_text().splitlines() if ". Log: " in line]
    queued = site.said("squeue", "--noheader", f"--name={running.array()['name']}")
    return Outcome(
        seconds=time.monotonic() - began,
        differing=sum(found.get(file) != digest for file, digest in expected.items()),
        again=sum(marks(scene.results[0] / file) != mark for file, mark in settled.items()),
        events=kinds.total(),
        unlike=((kinds - wanted) + (wanted - kinds)).total(),
        lines=sum(": job " in line and "on " in line for line in lines),
        left=len(queued.splitlines()),
        stopped=stopped == mishap.stops,
    )


def of(mishap: Mishap, outcome: Outcome) -> Iterator[Figure]:
    """The figures of one run."""
    name = mishap.name
    yield Figure.of(f"{name}: time in all", [outcome.seconds], "s")
    yield Figure.of(f"{name}: files unlike those of the calm run", [outcome.differing], "", NONE)
    yield Figure.of(f"{name}: recorded shards written again", [outcome.again], "", NONE)
    yield Figure.of(f"{name}: events", [outcome.events], "")
    odd = outcome.unlike + abs(outcome.lines - outcome.events) + (not outcome.stopped)
    yield Figure.of(f"{name}: events unlike what happened", [odd], "", NONE)
    yield Figure.of(f"{name}: jobs left in the queue", [outcome.left], "", NONE)
