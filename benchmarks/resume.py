"""Predict killed at random moments, again and again, and its bytes against those of a calm run."""

import argparse
import contextlib
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from benchmarks import staging
from benchmarks.driven import Scene, marks, shard_files, snapshot
from benchmarks.measurement import Figure, Measurement, Target, environment

JOBS = 2
SHAPE, SHARD, TILE = (512, 1024), (64, 64), (32, 64)
QUICK_SHAPE, QUICK_KILLS = (128, 128), 3
NOTHING, ONE_PER_WORKER = Target("<=", 0.0), Target("<=", float(JOBS))
PATIENCE_S, SHORTLY_S = 300.0, 0.5
VOXELS_PER_OBJECT, MOST_KILLS_PER_RUN, SHOWN_LINES = 400, 8, 15
KILLED = EVERYTHING, DRIVER, ONE_JOB = "everything", "the driver", "a process of one job"
WHOM = (EVERYTHING, EVERYTHING, DRIVER, ONE_JOB)
"""Who is killed, in equal shares."""
RUNS = (
    f"`python -m pipeline predict --place local --jobs {JOBS}`: a driver, and jobs that are "
    "processes of their own with one thread each. A kill is SIGKILL: to everything; to the driver "
    "alone, whose jobs go on until the next driver finds them; or to a job's process or its "
    "controller's, while the driver goes on. Where the driver died, the command is given again."
)
MOMENTS = (
    "Moments are random: a third within as many seconds as a calm run takes, a third when a random "
    "number of further shards is recorded, a third when all are, while the result is checked and "
    f"published. A run is killed up to {MOST_KILLS_PER_RUN} times before it may end; the runs that "
    "ended are compared with the calm one, byte for byte: all files of labels and table."
)
TWICE = (
    "Written twice: shards on disk without a record when everything is killed, which are made "
    "again. A recorded shard's file is recognised by inode and time of change. Work on shards that "
    "had not yet come to disk is lost as well, and not counted."
)


@dataclass(slots=True)
class Tally:
    """What kills did; it grows.

    Attributes
    ----------
    killed: how often each was killed.
    twice: for each kill of everything, shards that were on disk without a record.
    rewritten: recorded shards that were written again.
    ended: runs that came to their end.
    differing: those of them whose bytes are not those of the calm run.
    """

    killed: Counter[str] = field(default_factory=Counter)
    twice: list[int] = field(default_factory=list)
    rewritten: int = 0
    ended: int = 0
    differing: int = 0

    @property
    def kills(self) -> int:
        """All of them."""
        return self.killed.total()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--kills", type=int, default=54, help="default: 54; --quick takes 3")
    parser.add_argument("--seed", type=int, default=0, help="of all moments (default: 0)")


def measure(options: argparse.Namespace) -> Measurement:
    """Predict once in calm, then under kills until there were enough.

    Raises RuntimeError where a run fails that nobody killed.
    """
    here, kills = environment(), QUICK_KILLS if options.quick else options.kills
    shape = QUICK_SHAPE if options.quick else SHAPE
    generator, tally = np.random.default_rng(options.seed), Tally()
    with tempfile.TemporaryDirectory(prefix="equiscope-resume-") as temporary:
        scene = prepared(Path(temporary), shape, generator)
        began = time.monotonic()
        _to_its_end(scene, scene.start())
        calm_s, expected = time.monotonic() - began, snapshot(scene.results)
        files = shard_files(scene.results[0])
        print(f"calm: {calm_s:.0f} s", flush=True)
        while tally.kills < kills:
            scene.forget()
            most = min(MOST_KILLS_PER_RUN, kills - tally.kills)
            storm(scene, Moments(generator, calm_s, len(files)), tally, most)
            tally.ended += 1
            tally.differing += snapshot(scene.results) != expected
            print(f"{tally.kills} of {kills} kills, {tally.ended} runs ended", flush=True)
    finest = sum(file.startswith("0/") for file in files)
    plane = (
        f"A plane of {' x '.join(map(str, shape))} voxels in {finest} shards of "
        f"{' x '.join(map(str, SHARD))}, {len(files)} with those of the pyramid; a calm run takes "
        f"{calm_s:.0f} s."
    )
    protocol = (plane, RUNS, MOMENTS, TWICE)
    return Measurement("resume", protocol, here, figures(tally, finest))


