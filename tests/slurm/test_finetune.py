"""The law of a training on a real SLURM: who interrupts it, and how often, changes no weight."""

import json
import subprocess
from pathlib import Path

import campaigns

PREEMPTIONS = 3
STEPS = {"steps": {"yx": 2400, "zyx": 4}, "learning_rate": 0.01, "balance": 0.5}
SHOW = ("scontrol", "--oneliner", "show", "job")
JOBS = "logs/finetune/nuclei.log.jobs"
TARGET = "results/finetune/nuclei.json"


def slurm(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def learning(folder: Path) -> Path:
    """A campaign whose training takes long enough to be interrupted."""
    given = {"start": dict.fromkeys(("base", "nothing"), STEPS), "gate": {"members": ["control"]}}
    return campaigns.planar(folder, frames=2, finetune=given)


def events(folder: Path) -> list[dict[str, object]]:
    path = folder / JOBS / "events.jsonl"
    return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def checkpoints(folder: Path) -> int:
    """Changes with every checkpoint; 0 while there is none."""
    building = folder / "results/finetune/nuclei.model.building"
    return sum(path.stat().st_mtime_ns for path in building.glob("*/checkpoint.pt"))


def test_a_training_preempted_again_and_again_comes_to_the_same_weights(tmp_path: Path) -> None:
    calm = learning(tmp_path / "calm")
    campaigns.finish(calm, TARGET)
    stormy = campaigns.raw(calm, tmp_path / "stormy")
    resources = ["mem_mb=1300", "jobs=1", "cpus_per_task=4", "slurm_partition=preempt0"]
    options = [f"finetune:{each}" for each in [*resources, "slurm_extra=--nodelist=c1"]]
    ingest = ["ingest:mem_mb=1300", "ingest:jobs=1"]
    workflow = campaigns.start(
        stormy, TARGET, "--set-resources", *ingest, *options, profile="slurm"
    )
    try:
        for number in range(PREEMPTIONS):
            before = checkpoints(stormy)
            campaigns.until(lambda before=before: checkpoints(stormy) not in (0, before), 120)
            slurm("sbatch", "-pcpu", "-wc1", "-c4", "--mem=100M", "-o/dev/null", "--wrap=true")
            [job] = json.loads((stormy / JOBS / "array.json").read_text())["jobs"]
            again = {f"Restarts={number + 1}", "JobState=RUNNING"}
            campaigns.until(lambda job=job, again=again: again <= {*slurm(*SHOW, job).split()}, 120)
        assert workflow.wait(campaigns.LIMIT_S) == 0, campaigns.said(stormy)
    finally:
        workflow.kill()
    assert [event["kind"] for event in events(stormy)] == ["preemption"] * PREEMPTIONS
    model = "finetune/nuclei.model/"
    weights, expected = (
        {name: digest for name, digest in campaigns.tree(folder).items() if model in name}
        for folder in (stormy, calm)
    )
    assert weights == expected
    assert expected
