"""Laws of the whole workflow, as typed on a workstation.

They say what runs again, what a fault reads like, and what does not show in the bytes: neither a
kill, nor the place, nor the number of jobs.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import campaigns
import numpy as np
import pytest
import tifffile

from pipeline import cli

INGEST, FINETUNE, PREDICT, REPORT = (
    "ingest/wound",
    "finetune/nuclei",
    "predict/nuclei/wound",
    "report/campaign",
)
EVERYTHING = {INGEST, FINETUNE, PREDICT, REPORT}
AT_WORK = {
    INGEST: "wound.ome.zarr.building.units/*.json",
    FINETUNE: "nuclei.model.building/*/checkpoint.pt",
    PREDICT: "wound.building.units/*.json",
}
"""What a stage that is at work puts down beside its receipt, piece by piece."""


@pytest.fixture
def campaign(reference: Path, tmp_path: Path) -> Path:
    """A finished campaign of one's own."""
    return campaigns.copy(reference, tmp_path / "campaign")


# --- what runs again ----------------------------------------------------------------------------


def test_a_second_run_does_nothing(campaign: Path) -> None:
    before = campaigns.tree(campaign)
    assert "Nothing to be done" in campaigns.finish(campaign)
    assert campaigns.tree(campaign) == before


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        ({"predict": {"foreground": 0.6}}, {PREDICT, REPORT}),
        ({"finetune": {"seed": 1}}, {FINETUNE, PREDICT, REPORT}),
        ({"ingest": {"chunk_voxels": {"yx": [16, 32]}}}, EVERYTHING),
        ({"ingest": {"shard_voxels": {"yx": [64, 64]}}}, EVERYTHING),
        ({"report": {"pictures": 2}}, {REPORT}),
        ({"campaign": "renamed"}, {REPORT}),
    ],
    ids=lambda given: str(sorted(given) if isinstance(given, set) else given),
)
def test_a_changed_setting_reruns_what_depends_on_it(
    campaign: Path, change: dict[str, Any], runs: set[str]
) -> None:
    campaigns.change(campaign, **change)
    assert campaigns.planned(campaign) == runs


def test_a_setting_of_the_command_line_counts_like_one_of_the_file(campaign: Path) -> None:
    assert campaigns.planned(campaign, "--config", "predict={foreground: 0.6}") == {
        PREDICT,
        REPORT,
    }


@pytest.mark.parametrize(
    ("options", "profile"),
    [
        (["--set-resources", "predict:mem_mb=9000", "ingest:runtime=7", "predict:jobs=5"], "local"),
        (["--set-resources", "finetune:gpu=1", "finetune:slurm_partition=gpu"], "slurm"),
        (["--default-resources", "place=debug", "mem_mb=500", "slurm_account=lab"], "local"),
        (["--set-threads", "predict=1", "ingest=1"], "local"),
    ],
    ids=["memory-time-jobs", "gpu-partition-cluster", "place-account", "threads"],
)
def test_where_and_with_how_much_it_runs_reruns_nothing(
    campaign: Path, options: list[str], profile: str
) -> None:
    assert campaigns.planned(campaign, *options, profile=profile) == set()


def test_snakemake_s_own_report_holds_every_page_with_its_caption(campaign: Path) -> None:
    campaigns.finish(campaign, "--report", "whole.zip")
    with zipfile.ZipFile(campaign / "whole.zip") as whole:
        held = {Path(name).name: name for name in whole.namelist() if "/data/" in name}
        front = whole.read("whole/report.html").decode()
        for page in ("report.html", "cost.html", "acquisitions/wound.html"):
            made = (campaign / "results/report" / page).read_bytes()
            assert whole.read(held[Path(page).name]) == made
    assert len(held) == 3
    for caption in (
        "Begin with",
        "What not to trust, and why; all",
        "Core-hours",
        "Checks, overlays",
    ):
        assert caption in front


def test_a_touched_raw_file_is_looked_at_and_nothing_is_made_anew(campaign: Path) -> None:
    before = campaigns.tree(campaign)
    os.utime(campaign / "wound.ome.tif")
    assert campaigns.planned(campaign) == set(), "of a small file Snakemake compares the bytes"
    by_time = ("--max-checksum-file-size", "100KB")  # as it does for real raw files
    said = campaigns.finish(campaign, *by_time)
    assert INGEST in campaigns.named(said)
    assert "submitted" not in said
    assert campaigns.tree(campaign) == before
    assert campaigns.planned(campaign, *by_time) == set()


def test_a_new_acquisition_and_a_new_model_run_alone(campaign: Path) -> None:
    before = campaigns.tree(campaign)
    campaigns.add_stack(campaign)
    own = {"ingest/embryo", "finetune/nuclei_in_depth", "predict/nuclei_in_depth/embryo"}
    assert campaigns.planned(campaign) == own | {REPORT}
    last = "results/predict/nuclei_in_depth/embryo.json"
    assert campaigns.named(campaigns.finish(campaign, last)) == own
    after = campaigns.tree(campaign)
    kept = {path: sha for path, sha in before.items() if not path.startswith("report/")}
    assert kept.items() <= after.items()
    assert {f"{result}.json" for result in own} <= after.keys() - before.keys()


