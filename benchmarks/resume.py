"""A stage killed at random moments, again and again, and its bytes against those of a calm run."""

import argparse
import contextlib
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import tifffile

from benchmarks import driven, staging
from benchmarks.driven import HARMED, Scene, harm, marks, shard_files, snapshot
from benchmarks.measurement import Figure, Measurement, Target, environment

JOBS = 2
QUICK_KILLS = 3
NOTHING, ONE_PER_WORKER = Target("<=", 0.0), Target("<=", float(JOBS))
PATIENCE_S, SHORTLY_S = 300.0, 0.5
MOST_KILLS_PER_RUN, MOST_LEVELS, SHOWN_LINES = 8, 99, 15
KILLED = EVERYTHING, DRIVER, ONE_JOB = "everything", "the driver", "a process of one job"
WHOM = (EVERYTHING, EVERYTHING, DRIVER, ONE_JOB)
"""Who is killed, in equal shares."""
RUNS = (
    "`python -m pipeline {stage} --place local --jobs {jobs}`: a driver, and jobs that are "
    "processes of their own with one thread each. A kill is SIGKILL: to everything; to the driver "
    "alone, whose jobs go on until the next driver finds them; or to a job's process or its "
    "controller's, while the driver goes on. Where the driver died, the command is given again."
)
MOMENTS = (
    "Moments are random: a third within as many seconds as a calm run takes, a third when a random "
    "number of further shards is recorded, a third when all are, while the result is checked and "
    f"published. A run is killed up to {MOST_KILLS_PER_RUN} times before it may end; the runs that "
    "ended are compared with the calm one, byte for byte: all files of {results}."
)
TWICE = (
    "Written twice: shards on disk without a record when everything is killed, which are made "
    "again. A recorded shard's file is recognised by inode and time of change. Work on shards that "
    "had not yet come to disk is lost as well, and not counted."
)
HARMS = (
    "After about half of the kills of everything, one shard of the unfinished store is harmed as a "
    "crash of the machine may harm it: shortened, emptied or deleted, whether recorded or not. It "
    "and those of coarser levels may be written again from then on."
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A stage that is killed.

    Attributes
    ----------
    shape, quick_shape, shard: sides of the volume, and of its shards.
    crowd: voxels per object.
    told: what is compared.
    harmed: whether shards are harmed as well.
    prepared: makes what the stage needs in a folder, from an image.
    """

    name: str
    shape: tuple[int, ...]
    quick_shape: tuple[int, ...]
    shard: tuple[int, ...]
    crowd: int
    told: str
    harmed: bool
    prepared: Callable[[Path, npt.NDArray[np.uint16]], Scene]


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
    harmed: how many shards were harmed, and how.
    """

    killed: Counter[str] = field(default_factory=Counter)
    twice: list[int] = field(default_factory=list)
    rewritten: int = 0
    ended: int = 0
    differing: int = 0
    harmed: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        """All of them."""
        return self.killed.total()


def of_predict(folder: Path, image: npt.NDArray[np.uint16]) -> Scene:
    """A volume, and a small model that has learnt to find its objects."""
    model, shard = staging.small_model(folder, "yx"), KINDS["predict"].shard
    receipt = staging.ingested(folder / "ingest" / "plane.json", image, "yx", shard, shard)
    made = folder / "predict" / model.stem / "plane.json"
    return driven.predicting(receipt, model, made, (32, 64), JOBS)


def of_ingest(folder: Path, image: npt.NDArray[np.uint16]) -> Scene:
    """A raw file."""
    raw = folder / "stack.tif"
    tifffile.imwrite(raw, image, photometric="minisblack")
    shard = KINDS["ingest"].shard
    chunk = [side // 2 for side in shard]
    task = staging.ingesting(staging.acquisition(raw, "zyx"), chunk, shard)
    return driven.ingesting(folder / "ingest" / "stack.json", task, JOBS)


KINDS = {
    "predict": Kind(
        name="predict",
        shape=(512, 1024),
        quick_shape=(128, 128),
        shard=(64, 64),
        crowd=400,
        told="labels and table",
        harmed=False,
        prepared=of_predict,
    ),
    "ingest": Kind(
        name="ingest",
        shape=(63, 384, 320),
        quick_shape=(31, 96, 96),
        shard=(16, 32, 32),
        crowd=2500,
        told="the volume",
        harmed=True,
        prepared=of_ingest,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--stage", choices=KINDS, default="predict", help="default: predict")
    parser.add_argument("--kills", type=int, default=54, help="default: 54; --quick takes 3")
    parser.add_argument("--seed", type=int, default=0, help="of all moments (default: 0)")


def measure(options: argparse.Namespace) -> Measurement:
    """Run the stage once in calm, then under kills until there were enough.

    Raises RuntimeError where a run fails that nobody killed.
    """
    here, kills = environment(), QUICK_KILLS if options.quick else options.kills
    kind = KINDS[options.stage]
    shape = kind.quick_shape if options.quick else kind.shape
    generator, tally = np.random.default_rng(options.seed), Tally()
    with tempfile.TemporaryDirectory(prefix="equiscope-resume-") as temporary:
        image, _ = staging.scattered(shape, int(np.prod(shape)) // kind.crowd, generator)
        scene = kind.prepared(Path(temporary), image)
        began = time.monotonic()
        _to_its_end(scene, scene.start())
        calm_s, expected = time.monotonic() - began, snapshot(scene.results)
        files = shard_files(scene.results[0])
        print(f"calm: {calm_s:.0f} s", flush=True)
        while tally.kills < kills:
            scene.forget()
            most = min(MOST_KILLS_PER_RUN, kills - tally.kills)
            moments = Moments(generator, calm_s, len(files), kind.harmed)
            storm(scene, moments, tally, most)
            tally.ended += 1
            tally.differing += snapshot(scene.results) != expected
            print(f"{tally.kills} of {kills} kills, {tally.ended} runs ended", flush=True)
    finest = sum(file.startswith("0/") for file in files)
    sides = (
        f"{'A plane' if len(shape) == 2 else 'A stack'} of {' x '.join(map(str, shape))} voxels "
        f"in {finest} shards of {' x '.join(map(str, kind.shard))}, {len(files)} with those of the "
        f"pyramid; a calm run takes {calm_s:.0f} s."
    )
    told = [sides, RUNS.format(stage=kind.name, jobs=JOBS), MOMENTS.format(results=kind.told)]
    told += [TWICE, *([HARMS] if kind.harmed else [])]
    name = "resume" if kind.name == "predict" else f"resume_{kind.name}"
    return Measurement(name, tuple(told), here, tuple(figures(tally, finest, kind.harmed)))


@dataclass(frozen=True, slots=True)
class Moments:
    """When to kill, and whether to harm a shard then.

    Attributes
    ----------
    calm_s: how long a run takes that nobody kills.
    shards: how many records it leaves.
    """

    generator: np.random.Generator
    calm_s: float
    shards: int
    harming: bool = False

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
    coarsest = MOST_LEVELS
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
            if moments.harming and moments.generator.integers(2):
                coarsest = min(coarsest, _harm(scene, moments.generator, tally, settled))
            settled = {file: mark for file, mark in settled.items() if _level(file) <= coarsest}
        tally.killed[whom] += 1
        process = scene.start()
    _to_its_end(scene, process)
    tally.rewritten += _changed(settled, scene.results[0])


def _harm(
    scene: Scene,
    generator: np.random.Generator,
    tally: Tally,
    settled: dict[str, tuple[int, int]],
) -> int:
    """Harm one shard, if there is any, which is settled no longer. Returns its level."""
    files = sorted(shard_files(scene.building))
    if not files:
        return MOST_LEVELS
    file, how = str(generator.choice(files)), str(generator.choice(HARMED))
    harm(scene.building / file, how, generator)
    tally.harmed[how] += 1
    settled.pop(file, None)
    return _level(file)


def _level(file: str) -> int:
    return int(file.partition("/")[0])


def _changed(settled: Mapping[str, tuple[int, int]], store: Path) -> int:
    """Files that are not what they were. A store that is published meanwhile is looked at later."""
    if not store.exists():
        return 0
    return sum(marks(store / file) != mark for file, mark in settled.items())


def _to_its_end(scene: Scene, process: subprocess.Popen[bytes]) -> None:
    if process.wait(PATIENCE_S):
        last = scene.log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:]
        raise RuntimeError("\n".join(["a run failed that nobody killed:", *last]))


def figures(tally: Tally, finest: int, harming: bool) -> Iterator[Figure]:
    """What the kills did."""
    yield Figure.of("kills", [tally.kills], "kills", Target(">=", 50.0))
    for whom in KILLED:
        yield Figure.of(f"kills of {whom}", [tally.killed[whom]], "kills")
    for how in HARMED if harming else ():
        yield Figure.of(f"shards {how} after a kill", [tally.harmed[how]], "shards")
    yield Figure.of("shards of the finest level", [finest], "shards", Target(">=", 60.0))
    yield Figure.of("runs that ended", [tally.ended], "runs")
    yield Figure.of("of these with other bytes", [tally.differing], "runs", NOTHING)
    yield Figure.of("recorded shards written again", [tally.rewritten], "shards", NOTHING)
    yield Figure.of("written twice after a kill", tally.twice or [0], "shards", ONE_PER_WORKER)