def prepared(folder: Path, shape: tuple[int, ...], generator: np.random.Generator) -> Scene:
    """A volume of simulated objects, and a small model that has learnt to find them."""
    model = staging.small_model(folder, "yx")
    count = int(np.prod(shape)) // VOXELS_PER_OBJECT
    image, _ = staging.scattered(shape, count, generator)
    receipt = staging.ingested(folder / "ingest" / "plane.json", image, "yx", SHARD, SHARD)
    return Scene(receipt, model, folder / "predict" / model.stem / "plane.json", TILE, JOBS)


@dataclass(frozen=True, slots=True)
class Moments:
    """When to kill.

    Attributes
    ----------
    calm_s: how long a run takes that nobody kills.
    shards: how many records it leaves.
    """

    generator: np.random.Generator
    calm_s: float
    shards: int

    def wait(self, scene: Scene, process: subprocess.Popen[bytes]) -> bool:
        """Wait for a random moment. Whether the process still ran then."""
        kind = str(self.generator.choice(["time", "progress", "end"]))
        after_s = self.generator.uniform(0, self.calm_s if kind == "time" else SHORTLY_S)
        further = int(self.generator.integers(1, max(2, self.shards // 6)))
        enough = {"time": 0, "progress": len(scene.recorded()) + further, "end": self.shards}
        until = min(enough[kind], self.shards)
        while len(scene.recorded()) < until and process.poll() is None:
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        return process.poll() is None


def storm(scene: Scene, moments: Moments, tally: Tally, kills: int) -> None:
    """Predict to the end, under so many kills at most.

    Raises RuntimeError where a run fails that nobody killed.
    """
    settled: dict[str, tuple[int, int]] = {}
    process = scene.start()
    for _ in range(kills):
        if not moments.wait(scene, process):
            break
        whom = str(moments.generator.choice(WHOM))
        jobs = scene.jobs()
        if whom == ONE_JOB and jobs:
            with contextlib.suppress(psutil.NoSuchProcess):
                jobs[moments.generator.integers(len(jobs))].kill()
            tally.killed[whom] += 1
            continue
        whom = DRIVER if whom == DRIVER else EVERYTHING
        process.kill()
        process.wait()
        if whom == EVERYTHING:
            scene.end()
            tally.twice.append(scene.unrecorded())
            tally.rewritten += _changed(settled, scene.building)
            settled |= scene.settled()
        tally.killed[whom] += 1
        process = scene.start()
    _to_its_end(scene, process)
    tally.rewritten += _changed(settled, scene.results[0])


def _changed(settled: Mapping[str, tuple[int, int]], store: Path) -> int:
    """Files that are not what they were. A store that is published meanwhile is looked at later."""
    if not store.exists():
        return 0
    return sum(marks(store / file) != mark for file, mark in settled.items())


def _to_its_end(scene: Scene, process: subprocess.Popen[bytes]) -> None:
    if process.wait(PATIENCE_S):
        last = scene.log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:]
        raise RuntimeError("\n".join(["a run failed that nobody killed:", *last]))


def figures(tally: Tally, finest: int) -> tuple[Figure, ...]:
    """What the kills did."""
    killed = [Figure.of(f"kills of {whom}", [tally.killed[whom]], "kills") for whom in KILLED]
    return (
        Figure.of("kills", [tally.kills], "kills", Target(">=", 50.0)),
        *killed,
        Figure.of("shards of the finest level", [finest], "shards", Target(">=", 60.0)),
        Figure.of("runs that ended", [tally.ended], "runs"),
        Figure.of("of these with other bytes", [tally.differing], "runs", NOTHING),
        Figure.of("recorded shards written again", [tally.rewritten], "shards", NOTHING),
        Figure.of("written twice after a kill", tally.twice or [0], "shards", ONE_PER_WORKER),
    )
