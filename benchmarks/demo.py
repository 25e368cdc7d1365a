"""The demo campaign from raw files to report: its scores and how long its stages take."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measurement import Figure, Measurement, Target, environment
from pipeline import cards, receipts

ROOT = Path(__file__).resolve().parents[1]
ENOUGH = {("nuclei/scratch_assay", 0.5): Target(">=", 0.9)}
"""The F1 that a model must reach on an acquisition at an overlap."""
EXACT = Target("<=", 1e-5)
SHOWN_LINES = 20
CAMPAIGN = (
    "The campaign of config.yaml, from raw files to report, in a fresh folder, with "
    "`snakemake --profile profiles/local`, each process on one thread."
)
UNSEEN = (
    "Scores leave out what was trained on: frame 0 of the scratch assay, a quarter of the field "
    "of the confocal stack. Objects match one to one, counted over all frames together."
)
TIMES = (
    "Times are wall-clock, those of stages to a second from Snakemake's log; stages run beside "
    "each other on the cores there are, and share them with whatever else runs."
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the campaign.

    Attributes
    ----------
    seconds: wall-clock of each result, such as `ingest/scratch_assay`.
    total: seconds from the command to its end.
    results: facts of the report's receipt, by `MODEL/ACQUISITION`.
    orphans: of each `MODEL/ACQUISITION`.
    certificates: of each model.
    """

    seconds: dict[str, float]
    total: float
    results: dict[str, dict[str, Any]]
    orphans: dict[str, int]
    certificates: dict[str, cards.Certificate]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="of fine-tuning, one whole run each (default: 0 1 2); --quick takes the first",
    )
    parser.add_argument(
        "--keep", type=Path, help="folder to keep each run in (default: a temporary one)"
    )


def measure(options: argparse.Namespace) -> Measurement:
    """Run the campaign once per seed, each in a fresh folder.

    Raises RuntimeError where a run fails.
    """
    seeds: list[int] = options.seeds[:1] if options.quick else options.seeds
    here = environment()
    runs = []
    with tempfile.TemporaryDirectory(prefix="equiscope-demo-") as temporary:
        for number, seed in enumerate(seeds, start=1):
            folder = (options.keep or Path(temporary)) / f"seed-{seed}"
            print(f"run {number} of {len(seeds)}: seed {seed}", flush=True)
            runs.append(_run(folder, seed))
    return Measurement("demo", _protocol(seeds, runs[0]), here, _figures(runs))


def _run(folder: Path, seed: int) -> Run:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "config.yaml", folder)
    command = [sys.executable, "-m", "snakemake", "--nocolor"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(ROOT / "profiles" / "local")]
    command += ["--config", "results=results", f"finetune={{seed: {seed}}}"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began, lines = time.monotonic(), []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            _tell(lines, time.monotonic() - began)
    total = time.monotonic() - began
    if process.returncode:
        raise RuntimeError("\n".join(["the demo failed:", *lines[-SHOWN_LINES:]]))
    return collect(folder / "results", durations(lines), total)


def _tell(lines: Sequence[str], seconds: float) -> None:
    """Say what the workflow has just begun."""
    if found := re.match(r"    output: results/([^,\n]*)\.json\b", lines[-1]):
        print(f"  {seconds:4.0f} s  {found[1]}", flush=True)


def durations(lines: Iterable[str]) -> dict[str, float]:
    """Seconds, to one, from the start to the end of each result in Snakemake's log."""
    now, output = datetime.min, ""
    began: dict[str, tuple[str, datetime]] = {}
    found = {}
    for line in lines:
        if stamp := re.match(r"\[(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4})\]$", line):
            now = datetime.strptime(stamp[1], "%a %b %d %H:%M:%S %Y")
        elif made := re.match(r"    output: results/([^,\n]*)\.json\b", line):
            output = made[1]
        elif (begun := re.match(r"    jobid: (\d+)$", line)) and output:
            began[begun[1]], output = (output, now), ""
        elif (ended := re.match(r"Finished jobid: (\d+) ", line)) and ended[1] in began:
            result, start = began[ended[1]]
            found[result] = (now - start).total_seconds()
    return found


def collect(results: Path, seconds: dict[str, float], total: float) -> Run:
    """Everything that a finished campaign says about itself."""
    shown = receipts.read(results / "report" / "campaign.json")["facts"]["results"]
    models = sorted({name.partition("/")[0] for name in shown})
    return Run(
        seconds=seconds,
        total=total,
        results=shown,
        orphans={
            name: receipts.read(results / "predict" / f"{name}.json")["facts"]["orphans"]
            for name in shown
        },
        certificates={
            model: cards.read(results / "finetune" / f"{model}.model").certificate
            for model in models
        },
    )


def _protocol(seeds: Sequence[int], run: Run) -> tuple[str, ...]:
    origins = [
        f"The reference labels of {name} were {score['origin']}: a score says how far two "
        "algorithms agree, not which one is right."
        for name, result in run.results.items()
        for score in result["scores"]
    ]
    return (CAMPAIGN, _repetitions(seeds), UNSEEN, *origins, TIMES)


def _repetitions(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"One run, with finetune.seed {seeds[0]}."
    return (
        f"{len(seeds)} runs, with finetune.seed {', '.join(map(str, seeds))}. Values are means; "
        "a target is met where the worst run meets it."
    )


def _figures(runs: Sequence[Run]) -> tuple[Figure, ...]:
    figures = []

    def add(name: str, values: Iterable[float], unit: str, target: Target | None = None) -> None:
        figures.append(Figure.of(name, list(values), unit, target))

    for name, result in runs[0].results.items():
        for number, score in enumerate(result["scores"]):
            for at, row in enumerate(score["total"]["at"]):
                rows = [run.results[name]["scores"][number]["total"]["at"][at] for run in runs]
                where = f"at overlap {row['overlap']:g}"
                enough = ENOUGH.get((name, row["overlap"]))
                add(f"{name}: F1 {where}", (r["f1"] for r in rows), "", enough)
                add(f"{name}: AP {where}", (r["average_precision"] for r in rows), "")
        add(f"{name}: objects", (run.results[name]["objects"] for run in runs), "objects")
        add(f"{name}: orphans", (run.orphans[name] for run in runs), "objects")
    for model in runs[0].certificates:
        errors = (run.certificates[model].equivariance for run in runs)
        add(f"{model}: equivariance error of the exported network", errors, "", EXACT)
    for made in runs[0].seconds:
        add(f"time: {made}", (run.seconds[made] for run in runs), "s")
    add("time: everything", (run.total for run in runs), "s")
    return tuple(figures)
