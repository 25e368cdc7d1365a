"""Laws of the whole workflow on a real SLURM: its results are those of a workstation."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import campaigns
import pytest

FRAMES = 100  # a prediction must outlast the 5 s that SLURM leaves a cancelled job
JOBS = "logs/predict/nuclei/wound.log.jobs"
RECORDS = "results/predict/nuclei/wound.building.units"
LEAN = [  # several jobs fit on one small node
    "--set-resources",
    *(f"{stage}:mem_mb=1300" for stage in ("ingest", "finetune", "predict")),
    *(f"{stage}:jobs=2" for stage in ("ingest", "predict")),
]
ON_GPU = ["finetune:gpu=1", "finetune:slurm_partition=gpu"]


def slurm(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def jobs(folder: Path, logs: str) -> list[str]:
    """The jobs of the last array that was submitted for a result."""
    return list(json.loads((folder / logs / "array.json").read_text())["jobs"])


def arrays(folder: Path, logs: str) -> list[str]:
    """The arrays that were submitted for a result."""
    return sorted(path.name for path in (folder / logs).iterdir() if path.name.isdecimal())


def names(folder: Path) -> str:
    """What the jobs of this campaign are called in the queue."""
    records = (folder / "logs").rglob("array.json")
    return ",".join(json.loads(path.read_text())["name"] for path in records)


def queued(folder: Path) -> str:
    """Jobs of this campaign that pend or run."""
    return slurm("squeue", "--noheader", "--format=%i %T", f"--name={names(folder)}")


def half_way(folder: Path) -> None:
    """Wait until some shards of the prediction are there; most are still to be made."""
    campaigns.until(lambda: len(list((folder / RECORDS).glob("*.json"))) >= 4)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign as a workstation makes it."""
    return campaigns.finished(tmp_path_factory.getbasetemp() / "long", frames=FRAMES)


@pytest.fixture(scope="session")
def on_slurm(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same campaign as SLURM makes it, on a bad day.

    The model learns on a node with GPUs; of the prediction, somebody cancels a job.
    """
    folder = campaigns.raw(reference, tmp_path_factory.mktemp("on_slurm"))
    workflow = campaigns.start(folder, *LEAN, *ON_GPU, profile="slurm")
    half_way(folder)
    slurm("scancel", jobs(folder, JOBS)[0])
    assert workflow.wait(campaigns.LIMIT_S) == 0, campaigns.said(folder)
    return folder


@pytest.fixture
def predicting(reference: Path, tmp_path: Path) -> Iterator[Path]:
    """A campaign that SLURM is about to predict; what a failed test leaves behind is ended."""
    folder = campaigns.copy(reference, tmp_path / "campaign")
    shutil.rmtree(folder / "logs")
    shutil.rmtree(folder / "results" / "predict")
    for kind in ("labels", "tables"):
        shutil.rmtree(folder / "results" / "ingest" / "wound.ome.zarr" / kind)
    yield folder
    for process in campaigns.processes(folder):
        process.kill()
    slurm("scancel", "--quiet", f"--name={names(folder) or 'none'}")


def test_slurm_makes_the_same_bytes_as_a_workstation(reference: Path, on_slurm: Path) -> None:
    assert campaigns.tree(on_slurm) == campaigns.tree(reference)
    assert queued(on_slurm) == ""
    assert campaigns.planned(on_slurm) == set(), "nor does it matter who goes on"


def test_what_a_cancelled_job_left_undone_is_submitted_again(on_slurm: Path) -> None:
    assert ": cancelled: job" in campaigns.said(on_slurm)
    assert arrays(on_slurm, JOBS) == ["001", "002"]


def test_a_stage_that_asks_for_a_gpu_runs_where_gpus_are(on_slurm: Path) -> None:
    for job in jobs(on_slurm, "logs/finetune/nuclei.log.jobs"):
        learnt = slurm("scontrol", "show", "job", job)
        assert "NodeList=g1" in learnt
        assert "Partition=gpu" in learnt
    assert "Partition=cpu" in slurm("scontrol", "show", "job", jobs(on_slurm, JOBS)[0])


def test_a_killed_workflow_is_followed_by_one_that_waits_for_its_jobs(
    reference: Path, predicting: Path
) -> None:
    workflow = campaigns.start(predicting, *LEAN, profile="slurm")
    half_way(predicting)
    os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait(10)
    assert queued(predicting) != "", "killed too late"
    said = campaigns.finish(predicting, *LEAN, profile="slurm")
    assert "submitted" not in said
    assert arrays(predicting, JOBS) == ["001"], "no unit was computed twice"
    assert campaigns.tree(predicting) == campaigns.tree(reference)
    assert queued(predicting) == ""


def test_the_short_name_of_the_profile_does_in_the_repository(
    reference: Path, tmp_path: Path
) -> None:
    folder = campaigns.raw(reference, tmp_path)
    words = ["--dry-run", "--profile", "slurm", "--directory", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=campaigns.ROOT,
        capture_output=True,
        text=True,
        env=campaigns.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "place=slurm" in done.stdout + done.stderr