def test_an_acquisition_given_to_a_model_runs_alone(campaign: Path) -> None:
    campaigns.movie(campaign, "control", 2, (97, 101), seed=3)
    campaigns.change(
        campaign,
        acquisitions={"control": {"path": "control.ome.tif"}},
        models={"nuclei": {"acquisitions": ["wound", "control"]}},
    )
    assert campaigns.planned(campaign) == {
        "ingest/control",
        "predict/nuclei/control",
        REPORT,
    }


# --- what a fault says --------------------------------------------------------------------------


def setting(**sections: Any) -> Callable[[Path], None]:
    """A fault in config.yaml."""
    return lambda folder: campaigns.change(folder, **sections)


def acquisition(**entry: Any) -> Callable[[Path], None]:
    return setting(acquisitions={"wound": entry})


def model(**entry: Any) -> Callable[[Path], None]:
    return setting(models={"nuclei": entry})


def shot(**entry: Any) -> Callable[[Path], None]:
    return model(shots=[campaigns.annotated("wound", **{"region": {}, **entry})])


def other_labels(folder: Path) -> None:
    model(references=[])(folder)
    tifffile.imwrite(
        folder / "wound.labels.tif", np.zeros((3, 90, 91), np.uint16), metadata={"axes": "TYX"}
    )


def no_voxel_size(folder: Path) -> None:
    image = tifffile.imread(folder / "wound.ome.tif")
    described = {"axes": "TCYX", "Channel": {"Name": campaigns.CHANNELS}}
    tifffile.imwrite(folder / "wound.ome.tif", image, metadata=described)


def no_tiff(folder: Path) -> None:
    (folder / "wound.ome.tif").write_text("t,x,y\n0,1,2\n")


