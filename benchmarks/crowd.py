"""A campaign of many small acquisitions on a SLURM: what its driver takes, and asks."""

import os
import shutil
import subprocess
import sys
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
from benchmarks.measurement import Figure, Target
from pipeline import receipts

SIDES, OBJECTS = (256, 256), 40
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
    """What the campaign took. `pss_mb` and `rss_mb` are the most at once."""

    seconds: float
    pss_mb: float
    rss_mb: float
    calls: list[tuple[float, str]]
    predictions: int


def figures(folder: Path, count: int) -> Iterator[Figure]:
    """Run the campaign. Raises RuntimeError where it fails."""
    ran = run(folder, count)
    name = f"{count} acquisitions"
    yield Figure.of(f"{name}: time in all", [ran.seconds], "s")
    yield Figure.of(f"{name}: predictions", [ran.predictions], "", Target(">=", count))
    yield Figure.of(f"{name}: memory of the driver", [ran.pss_mb], "MB", LITTLE)
    yield Figure.of(f"{name}: the same, shared pages for each", [ran.rss_mb], "MB")
    rate = len(ran.calls) / ran.seconds
    yield Figure.of(f"{name}: SLURM commands per second", [rate], "", SELDOM)
    yield Figure.of(f"{name}: the same, in the busiest minute", [busiest(ran.calls)], "", SELDOM)
    for command, times in sorted(Counter(name for _, name in ran.calls).items()):
        yield Figure.of(f"{name}: calls of {command}", [times], "")


def busiest(calls: list[tuple[float, str]]) -> float:
    """Commands per second of the minute that had most."""
    times = [at for at, _ in calls]
    return max((sum(at <= other < at + 60 for other in times) for at in times), default=0) / 60


def campaign(folder: Path, count: int) -> None:
    """Write the files and settings of a campaign."""
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
    campaign(folder, count)
    tools = folder / "tools"
    path = site.counting(tools, {name: str(shutil.which(name)) for name in site.COMMANDS})
    command = [sys.executable, "-m", "snakemake", "--nocolor", "--directory", str(folder)]
    command += ["--snakefile", str(staging.ROOT / "Snakefile")]
    command += ["--profile", str(staging.ROOT / "profiles" / "slurm"), "--set-resources"]
    command += [f"{stage}:mem_mb={JOB_MB}" for stage in STAGES]
    command += [f"{stage}:jobs=2" for stage in STAGES]
    command += [f"{stage}:slurm_partition=preempt0" for stage in STAGES]
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(staging.ROOT)}
    began, pss, rss = time.monotonic(), 0.0, 0.0
    log = folder / "terminal.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=variables)
        while process.poll() is None:
            now = _memory_mb(process.pid)
            pss, rss = max(pss, now[0]), max(rss, now[1])
            time.sleep(LOOK_S)
    seconds = time.monotonic() - began
    if process.returncode:
        last = log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:]
        raise RuntimeError("\n".join(["the campaign failed:", *last]))
    made = (folder / "results" / "predict" / "nuclei").glob("field_*.json")
    whole = [path for path in made if "cost" not in path.name and receipts.read(path)["facts"]]
    return Ran(seconds, pss, rss, site.calls(tools), len(whole))


def _memory_mb(process: int) -> tuple[float, float]:
    """Proportional and resident sizes of a process and all that descend from it."""
    pss = rss = 0.0
    try:
        head = psutil.Process(process)
        family = [head, *head.children(recursive=True)]
    except psutil.Error:
        return 0.0, 0.0
    for each in family:
        try:
            told = each.memory_full_info()
        except psutil.Error:
            continue
        pss, rss = pss + told.pss / 1e6, rss + told.rss / 1e6
    return pss, rss
