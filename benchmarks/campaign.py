"""A campaign of many small acquisitions on a SLURM: what its driver takes, and asks."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile
import yaml

from benchmarks import site, staging
from benchmarks.measurement import Figure, Measurement, Target, environment
from pipeline import receipts

SIDES, OBJECTS, QUICK_COUNT = (256, 256), 40, 6
LOOK_S = 1.0
LITTLE = Target("<=", 1000.0)
SELDOM = Target("<=", 1.0)
SHOWN_LINES = 15
JOB_MB = 900
STAGES = ("ingest", "finetune", "predict")
TOLD = (
    "The campaign: {count} acquisitions of one image of 256 x 256 pixels each, one model, the base "
    "nuclei_2d as it is; `snakemake --profile profiles/slurm` from the command to its end on three "
    "nodes, jobs with 900 MB. Memory is that of Snakemake and all that descends from it, jobs are "
    "no part of it: proportional set sizes, where what processes share counts once, and resident "
    "ones, where it counts for each; looked at every second. Commands are counted by scripts that "
    "stand before SLURM's own: sbatch, squeue, sacct, scontrol, scancel, sinfo."
)


@dataclass(frozen=True, slots=True)
class Ran:
    """What the campaign took; `seen` at each look at its processes, in order."""

    seconds: float
    seen: list["Family"]
    calls: list[tuple[float, str]]
    predictions: int


@dataclass(frozen=True, slots=True)
class Family:
    """Snakemake and all that descends from it, at one moment.

    Attributes
    ----------
    pss_mb, rss_mb: proportional and resident sizes, added up.
    stages: how many wait for jobs.
    reports: whether the report is being made.
    """

    pss_mb: float = 0.0
    rss_mb: float = 0.0
    stages: int = 0
    reports: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--acquisitions", type=int, default=200, help="of the campaign (%(default)s); --quick: 6"
    )


def measure(options: argparse.Namespace) -> Measurement:
    """Run the campaign.

    Raises RuntimeError where no SLURM runs, or the campaign fails.
    """
    here = environment()
    count = QUICK_COUNT if options.quick else options.acquisitions
    site.started()
    with tempfile.TemporaryDirectory(prefix="equiscope-campaign-") as temporary:
        ran = run(Path(temporary) / "campaign", count)
    return Measurement("campaign", (TOLD.format(count=count),), here, tuple(figures(ran, count)))


def figures(ran: Ran, count: int) -> Iterator[Figure]:
    """The figures of the run."""
    name = f"{count} acquisitions"
    yield Figure.of(f"{name}: time in all", [ran.seconds], "s")
    yield Figure.of(f"{name}: predictions", [ran.predictions], "", Target(">=", count))
    before = [now for now in ran.seen if not now.reports]
    most = max(now.pss_mb for now in before)
    yield Figure.of(f"{name}: memory of the driver, until the report", [most], "MB", LITTLE)
    most = max(now.pss_mb for now in ran.seen)
    yield Figure.of(f"{name}: memory of the driver, with the report", [most], "MB", LITTLE)
    most = max(now.rss_mb for now in ran.seen)
    yield Figure.of(f"{name}: the same, shared pages for each", [most], "MB")
    most = max(now.stages for now in ran.seen)
    yield Figure.of(f"{name}: stages that wait for jobs, at once", [most], "")
    rate = len(ran.calls) / ran.seconds
    yield Figure.of(f"{name}: SLURM commands per second", [rate], "", SELDOM)
    yield Figure.of(f"{name}: the same, in the busiest minute", [busiest(ran.calls)], "", SELDOM)
    for command, times in sorted(Counter(name for _, name in ran.calls).items()):
        yield Figure.of(f"{name}: calls of {command}", [times], "")


def busiest(calls: list[tuple[float, str]]) -> float:
    """Commands per second of the minute that had most."""
    times = [at for at, _ in calls]
    return max((sum(at <= other < at + 60 for other in times) for at in times), default=0) / 60


def written(folder: Path, count: int) -> None:
    """Write the files and settings of the campaign."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    names = [f"field_{number:03}" for number in range(count)]
    image, _ = staging.simulated("yx", SIDES, OBJECTS, generator)
    for name in names:
        noisy = image + generator.integers(0, 3, SIDES, np.uint16)
        tifffile.imwrite(folder / f"{name}.tif", noisy)
    given = yaml.safe_load((staging.ROOT / "config.yaml").read_text("utf-8"))
    known = {"axes": "yx", "channels": ["DNA"], "voxel_size_um": {"y": 0.5, "x": 0.5}}
    given["every_acquisition"] |= known
    given["acquisitions"] = {name: {"path": f"{name}.tif"} for name in names}
    model = {"channel": "DNA", "base": "nuclei_2d", "diameter_um": staging.DIAMETER_UM}
    given["models"] = {"nuclei": model | {"acquisitions": names}}
    given["predict"]["tile_voxels"]["yx"] = [128, 128]
    given["ingest"]["chunk_voxels"]["yx"] = given["ingest"]["shard_voxels"]["yx"] = [256, 256]
    given["ingest"]["shard_frames"]["yx"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(given, sort_keys=False), "utf-8")


def run(folder: Path, count: int) -> Ran:
    """Type the command, and look at its processes. Raises RuntimeError where it fails."""
    written(folder, count)
    tools = folder / "tools"
    path = site.counting(tools, {name: str(shutil.which(name)) for name in site.COMMANDS})
    command = [sys.executable, "-m", "snakemake", "--nocolor", "--directory", str(folder)]
    command += ["--snakefile", str(staging.ROOT / "Snakefile")]
    command += ["--profile", str(staging.ROOT / "profiles" / "slurm"), "--set-resources"]
    command += [f"{stage}:mem_mb={JOB_MB}" for stage in STAGES]
    command += [f"{stage}:jobs=2" for stage in STAGES]
    command += [f"{stage}:slurm_partition=preempt0" for stage in STAGES]
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(staging.ROOT)}
    began, seen = time.monotonic(), list[Family]()
    log = folder / "terminal.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=variables)
        while process.poll() is None:
            seen.append(family(process.pid))
            time.sleep(LOOK_S)
    seconds = time.monotonic() - began
    if process.returncode:
        last = log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:]
        raise RuntimeError("\n".join(["the campaign failed:", *last]))
    made = (folder / "results" / "predict" / "nuclei").glob("field_???.json")
    whole = [path for path in made if receipts.read(path)["facts"]]
    return Ran(seconds, seen, site.calls(tools), len(whole))


def family(process: int) -> Family:
    """A process and all that descend from it, now."""
    now = Family()
    try:
        head = psutil.Process(process)
        members = [head, *head.children(recursive=True)]
    except psutil.Error:
        return now
    for each in members:
        try:
            told, words = each.memory_full_info(), each.cmdline()
        except psutil.Error:
            continue
        stage = words[words.index("pipeline") + 1] if "pipeline" in words[:-1] else ""
        now = Family(
            now.pss_mb + told.pss / 1e6,
            now.rss_mb + told.rss / 1e6,
            now.stages + (stage in STAGES),
            now.reports or stage == "report",
        )
    return now
