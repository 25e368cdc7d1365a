"""Planning alone: volumes of terabytes, and a campaign of ten thousand acquisitions."""

import argparse
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import yaml

from benchmarks import expanse, staging
from benchmarks.apart import Apart, apart, commanded
from benchmarks.measurement import Figure, Measurement, Target, environment
from pipeline import cards, cluster, predict, receipts, shards, tiles
from pipeline.planning import Plan
from pipeline.shards import Shards

TERABYTES = {
    1: (2048, 15625, 15625),
    10: (4096, 34939, 34939),
    100: (8192, 78125, 78125),
}
"""Sides `z, y, x` of volumes of so many terabytes of voxels."""
BASE = "nuclei_3d"
MOST_TERABYTES_SOON = 10
SOON, FEW = Target("<=", 10.0), Target("<=", 150.0)
ACQUISITIONS, QUICK_ACQUISITIONS = 10_000, 100
SHOWN_LINES = 15
COMMAND = "python -m pipeline"
STARTED = Target("<=", 128.0 * 1024)
"""No longer text can be handed to a shell on Linux."""
PLANNED = (
    "A volume's metadata are written without a voxel, with the chunks, shards and pyramid of "
    "config.yaml; the model is the base nuclei_3d as it is shipped, the allocation that of "
    "profiles/slurm. Planning time is that of the whole stage until its first job would be "
    "submitted: opening the volume, planning, writing the labels' metadata, finding what is "
    "missing, dealing it to jobs. Each plan is made in a process of its own, whose peak memory "
    "includes Python and its libraries."
)
COUNTED = "Files are those that stay, at most: shards of labels at all levels, metadata, table."


class SubmittedError(Exception):
    """The first jobs of a stage would be submitted now."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What was planned.

    Attributes
    ----------
    seconds: until jobs would be submitted.
    jobs: of all levels together.
    """

    plan: Plan
    seconds: float
    jobs: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--repetitions", type=int, default=3, help="of each time (default: 3); --quick takes 1"
    )
    parser.add_argument(
        "--acquisitions",
        type=int,
        default=ACQUISITIONS,
        help="of the campaign (default: 10000); --quick takes 100",
    )


def measure(options: argparse.Namespace) -> Measurement:
    """Plan volumes, then a campaign.

    Raises RuntimeError where Snakemake fails.
    """
    here, repetitions = environment(), 1 if options.quick else options.repetitions
    count = QUICK_ACQUISITIONS if options.quick else options.acquisitions
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="equiscope-plan-") as temporary:
        folder = Path(temporary)
        for terabytes, sides in list(TERABYTES.items())[: 1 if options.quick else None]:
            print(f"{terabytes} TB", flush=True)
            image = expanse.described(folder / "ingest" / f"volume_{terabytes}.json", sides)
            model = staging.shipped_model(folder, BASE, image)
            receipt = folder / "predict" / BASE / f"volume_{terabytes}.json"
            runs = [apart(planned, receipt, image, model) for _ in range(repetitions)]
            found += of_volume(terabytes, runs)
        print(f"{count} acquisitions", flush=True)
        campaign(folder / "campaign", count)
        drawn = [graph(folder / "campaign") for _ in range(repetitions)]
    found += of_campaign(count, drawn)
    shown = (
        f"The campaign has {count} acquisitions of one small TIFF, and one model of the base "
        "nuclei_2d for all; nothing is made yet. Its time is that of `snakemake --profile "
        "profiles/local --dry-run --printshellcmds`, from the command to its end."
    )
    times = f"{repetitions} repetitions of each time; values are means."
    return Measurement("plan", (PLANNED, COUNTED, shown, times), here, tuple(found))


def planned(receipt: Path, image: Path, model: Path) -> Planned:
    """Predict until its first jobs would be submitted."""
    allocation = site()
    means = predict.Means(
        workers=allocation.cpus_per_task,
        memory_mb=allocation.mem_mb,
        jobs=lambda work, units: len(cluster.deal(work, units, allocation)),
    )
    seen: list[tuple[Shards, float]] = []

    def run(work: Shards) -> None:
        cluster.deal(work, work.missing(), allocation)
        seen.append((work, time.perf_counter() - began))
        raise SubmittedError

    began = time.perf_counter()
    with contextlib.suppress(SubmittedError):
        predict.predict(receipt, image, model, staging.campaign().predict_task(), means, run)
    [(work, seconds)] = seen
    plan = predict.plan(work, cards.read(receipts.result(model, "model")), means)
    phases = tiles.phases(work.levels, shards.MOST_SHARDS_PER_TREE)
    jobs = sum(len(cluster.deal(work, trees, allocation)) for trees in phases)
    return Planned(plan, seconds, jobs)