def truncated(folder: Path) -> None:
    os.truncate(folder / "wound.ome.tif", (folder / "wound.ome.tif").stat().st_size * 2 // 3)


FAULTS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "typo": (setting(finetune={"learning_rat": 0.1}), ["finetune.learning_rat is no setting"]),
    "unknown key": (setting(colour="red"), ["colour is no setting"]),
    "out of range": (setting(predict={"foreground": 1.5}), ["predict.foreground is 1.5"]),
    "no number": (setting(finetune={"crops": {"yx": "many"}}), ["finetune.crops.yx", '"many"']),
    "no such file": (acquisition(path="gone.tif"), ["acquisitions.wound.path", "gone.tif"]),
    "no such labels": (
        shot(labels={"path": "gone.tif"}),
        ["models.nuclei.shots.0.labels.path", "gone.tif", "no such file"],
    ),
    "axis letters": (acquisition(axes="tkyx"), ["acquisitions.wound.axes", "tkyx"]),
    "axes' number": (acquisition(axes="zyx"), ["acquisitions.wound.axes", "zyx", "4 axes"]),
    "voxel size": (no_voxel_size, ["acquisitions.wound.voxel_size_um", "Add the line"]),
    "region": (
        shot(region={"y": [100, 900]}),
        ["models.nuclei.shots.0.region.y", "[100, 900]", "151"],
    ),
    "region's axis": (shot(region={"z": [0, 1]}), ["models.nuclei.shots.0.region", "axis z"]),
    "labels' shape": (other_labels, ["models.nuclei.shots.0.labels", "90", "151"]),
    "channel": (model(channel="actin"), ["models.nuclei.channel", "'actin'", "DNA, membrane"]),
    "channels": (acquisition(channels=["actin"]), ["acquisitions.wound.channels", "actin", "DNA"]),
    "acquisition": (model(acquisitions=["wund"]), ["models.nuclei.acquisitions", "'wund'"]),
    "shard": (
        setting(ingest={"shard_voxels": {"yx": [32, 50]}}),
        ["ingest.shard_voxels.yx [32, 50]", "multiple of", "[32, 32]"],
    ),
    "no TIFF": (no_tiff, ["acquisitions.wound.path", "wound.ome.tif", "no readable TIFF"]),
    "truncated": (truncated, ["acquisitions.wound.path", "wound.ome.tif", "truncated"]),
}
SENTENCE = re.compile(r"^equiscope: (.*)$", re.MULTILINE)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_doctor_names_the_setting_and_its_value(
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    monkeypatch.chdir(campaigns.raw(reference, tmp_path))
    spoil, words = FAULTS[fault]
    spoil(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["doctor", "--config", "config.yaml"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    assert [word for word in words if word not in said] == [], said
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("fault", ["typo", "no such file", "no such labels", "region", "truncated"])
def test_a_fault_stops_the_workflow_before_anything_is_made(
    reference: Path, tmp_path: Path, fault: str
) -> None:
    folder = campaigns.raw(reference, tmp_path)
    spoil, words = FAULTS[fault]
    spoil(folder)
    done = campaigns.run(folder)
    assert done.returncode != 0
    assert not re.search("Traceback|Exception|Error", done.stdout + done.stderr), done.stderr
    sentences = SENTENCE.findall(done.stderr)
    assert len(sentences) == 1
    assert [word for word in words if word not in sentences[0]] == []
    assert done.stderr.rstrip().endswith(sentences[0]), "the last word is what is wrong"
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= {".snakemake"}


def test_a_stage_that_fails_fails_its_job_with_its_sentence(campaign: Path) -> None:
    campaigns.change(campaign, models={"nuclei": {"base": "nuclei_2d"}})
    done = campaigns.run(campaign)
    assert done.returncode != 0
    assert "Error in rule finetune" in done.stderr
    assert "MissingOutput" not in done.stderr
    assert "equiscope: base: nuclei_2d is a network" in done.stdout + done.stderr


def test_a_folder_without_a_campaign_is_told_so(tmp_path: Path) -> None:
    done = campaigns.run(tmp_path)
    assert done.returncode != 0
    assert "config.yaml" in "".join(SENTENCE.findall(done.stderr))


# --- what does not show in the bytes ------------------------------------------------------------


def kill(workflow: subprocess.Popen[bytes], victim: str) -> None:
    """As the system does when memory runs out, or as a power cut: nobody can clean up."""
    if victim == "snakemake":
        os.kill(workflow.pid, signal.SIGKILL)
    else:
        os.killpg(workflow.pid, signal.SIGKILL)
    workflow.wait(10)


def progress(folder: Path, result: str) -> set[tuple[str, int]]:
    """What a stage at work has put down so far, each with its time."""
    found = (folder / "results" / result).parent.glob(AT_WORK[result])
    return {(path.name, path.stat().st_mtime_ns) for path in found}


def test_killed_in_every_stage_the_same_command_makes_the_same_bytes(
    reference: Path, tmp_path: Path
) -> None:
    folder = campaigns.raw(reference, tmp_path / "campaign")
    # what goes on alone after a kill of Snakemake meets the next run, which is killed in turn
    for result, victim in (
        (INGEST, "snakemake"),
        (INGEST, "everything"),
        (FINETUNE, "everything"),
        (PREDICT, "snakemake"),
    ):
        before = progress(folder, result)
        workflow = campaigns.start(folder)
        campaigns.until(
            lambda r=result, b=before, w=workflow: progress(folder, r) - b or w.poll() is not None
        )
        assert workflow.poll() is None, campaigns.said(folder)
        kill(workflow, victim)
        assert not (folder / "results" / f"{result}.json").exists(), "killed too late"
        if victim == "everything":
            campaigns.until(lambda: not campaigns.processes(folder), 10)
    campaigns.finish(folder)
    assert campaigns.tree(folder) == campaigns.tree(reference)
    assert not campaigns.processes(folder)
    assert campaigns.planned(folder) == set()


def test_a_second_workflow_beside_a_running_one_is_refused(reference: Path, tmp_path: Path) -> None:
    folder = campaigns.raw(reference, tmp_path / "campaign")
    workflow = campaigns.start(folder)
    campaigns.until(lambda: (folder / "logs" / "ingest").exists())
    second = campaigns.run(folder)
    assert second.returncode != 0
    assert "another snakemake is at work on this campaign" in second.stderr
    workflow.send_signal(signal.SIGINT)
    workflow.wait(30)
    campaigns.until(lambda: not campaigns.processes(folder), 30)


@pytest.mark.parametrize(("place", "jobs"), [("debug", 1), ("local", 3)])
def test_neither_place_nor_number_of_jobs_shows_in_the_bytes(
    reference: Path, campaign: Path, place: str, jobs: int
) -> None:
    for stage in ("ingest", "predict"):
        shutil.rmtree(campaign / "results" / stage)
    asked = [
        f"{stage}:{what}"
        for stage in ("ingest", "predict")
        for what in (f"jobs={jobs}", f"place={place}")
    ]
    said = campaigns.finish(campaign, "--set-resources", *asked, "--", f"results/{PREDICT}.json")
    assert campaigns.named(said) >= {INGEST, PREDICT}
    assert campaigns.tree(campaign) == campaigns.tree(reference)


def test_the_workflow_is_clean_but_for_environments():
    """One environment serves all rules, the one that runs Snakemake: none names its own."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"],
        cwd=campaigns.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    remarks = re.findall(r"^    \* (.*)$", done.stderr + done.stdout, re.MULTILINE)
    assert set(remarks) == {"Specify a conda environment or container for each rule.:"}
