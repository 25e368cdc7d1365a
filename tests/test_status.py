"""Laws of status, of the command at the end of a run, and of runs that share a folder."""

import dataclasses
import fcntl
import json
import os
import subprocess
import time
from pathlib import Path

import campaigns
import pytest

from pipeline import cli, config, progress, sites, status
from pipeline.events import EVENTS
from pipeline.failures import Loss

QUICK = {"steps": {"yx": 2, "zyx": 2}, "learning_rate": 0.01, "balance": 0.5}
LEAN = {"start": {"base": QUICK, "nothing": QUICK}, "gate": {"members": []}}
GROUP = 12345
"""Of nobody: files can only have it from their folder."""


@pytest.fixture
def campaign(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished campaign of one's own, and the place where commands are typed."""
    folder = campaigns.copy(reference, tmp_path / "campaign")
    monkeypatch.chdir(folder)
    return folder


def found() -> dict[str, status.Result]:
    """What status says of each result of the campaign in this folder."""
    results = status.status(config.load(Path("config.yaml"))).results
    return {f"{one.stage}/{one.name}": one for one in results}


def unmade(folder: Path, name: str, log: str | None) -> None:
    """Take a result back, as a run that failed or was killed does."""
    (folder / "results" / f"{name}.json").unlink()
    path = folder / "logs" / f"{name}.log"
    path.unlink()
    if log is not None:
        path.write_text(log)


@pytest.mark.usefixtures("campaign")
def test_a_campaign_that_is_done_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--config", "config.yaml"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "tiny: 4 of 4 done"
    assert said[1].startswith("no run is on; the last was that of ")
    assert [line.partition(":")[0] for line in said[2:]] == [
        "ingest",
        "finetune",
        "predict",
        "report",
    ]


def test_a_result_without_a_log_waits(campaign: Path) -> None:
    unmade(campaign, "predict/nuclei/wound", None)
    assert found()["predict/nuclei/wound"].state == "waiting"


def test_a_failed_result_says_why(campaign: Path) -> None:
    unmade(campaign, "ingest/wound", "12:00:00 ingest wound: tcyx\nequiscope: the disk is full.\n")
    failed = found()["ingest/wound"]
    assert (failed.state, failed.why) == ("failed", "the disk is full.")


def test_what_was_killed_waits_for_the_next_run(campaign: Path) -> None:
    unmade(campaign, "predict/nuclei/wound", "12:00:00 predict wound: waiting: 2 RUNNING\n")
    killed = found()["predict/nuclei/wound"]
    assert killed.state == "waiting"
    assert "interrupted" in killed.why


def test_what_is_at_work_says_how_far_it_is_and_how_long_it_takes(campaign: Path) -> None:
    unmade(campaign, "ingest/wound", "12:00:00 ingest wound: submitted\n")
    store = campaign / "results" / "ingest" / "wound.ome.zarr"
    building = store.with_name(f"{store.name}.building")
    store.rename(building)
    units = building.with_name(f"{building.name}.units")
    (units / "progress").mkdir(parents=True)
    levels = dict(status._levels(building))
    shards, voxels = levels[0]
    for number in range(shards // 2):
        (units / f"0-{number}.json").write_text("{}")
    said = {"voxels": 1000, "seconds": 2.0}
    (units / "progress" / "node-1-1.json").write_text(json.dumps(said))
    jobs = campaign / "logs" / "ingest" / "wound.log.jobs"
    jobs.mkdir(exist_ok=True)
    array = {"place": "local", "host": "elsewhere", "jobs": ["1"], "name": "x", "ended": False}
    (jobs / "array.json").write_text(json.dumps(array))
    event = Loss(job="7_1", kind="memory", state="OUT_OF_MEMORY", node="c1", units="1 unit")
    (jobs / EVENTS).write_text(json.dumps(dataclasses.asdict(event)) + "\n")
    one = found()["ingest/wound"]
    assert one.state == "running"
    assert "last event: memory of job 7_1 on c1" in one.why
    assert one.rate == 500
    assert one.left == pytest.approx((1 - (shards // 2) / shards) * voxels)
    total = sum(count for count, _ in levels.values())
    assert f"{shards // 2} of {total} shards" in one.why
    assert "left" in one.why
    assert "1 processes on elsewhere" in one.why


def test_trainings_at_work_say_how_far_they_are_and_how_long_they_take(campaign: Path) -> None:
    unmade(campaign, "finetune/nuclei", "12:00:00 finetune nuclei: submitted\n")
    building = campaign / "results" / "finetune" / "nuclei.model.building"
    for member in ("whole", "held_out"):
        (building / member).mkdir(parents=True)
        progress.Pace(building / member, 50, 250).tell(100)
    (building / "held_out" / "result.json").write_text("{}")
    said, _, _ = status._work(campaign / "results", "finetune", "nuclei")
    assert said.startswith("1 trainings done; whole at step 100 of 250, ")
    assert said.endswith(" left")
    assert "steps/s" in said


def test_a_stage_of_many_results_says_how_long_the_others_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(status.time, "time", lambda: 10_000.0)
    done = [status.Result("predict", f"{n}", "done", made=10_000 - 60 * n) for n in range(1, 5)]
    long_ago = [status.Result("predict", "first", "done", made=1.0)]
    others = [status.Result("predict", f"other {n}", "waiting") for n in range(8)]
    [*_, line] = status.Status("tiny", "", (*long_ago, *done, *others)).lines()
    assert line.endswith("; 0.75 a minute, the others take 11 min")
    [*_, line] = status.Status("tiny", "", (*long_ago, *others)).lines()
    assert "minute" not in line


def test_jobs_that_are_held_say_what_to_do(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unmade(campaign, "ingest/wound", "12:00:00 ingest wound: submitted\n")
    jobs = campaign / "logs" / "ingest" / "wound.log.jobs"
    array = {"place": "slurm", "host": "login", "jobs": ["7_0", "7_1"], "name": "ingest-wound-1"}
    (jobs / "array.json").write_text(json.dumps(array | {"ended": False}))
    standing = ("ingest-wound-1|PENDING|JobHeldAdmin", "ingest-wound-1|RUNNING|None", "x|PENDING|y")
    queue = "\n".join(standing)
    monkeypatch.setattr(sites, "ask", lambda *_, **__: queue)
    one = found()["ingest/wound"]
    assert one.state == "running"
    assert "1 jobs held (JobHeldAdmin): an administrator holds them" in one.why
    assert "scontrol release jobname=ingest-wound-1" in one.why
    assert "1 jobs running" in one.why


def test_status_writes_nothing(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unmade(campaign, "predict/nuclei/wound", None)

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in campaign.rglob("*")}

    before = state()
    assert cli.main(["status", "--config", "config.yaml", "--all"]) == 0
    assert state() == before
    assert "predict/nuclei/wound: waiting" in capsys.readouterr().out


def test_ten_thousand_acquisitions_take_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"well_{number:05d}" for number in range(10_000)]
    model = {"channel": "DNA", "acquisitions": names, "shots": [], "diameter_um": 6}
    given = campaigns.settings(
        acquisitions={name: {"path": f"{name}.tif"} for name in names}, models={"nuclei": model}
    )
    campaigns.write(tmp_path, given)
    for folder in ("results/ingest", "results/predict/nuclei", "logs/ingest"):
        (tmp_path / folder).mkdir(parents=True)
    for name in names[:9000]:
        (tmp_path / "results" / "ingest" / f"{name}.json").write_text("{}")
    for name in names[9000:9500]:
        (tmp_path / "logs" / "ingest" / f"{name}.log").write_text("equiscope: no.\n")
    monkeypatch.chdir(tmp_path)
    begun = time.process_time()
    assert cli.main(["status", "--config", "config.yaml"]) == 0
    assert time.process_time() - begun < 20
    said = capsys.readouterr().out.splitlines()
    assert "ingest: 9,000 of 10,000 done, 500 waiting, 500 failed" in said
    assert "and 490 more failed: --all lists them" in said
    assert len(said) < 30


def test_the_command_at_the_end_gets_the_status_and_the_outcome(campaign: Path) -> None:
    campaigns.change(campaign, notify="cat > told.txt; echo $EQUISCOPE_OUTCOME >> told.txt")
    assert cli.main(["notify", "failed", "--config", "config.yaml"]) == 0
    told = (campaign / "told.txt").read_text().splitlines()
    assert told[0] == "failed"
    assert "tiny: 4 of 4 done" in told
    assert told[-1] == "failed"


def test_a_command_at_the_end_that_fails_is_a_warning(
    campaign: Path, caplog: pytest.LogCaptureFixture
) -> None:
    campaigns.change(campaign, notify="exit 3")
    assert cli.main(["notify", "done", "--config", "config.yaml"]) == 0
    assert "'exit 3', which did not work: ends with exit code 3" in caplog.text


def test_a_second_run_says_who_holds_the_campaign_and_stops(campaign: Path) -> None:
    unmade(campaign, "report/campaign", None)
    path = campaign / ".snakemake" / "campaign.lock"
    with path.open("w") as lock:
        lock.write("ada on login1, process 17, since 2026-01-02 03:04:05\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = campaigns.run(campaign)
    assert done.returncode != 0
    assert "ada on login1, process 17, since 2026-01-02 03:04:05" in done.stderr
    assert path.read_text().startswith("ada "), "the holder's name stays"


def test_a_shared_folder_stays_shared_and_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    """A whole run with a umask for groups, in a folder that hands its group on."""
    folder = tmp_path / "campaign"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, -1, GROUP)
    folder.chmod(0o2770)
    elsewhere = {name: tmp_path / name for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for place in elsewhere.values():
        place.mkdir()
    before = os.umask(0o007)
    try:
        campaigns.planar(folder, frames=2, finetune=LEAN, notify="cat > told.txt")
        done = subprocess.run(
            campaigns.command(folder),
            env=campaigns.environment() | {key: str(path) for key, path in elsewhere.items()},
            capture_output=True,
            text=True,
            timeout=campaigns.LIMIT_S,
        )
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    assert "tiny: 4 of 4 done" in (folder / "told.txt").read_text()
    written = [p for place in elsewhere.values() for p in place.rglob("*") if p.is_file()]
    assert written == []
    made = [path for path in folder.rglob("*") if not path.is_symlink()]
    group = folder.stat().st_gid
    assert [path for path in made if path.stat().st_gid != group] == []
    modes = {str(path): path.stat().st_mode for path in made}
    assert [path for path, mode in modes.items() if mode & 0o007] == [], "others see nothing"
    assert [path for path, mode in modes.items() if not mode & 0o020] == [], "the group may write"