def site() -> cluster.Allocation:
    """What a job of predict gets where profiles/slurm says no more than it does."""
    profile = yaml.safe_load((staging.ROOT / "profiles/slurm/config.yaml").read_text("utf-8"))
    resources = {"place": "slurm"} | profile["set-resources"]["predict"]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in resources.items()]
    parser = argparse.ArgumentParser()
    cluster.add_arguments(parser)
    return cluster.allocation(parser.parse_args(options))


def of_volume(terabytes: int, runs: Sequence[Apart[Planned]]) -> Iterator[Figure]:
    """The figures of a volume's plans."""
    first = runs[0].result

    def add(
        name: str, values: Sequence[float], unit: str, target: Target | None = None
    ) -> Iterator[Figure]:
        yield Figure.of(f"{terabytes} TB: {name}", values, unit, target)

    soon = SOON if terabytes <= MOST_TERABYTES_SOON else None
    yield from add("planning time", [run.result.seconds for run in runs], "s", soon)
    yield from add("peak memory", [run.peak_mb for run in runs], "MB")
    yield from add("jobs per terabyte", [first.jobs / terabytes], "jobs", FEW)
    yield from add("jobs", [first.jobs], "jobs")
    yield from add("units", [first.plan.units], "units")
    yield from add("shards", [first.plan.shards], "shards")
    yield from add("files", [first.plan.files], "files")
    yield from add("tiles", [first.plan.tiles], "tiles")
    yield from add("voxels read for each that a tile owns", [first.plan.context], "voxels")


def campaign(folder: Path, count: int) -> None:
    """Write the settings of a campaign of so many acquisitions, and their one file."""
    folder.mkdir()
    tifffile.imwrite(folder / "raw.tif", np.zeros((32, 32), np.uint16))
    settings = yaml.safe_load((staging.ROOT / "config.yaml").read_text("utf-8"))
    names = [f"acquisition_{number:05}" for number in range(count)]
    said = {"axes": "yx", "channels": ["DNA"], "voxel_size_um": {"y": 0.5, "x": 0.5}}
    settings["every_acquisition"] |= said
    settings["acquisitions"] = {name: {"path": "raw.tif"} for name in names}
    settings["models"] = {
        "nuclei": {
            "channel": "DNA",
            "base": "nuclei_2d",
            "diameter_um": staging.DIAMETER_UM,
            "acquisitions": names,
        }
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")


@dataclass(frozen=True, slots=True)
class Graph:
    """What Snakemake would do.

    Attributes
    ----------
    stages: that would run.
    longest: characters of the longest of their commands.
    """

    stages: int
    longest: int


def graph(folder: Path) -> Apart[Graph]:
    """Let Snakemake say what it would do.

    Raises RuntimeError where it fails.
    """
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds"]
    command += ["--snakefile", str(staging.ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(staging.ROOT / "profiles" / "local")]
    log = folder / "dry-run.log"
    done = commanded(command, log, env=os.environ | {"PYTHONPATH": str(staging.ROOT)})
    text = log.read_text("utf-8", "replace")
    total = re.search(r"^total +(\d+)$", text, re.MULTILINE)
    if done.result or not total:
        last = text.splitlines()[-SHOWN_LINES:]
        raise RuntimeError("\n".join(["snakemake --dry-run failed:", *last]))
    longest = max(len(line.strip()) for line in text.splitlines() if COMMAND in line)
    return Apart(Graph(int(total[1]), longest), done.seconds, done.peak_mb)


def of_campaign(count: int, runs: Sequence[Apart[Graph]]) -> Iterator[Figure]:
    """The figures of a campaign's graph."""
    name = f"{count} acquisitions"
    yield Figure.of(f"{name}: time of the graph", [run.seconds for run in runs], "s")
    yield Figure.of(f"{name}: peak memory", [run.peak_mb for run in runs], "MB")
    yield Figure.of(f"{name}: stages", [runs[0].result.stages], "stages")
    longest = [runs[0].result.longest]
    yield Figure.of(f"{name}: longest command", longest, "characters", STARTED)
