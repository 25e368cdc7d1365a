"""Laws of the doctor on a real SLURM: what it refuses, what it drafts, what a job sees."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import campaigns
import pytest
import yaml

from pipeline import allocations, cli, config, grants, probe, requests, status, submission


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign that nothing was made of."""
    return campaigns.planar(tmp_path_factory.mktemp("campaign"), frames=2)


@pytest.fixture
def here(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The campaign's folder, where commands are typed."""
    monkeypatch.chdir(campaign)
    return campaign


def profile(folder: Path, **predict: object) -> str:
    """A profile that this site grants, but for what is given for predict."""
    fitting = {"jobs": 2, "cpus_per_task": 1, "mem_mb": 1300, "runtime": 10}
    stages = dict.fromkeys(allocations.STAGES, fitting)
    stages["predict"] = fitting | predict
    given = {
        "cores": 4,
        "default-resources": {"place": "slurm"},
        "set-resources": stages,
        "nolock": True,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(given))
    return str(folder)


def checked(*words: str) -> int:
    return cli.main(["doctor", "--config", "config.yaml", *words])


def test_the_site_is_what_was_started() -> None:
    site = grants.look()
    assert site is not None
    by_name = {partition.name: partition for partition in site.partitions}
    assert {"cpu", "gpu", "preempt", "preempt0"} <= by_name.keys()
    assert by_name["cpu"].is_default
    assert by_name["cpu"].runtime_min == 240
    assert by_name["cpu"].nodes == (grants.Node(2, 4, 4000, {}),)
    assert sum(node.gpu_count for node in by_name["gpu"].nodes) == 2
    assert site.array_size == 1001


@pytest.mark.usefixtures("here")
def test_a_profile_that_the_site_grants_has_no_fault(tmp_path: Path) -> None:
    assert checked("--quick", "--profile", profile(tmp_path)) == 0


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slurm_partition": "nowhere"}, ["slurm_partition is 'nowhere'", "cpu", "preempt0"]),
        ({"mem_mb": 64000}, ["mem_mb is 64000", "4000 MB"]),
        ({"runtime": 600}, ["runtime is 600", "240 minutes"]),
        ({"cpus_per_task": 64}, ["cpus_per_task is 64", "4 cores"]),
        ({"gpu": 3, "slurm_partition": "gpu"}, ["gpu is 3", "2 GPUs"]),
        ({"slurm_extra": "--gres=gpu:a100:1"}, ["SLURM refuses the jobs of predict", "gres"]),
        ({"slurm_extra": "--reservation=mine"}, ["SLURM refuses the jobs of predict"]),
    ],
    ids=str,
)
def test_what_the_site_refuses_is_said_before_anything_starts(
    tmp_path: Path,
    change: dict[str, object],
    said: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert checked("--quick", "--profile", profile(tmp_path, **change)) == 2
    faults = capsys.readouterr().err
    for words in said:
        assert words in faults


def test_a_run_stops_at_once_where_the_last_stage_asks_for_too_much(
    here: Path, tmp_path: Path
) -> None:
    asked = ["--profile", profile(tmp_path, mem_mb=64000)]
    words = [*("-m", "snakemake", "--snakefile", str(campaigns.ROOT / "Snakefile")), *asked]
    done = subprocess.run(
        [sys.executable, *words, "--directory", str(here)],
        capture_output=True,
        text=True,
        timeout=campaigns.LIMIT_S,
        env=campaigns.environment(),
    )
    assert done.returncode != 0
    assert "set-resources.predict.mem_mb is 64000 in the profile" in done.stderr
    assert not (here / "results").exists()
    assert not (here / "logs").exists()


def test_a_profile_is_drafted_that_the_site_grants(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked("--write-profile", "drafted") == 0
    text = (here / "profiles" / "drafted" / "config.yaml").read_text()
    assert "gpu: 1 nodes of 4 cores, 4000 MB, GPUs: 2 x fake" in text
    given = allocations.of_profile("profiles/drafted")
    assert given.stages["predict"].slurm_partition == "gpu"
    site = grants.look()
    assert site is not None
    for stage, asked in given.stages.items():
        assert requests.faults(site, stage, asked) + requests.refused(stage, asked) == []
    assert checked("--write-profile", "drafted") == 2
    assert "give another NAME" in capsys.readouterr().err
    words = [*("--dry-run", "--profile", str(here / "profiles" / "drafted"), "--directory")]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, str(here)],
        cwd=campaigns.ROOT,
        capture_output=True,
        text=True,
        env=campaigns.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "place=slurm" in done.stdout + done.stderr


@pytest.mark.usefixtures("here")
def test_a_probe_says_what_a_job_sees(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stand-ins for GPUs are none to torch, which is what the probe has to say."""
    named = profile(tmp_path, gpu=1, slurm_partition="gpu")
    stages = allocations.of_profile(named).on_slurm
    with caplog.at_level("INFO"):
        chosen = {"ingest": stages["ingest"], "predict": stages["predict"]}
        faults = probe.probe(chosen, Path("logs/doctor"))
    assert "a job like those of ingest ran on c" in caplog.text
    assert "a job like those of predict ran on g1" in caplog.text
    (fault,) = faults
    assert "set-resources.predict.gpu is 1, but torch sees 0 in a job on g1" in fault


def test_commands_of_the_profile_come_before_each_job(here: Path, tmp_path: Path) -> None:
    stages = allocations.of_profile(profile(tmp_path, slurm_setup="SEEN=it\nexport SEEN")).on_slurm
    call = functools.partial(subprocess.run, f"echo $SEEN > {here}/seen.txt", shell=True)
    submission.submit([call], stages["predict"], here / "jobs", "setup-good")
    campaigns.until(lambda: (here / "seen.txt").exists() and (here / "seen.txt").read_text(), 60)
    assert (here / "seen.txt").read_text() == "it\n"


def test_jobs_start_with_the_python_that_the_profile_names(here: Path, tmp_path: Path) -> None:
    """In a container, say: here the words before it put a variable into its environment."""
    words = f"env INSIDE=container {sys.executable}"
    stages = allocations.of_profile(profile(tmp_path, slurm_python=words)).on_slurm
    call = functools.partial(subprocess.run, f"echo $INSIDE > {here}/inside.txt", shell=True)
    submission.submit([call], stages["predict"], here / "jobs-inside", "python")
    written = here / "inside.txt"
    campaigns.until(lambda: written.exists() and written.read_text(), 60)
    assert written.read_text() == "container\n"


def test_status_asks_slurm_for_arrays_whose_end_nobody_recorded(here: Path) -> None:
    logs = here / "logs" / "finetune"
    jobs = logs / "nuclei.log.jobs"
    jobs.mkdir(parents=True)
    (logs / "nuclei.log").write_text("12:00:00 finetune nuclei: submitted\n")
    record = {"place": "slurm", "host": "login", "name": "asked-for", "ended": False, "jobs": ["1"]}
    (jobs / "array.json").write_text(json.dumps(record))

    def said() -> str:
        results = status.status(config.load(Path("config.yaml"))).results
        return next(str(one) for one in results if one.stage == "finetune")

    assert "waiting: was interrupted" in said()
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--job-name=asked-for", "--mem=10", "--wrap=sleep 60"],
        check=True,
        capture_output=True,
        text=True,
        cwd=here,
    )
    try:
        campaigns.until(lambda: "running: 1 jobs running" in said(), 60)
    finally:
        subprocess.run(["scancel", submitted.stdout.strip()], check=True)
        shutil.rmtree(logs)


def test_a_driver_may_be_a_job_itself(here: Path, tmp_path: Path) -> None:
    """The script of the how-to, here with a profile and a stage of its own."""
    script = (campaigns.ROOT / "docs" / "how-to.md").read_text().partition("#!/bin/bash")[2]
    driver = "#!/bin/bash" + script.partition("```")[0]
    activate = ". .venv/bin/activate"
    assert activate in driver
    driver = driver.replace(activate, f"export PATH={Path(sys.executable).parent}:$PATH")
    driver = driver.replace("--profile slurm", f"--profile {profile(tmp_path)}")
    (here / "driver.sh").write_text(driver)
    words = ["--snakefile", str(campaigns.ROOT / "Snakefile"), "results/ingest/wound.json"]
    subprocess.run(
        ["sbatch", "--wait", "--mem=1G", "--time=10", "driver.sh", *words],
        check=True,
        capture_output=True,
        timeout=campaigns.LIMIT_S,
        env=campaigns.environment(),
    )
    assert (here / "results" / "ingest" / "wound.json").is_file()
    assert "submitted" in (here / "logs" / "ingest" / "wound.log").read_text()
