"""Laws of the cluster door on a real SLURM, without accounting: the harder case."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
import tally

from pipeline import sites
from pipeline import slurm as slurm_module

LIMIT_S = 60
Driver = subprocess.Popen[bytes]


def slurm(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "tally.jobs" / "array.json").read_text())


def events(folder: Path) -> list[dict[str, object]]:
    """What happened to jobs of the driver on `folder`."""
    path = folder / "tally.jobs" / "events.jsonl"
    return list(map(json.loads, path.read_text().splitlines())) if path.exists() else []


def queued(folder: Path) -> list[str]:
    """Jobs of the driver on `folder` that pend, run or complete."""
    return slurm("squeue", "--noheader", "--array", "--format=%i", f"--name={name(folder)}").split()


def name(folder: Path) -> str:
    return str(record(folder)["name"])


def running(folder: Path, units: int) -> None:
    """Wait until so many units are done, which takes running jobs."""
    tally.until(lambda: len(tally.names(folder / "done")) >= units, LIMIT_S)


def once(units: int) -> dict[int, int]:
    return dict.fromkeys(range(units), 1)


@pytest.fixture(scope="module", autouse=True)
def overdue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Driver, str]]:
    """A driver one of whose jobs hangs, and this job, whose time is up: SLURM takes a minute.

    So it begins before the tests of this file, on a node that none of them takes down.
    """
    folder = tmp_path_factory.mktemp("overdue") / "toy"
    asked = {"place": "slurm", "jobs": 2, "units": 8, "seconds": 1, "slurm_partition": "gpu"}
    driver = tally.start(folder, **asked, fault="hang")
    running(folder, 2)
    doomed = record(folder)["jobs"][0]
    slurm("scontrol", "update", f"jobid={doomed}", "timelimit=0:01")
    yield folder, driver, doomed
    driver.kill()


@pytest.fixture(scope="module", autouse=True)
def unprepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Driver]]:
    """A driver whose jobs fail in their setup. It waits for each a while, so it begins as early."""
    folder = tmp_path_factory.mktemp("unprepared") / "toy"
    asked = {"place": "slurm", "jobs": 1, "units": 1, "seconds": 0, "slurm_partition": "gpu"}
    driver = tally.start(folder, **asked, slurm_setup="module load cuda/12")
    yield folder, driver
    driver.kill()


def test_an_array_does_every_unit_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder with 'quotes'"
    driver = tally.start(
        folder, place="slurm", jobs=3, units=7, seconds=0.3, cpus_per_task=2, slurm_extra="--nice=5"
    )
    assert driver.wait(LIMIT_S) == 0
    assert tally.attempts(folder) == once(7)
    assert len(record(folder)["jobs"]) == 3
    facts = json.loads((folder / "facts" / "0.json").read_text())
    assert facts["SLURM_CPUS_PER_TASK"] == facts["OMP_NUM_THREADS"] == "2"


def test_a_gpu_job_runs_where_gpus_are_and_sees_one(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(
        folder, place="slurm", jobs=1, units=1, seconds=0, gpu=1, slurm_partition="gpu"
    )
    assert driver.wait(LIMIT_S) == 0
    facts = json.loads((folder / "facts" / "0.json").read_text())
    assert facts["node"] == "g1"
    assert facts["CUDA_VISIBLE_DEVICES"] in {"0", "1"}


def test_an_error_in_code_cancels_the_array_and_shows_the_traceback(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="slurm", jobs=2, units=80, seconds=0.5, fault="raise")
    assert driver.wait(LIMIT_S) == 1
    assert "LookupError: no optics for unit 0" in tally.said(folder)
    tally.until(lambda: not queued(folder), 20)
    assert tally.attempts(folder)[0] == 1


def test_what_slurm_refuses_is_an_error_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="slurm", jobs=2, units=2, seconds=0, slurm_partition="none")
    assert driver.wait(LIMIT_S) == 1
    assert "invalid partition specified" in tally.said(folder)
    assert "SLURM refused the array" in tally.said(folder)


def test_a_cancelled_job_is_submitted_again(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="slurm", jobs=2, units=18, seconds=1)
    running(folder, 2)
    slurm("scancel", record(folder)["jobs"][1])
    assert driver.wait(LIMIT_S) == 0
    [event] = events(folder)
    assert event["kind"] == "cancelled"
    assert event["node"] in {"c1", "c2"}
    assert event["units"] == "9 units, 9 to 17"
    assert tally.said(folder).count(": cancelled: job") == 1
    assert len(tally.names(folder / "done")) == 18
    assert not tally.names(folder / "collisions")


def test_jobs_that_are_held_are_named_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    asked = {"place": "slurm", "jobs": 2, "units": 4, "seconds": 0.1}
    driver = tally.start(folder, **asked, slurm_extra="--hold")
    tally.until(lambda: "jobs are held" in tally.said(folder), LIMIT_S)
    assert not tally.names(folder / "attempts")
    [remedy] = set(re.findall(r"scontrol release \S+", tally.said(folder)))
    slurm(*remedy.split())
    assert driver.wait(LIMIT_S) == 0
    assert tally.attempts(folder) == once(4)


def test_a_job_killed_for_its_memory_is_submitted_again_with_more(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="slurm", jobs=1, units=2, seconds=0.2, fault="hog")
    assert driver.wait(LIMIT_S) == 0
    assert [event["kind"] for event in events(folder)] == ["memory"]
    assert tally.attempts(folder) == {0: 2, 1: 1}
    assert record(folder)["mem_mb"] == 450
    assert "mem=450M" in slurm("scontrol", "show", "job", record(folder)["jobs"][0])


def test_what_a_site_grants_is_asked_of_it() -> None:
    assert sites.memories_mb("") == {"c1": 4000, "c2": 4000}
    assert set(sites.memories_mb("gpu")) == {"g1"}
    assert sites.most_tasks() == 1001


@pytest.mark.parametrize("requeued", [True, False])
def test_a_node_that_goes_down_costs_no_retry(tmp_path: Path, requeued: bool) -> None:
    folder = tmp_path / "toy"
    extra = "" if requeued else "--no-requeue"
    asked = {"cpus_per_task": 4, "slurm_extra": extra}
    driver = tally.start(folder, place="slurm", jobs=2, units=16, seconds=1, **asked)
    running(folder, 2)
    node = slurm("squeue", "--noheader", "--format=%N", f"--jobs={record(folder)['jobs'][0]}")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        tally.until(lambda: events(folder), LIMIT_S)
    finally:  # refused where the node came back by itself
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], timeout=30)
    assert driver.wait(2 * LIMIT_S) == 0
    [event] = events(folder)
    assert (event["kind"], event["node"]) == ("node", node)
    assert sum(tally.attempts(folder).values()) <= 17
    assert not tally.names(folder / "collisions")


def test_a_disk_that_is_full_stops_all_and_room_lets_it_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    with disks.small(folder / "facts") as small:
        disks.fill(small / "ballast")
        asked = {"place": "slurm", "jobs": 2, "units": 8, "seconds": 0.5}
        assert tally.start(folder, **asked).wait(LIMIT_S) == 1
        assert "No space left on device" in tally.said(folder)
        assert "Make room" in tally.said(folder)
        assert {event["kind"] for event in events(folder)} == {"disk"}
        (small / "ballast").unlink()
        assert tally.start(folder, **asked).wait(LIMIT_S) == 0
    assert len(tally.names(folder / "done")) == 8


def test_a_setup_that_fails_is_tried_once_more_and_named(unprepared: tuple[Path, Driver]) -> None:
    folder, driver = unprepared
    assert driver.wait(2 * LIMIT_S) == 1
    assert [event["kind"] for event in events(folder)] == ["setup", "setup"]
    last = tally.said(folder).splitlines()[-1]
    assert "1 units stay undone: slurm_setup failed in all jobs of 2 submissions in a row" in last
    assert "module: command not found, slurm_setup failed" in last
    assert not tally.names(folder / "attempts")


@pytest.mark.parametrize(("sacct", "hangs"), [("exit 1", False), ("exec sleep 600", True)])
def test_squeue_and_sacct_may_fail_while_scontrol_answers(
    tmp_path: Path, sacct: str, hangs: bool
) -> None:
    folder = tmp_path / "toy"
    squeue = f'[ -e {tmp_path}/down ] && exit 1\nexec /usr/bin/squeue "$@"'
    for name, commands in {"squeue": squeue, "sacct": sacct}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{commands}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "down").touch()
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    driver = tally.start(folder, path, place="slurm", jobs=2, units=18, seconds=1)
    running(folder, 2)
    slurm("scancel", record(folder)["jobs"][1])
    tally.until(lambda: events(folder), LIMIT_S)
    (tmp_path / "down").unlink()
    assert driver.wait(LIMIT_S) == 0
    assert [event["kind"] for event in events(folder)] == ["cancelled"]
    assert "squeue fails" in tally.said(folder)
    assert tally.said(folder).count("sacct hangs") == hangs, "it is left alone then"
    assert not tally.names(folder / "collisions")


def test_drivers_that_share_answers_ask_once_for_all(tmp_path: Path) -> None:
    counter, asked = tmp_path / "squeue", tmp_path / "asked"
    counter.write_text(f'#!/bin/sh\necho x >>{asked}\nexec /usr/bin/squeue "$@"\n')
    counter.chmod(0o755)
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    options = {"place": "slurm", "jobs": 1, "units": 3, "seconds": 2, "mem_mb": 100}
    options |= {"slurm_answers": tmp_path / "answers"}
    folders = [tmp_path / f"toy{number}" for number in range(4)]
    began = time.monotonic()
    drivers = [tally.start(folder, path, **options) for folder in folders]
    assert [driver.wait(2 * LIMIT_S) for driver in drivers] == [0] * 4
    took = time.monotonic() - began
    # one at the beginning, and one at the end
    assert len(asked.read_text().split()) <= took / slurm_module.SHARED_S + 2
    assert all(tally.attempts(folder) == once(3) for folder in folders)


def test_a_preempted_job_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    asked = {"cpus_per_task": 4, "slurm_partition": "preempt0", "slurm_extra": "--nodelist=c1"}
    driver = tally.start(folder, place="slurm", jobs=1, units=15, seconds=1, **asked)
    running(folder, 2)
    slurm("sbatch", "-pcpu", "-wc1", "-c4", "-o/dev/null", "--wrap=sleep 1")
    assert driver.wait(LIMIT_S) == 0
    counts = tally.attempts(folder)
    assert sum(counts.values()) == 16, "only the unit that was being done is done again"
    assert "Restarts=1" in slurm("scontrol", "show", "job", record(folder)["jobs"][0])
    [event] = events(folder)
    assert (event["kind"], event["node"]) == ("preemption", "c1")


def test_a_preempted_job_uses_its_time_of_grace(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    asked = {"cpus_per_task": 4, "slurm_partition": "preempt", "slurm_extra": "--nodelist=c2"}
    driver = tally.start(folder, place="slurm", jobs=1, units=25, seconds=1, **asked)
    running(folder, 1)
    slurm("sbatch", "-pcpu", "-wc2", "-c4", "-o/dev/null", "--wrap=true")
    assert driver.wait(LIMIT_S) == 0
    assert tally.attempts(folder) == once(25)
    job = slurm("scontrol", "show", "job", *record(folder)["jobs"])
    assert re.search(r"PreemptTime=2\d+", job), "it was to be preempted"


@pytest.mark.parametrize("submitting", [False, True])
def test_a_killed_driver_is_followed_by_one_that_attaches(tmp_path: Path, submitting: bool) -> None:
    folder = tmp_path / "toy"
    asked = {"place": "slurm", "jobs": 2, "units": 12, "seconds": 1}
    first = tally.start(folder, **asked)
    running(folder, 1)
    first.kill()
    first.wait(5)
    if submitting:  # killed before it learnt the job ids
        path = folder / "tally.jobs" / "array.json"
        path.write_text(json.dumps(record(folder) | {"jobs": []}))
    assert tally.start(folder, **asked).wait(LIMIT_S) == 0
    assert "attached to the array that still runs" in tally.said(folder)
    assert tally.attempts(folder) == once(12)


@pytest.mark.parametrize(
    ("interrupt", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)]
)
def test_an_interrupt_cancels_the_array(tmp_path: Path, interrupt: int, status: int) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="slurm", jobs=10, units=10, seconds=60, cpus_per_task=2)
    tally.until(lambda: tally.names(folder / "attempts"), LIMIT_S)
    driver.send_signal(interrupt)
    assert driver.wait(20) == status
    tally.until(lambda: not queued(folder), 20)


def test_a_limit_of_time_that_strikes_costs_the_unit_that_was_being_done(
    overdue: tuple[Path, Driver, str],
) -> None:
    folder, driver, doomed = overdue
    assert driver.wait(4 * LIMIT_S) == 0
    [event] = events(folder)
    assert (event["kind"], event["job"]) == ("time", doomed)
    assert tally.attempts(folder) == once(8) | {0: 2}
    assert not queued(folder)


def test_a_controller_that_restarts_is_waited_for(tmp_path: Path) -> None:
    state = Path(os.environ.get("EQUISCOPE_SLURM_DIR", "/tmp/equiscope-slurm"))
    if not (state / "run" / "slurmctld.pid").exists():
        pytest.skip(f"this SLURM was not started by ./start with its state in {state}")
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="slurm", jobs=2, units=40, seconds=1)
    running(folder, 1)
    os.kill(int((state / "run" / "slurmctld.pid").read_text()), signal.SIGTERM)
    try:
        tally.until(lambda: "Unable to contact" in tally.said(folder), LIMIT_S)
    finally:
        subprocess.run([Path(__file__).parent / "start"], check=True, timeout=120)
    assert driver.wait(LIMIT_S) == 0
    assert tally.attempts(folder) == once(40)
