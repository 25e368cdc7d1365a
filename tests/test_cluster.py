"""Laws of the cluster door, in this process and in processes of this machine."""

import argparse
import dataclasses
import itertools
import json
import pickle
import signal
import stat
from pathlib import Path

import psutil
import pytest
import tally
from hypothesis import given
from hypothesis import strategies as some

from pipeline import arrays, cluster, dealing, efforts, slurm
from pipeline.arrays import Array
from pipeline.share import Share
from pipeline.submission import parameters

ASKED = cluster.Allocation(
    place="debug",
    jobs=3,
    job_gvoxel=5.0,
    cpus_per_task=2,
    mem_mb=300,
    runtime=5,
    gpu=0,
    slurm_partition="",
    slurm_account="",
    slurm_extra="",
)


def toy(folder: Path, units: int, fault: str = "") -> tally.Tally:
    for name in tally.FOLDERS:
        (folder / name).mkdir(parents=True)
    return tally.Tally(folder, units, 0.0, fault)


def job_processes(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if f"{folder}/tally.jobs/" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def tasks(folder: Path) -> list[psutil.Process]:
    return [found for found in job_processes(folder) if "submitit.core._submit" in found.cmdline()]


@pytest.mark.parametrize("units", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("jobs", [1, 2, 7, 150])
def test_shares_partition_the_units(units: int, jobs: int) -> None:
    dealt = cluster.shares(range(units), jobs)
    assert [unit for share in dealt for unit in share] == list(range(units))
    assert len(dealt) == min(jobs, units)
    assert not dealt or max(map(len, dealt)) - min(map(len, dealt)) <= 1


SIZES = some.lists(some.integers(1, 1000), min_size=1, max_size=60)


@given(SIZES, some.integers(1, 40), some.integers(1, 3000))
def test_no_share_exceeds_the_budget_unless_a_single_unit_does(
    sizes: list[int], jobs: int, budget: int
) -> None:
    dealt = cluster.shares(range(len(sizes)), jobs, sizes, budget)
    assert [unit for share in dealt for unit in share] == list(range(len(sizes)))
    assert all(len(share) == 1 or sum(sizes[u] for u in share) <= budget for share in dealt)
    assert all(dealt)
    assert len(dealt) >= min(jobs, len(sizes))


def smallest_largest(sizes: list[int], count: int) -> int:
    """The largest of `count` runs, in the best of all ways to cut."""
    ways = itertools.combinations(range(1, len(sizes)), count - 1)
    return min(
        max(sum(sizes[a:b]) for a, b in itertools.pairwise((0, *cuts, len(sizes)))) for cuts in ways
    )


@given(some.lists(some.integers(0, 9), min_size=1, max_size=9), some.integers(1, 9))
def test_the_largest_share_is_as_small_as_can_be(sizes: list[int], jobs: int) -> None:
    dealt = cluster.shares(range(len(sizes)), jobs, sizes)
    assert len(dealt) == min(jobs, len(sizes))
    largest = max(sum(sizes[unit] for unit in share) for share in dealt)
    assert largest == smallest_largest(sizes, len(dealt))


@given(some.lists(some.integers(1, 9), min_size=1, max_size=9), some.integers(1, 40))
def test_there_are_no_more_shares_than_jobs_and_budget_ask_for(
    sizes: list[int], budget: int
) -> None:
    dealt = cluster.shares(range(len(sizes)), 1, sizes, budget)
    if len(dealt) > 1:
        assert smallest_largest(sizes, len(dealt) - 1) > budget


def test_an_array_has_no_more_jobs_than_sites_allow() -> None:
    units = range(3000)
    dealt = cluster.shares(units, 16, [1.0] * len(units), budget=1.0)
    assert list(map(len, dealt)) == [3] * dealing.MOST_SHARES
    assert len(cluster.shares(units, 2000)) == dealing.MOST_SHARES


@dataclasses.dataclass(frozen=True)
class Field:
    """Work that has a size: `gvoxel` for each unit, none of it ever done."""

    units: tuple[int, ...]
    gvoxel: float

    def missing(self) -> list[int]:
        return list(self.units)

    def size(self, unit: int) -> float:
        return self.gvoxel

    def only(self, share: tuple[int, ...]) -> "Field":
        return dataclasses.replace(self, units=tuple(share))

    def watch(self):
        return lambda: "half of it is done"

    def __call__(self, share: tuple[int, ...]) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("place", "count"), [("slurm", 20), ("local", 3), ("debug", 3)])
def test_the_budget_makes_jobs_where_they_queue(tmp_path: Path, place: str, count: int) -> None:
    asked = dataclasses.replace(ASKED, place=place)
    work = Field(tuple(range(40)), 2.1)
    assert len(cluster.deal(work, work.units, asked)) == count
    unmeasured = toy(tmp_path, 40)
    assert len(cluster.deal(unmeasured, unmeasured.missing(), asked)) == 3


def test_only_its_own_share_travels_to_a_job() -> None:
    work = Field(tuple(range(100_000)), 1.0)
    share = Share(cluster._only(work, (1, 2)), (1, 2), "", Path())
    assert share.work.missing() == [1, 2]
    assert len(pickle.dumps(share)) < 1000


def test_a_job_leaves_word_of_where_it_ran_and_what_it_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "71")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURMD_NODENAME", "node07")
    (tmp_path / "001").mkdir()

    def failing() -> None:
        with efforts.recorded(tmp_path / "001", efforts.Held("slurm", cpus=4, gpus=1)):
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        failing()
    (effort,) = cluster.known(tmp_path).values()
    assert (effort.job, effort.node, effort.cpus, effort.gpus) == ("71_3", "node07", 4, 1)
    assert effort.seconds >= 0


def test_the_log_says_how_far_work_is_in_its_own_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = toy(tmp_path, 2)
    with caplog.at_level("INFO"):
        for progress in (cluster._watch(Field((1,), 1.0)), cluster._watch(work)):
            arrays._Report("predict-x", progress)({"5_0": "RUNNING", "5_1": "RUNNING"}, ["5_0"])
    assert [entry.getMessage() for entry in caplog.records] == [
        "predict-x: waiting: 1 RUNNING; half of it is done",
        "predict-x: waiting: 1 RUNNING; 2 units left",
    ]


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_a_budget_of_nothing_is_refused(budget: float) -> None:
    with pytest.raises(ValueError, match="job_gvoxel"):
        dataclasses.replace(ASKED, job_gvoxel=budget)


def test_options_make_the_allocation() -> None:
    parser = argparse.ArgumentParser()
    cluster.add_arguments(parser)
    text = (
        "--place debug --jobs 3 --job-gvoxel 5 --cpus-per-task 2 --mem-mb 300 --runtime 5 --gpu 0"
    )
    given = cluster.allocation(parser.parse_args([*text.split(), "--slurm-extra=--qos=long"]))
    assert given == dataclasses.replace(ASKED, slurm_extra="--qos=long")


def test_resources_reach_the_job_parameters() -> None:
    asked = dataclasses.replace(
        ASKED, gpu=1, slurm_partition="gpu", slurm_extra="--qos=long --nice=5 --exclusive"
    )
    given = parameters(asked, "predict")
    assert given["job_name"] == "predict"
    assert (given["time"], given["mem"], given["cpus_per_task"]) == (5, "300M", 2)
    assert (given["gpus_per_node"], given["partition"], given["account"]) == (1, "gpu", None)
    assert given["array_parallelism"] == 3
    assert given["additional_parameters"] == {"qos": "long", "nice": "5", "exclusive": True}
    assert "export OMP_NUM_THREADS=2" in given["setup"]


@pytest.mark.parametrize("extra", ["-p gpu", "--qos long", "--array=0-9", "--"])
def test_an_option_that_would_break_the_array_is_refused_at_once(extra: str) -> None:
    with pytest.raises(ValueError, match="slurm_extra"):
        dataclasses.replace(ASKED, slurm_extra=extra)


def test_nothing_missing_submits_nothing(tmp_path: Path) -> None:
    asked = dataclasses.replace(ASKED, place="local")
    cluster.complete(toy(tmp_path, 0), asked, tmp_path / "tally.jobs", "tally")
    assert tally.names(tmp_path / "tally.jobs") == {"driver.lock"}


def test_no_progress_ends_after_three_resubmissions(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="1 units stay undone: 3 resubmissions"):
        cluster.complete(toy(tmp_path, 5, "idle"), ASKED, tmp_path / "tally.jobs", "tally")
    # the first submission makes progress, and three more may go without
    assert tally.attempts(tmp_path) == {0: 5, 1: 1, 2: 1, 3: 1, 4: 1}


def test_an_error_in_code_stops_and_shows_the_traceback_of_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="local", jobs=2, units=40, seconds=0.5, fault="raise")
    assert driver.wait(20) == 1
    assert "LookupError: no optics for unit 0" in tally.said(folder)
    assert "_0_log.err" in tally.said(folder)
    assert not job_processes(folder)
    assert tally.attempts(folder)[0] == 1


def test_a_killed_job_is_submitted_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder with 'quotes'"
    driver = tally.start(folder, place="local", jobs=2, units=8, seconds=0.3)
    tally.until(lambda: len(tally.names(folder / "done")) >= 2, 20)
    tasks(folder)[0].kill()
    assert driver.wait(30) == 0
    assert len(tally.names(folder / "done")) == 8
    assert "unknown: job" in tally.said(folder)
    assert "(vanished)" in tally.said(folder)


def test_a_job_outliving_its_controller_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="local", jobs=1, units=8, seconds=0.3)
    tally.until(lambda: tally.names(folder / "done"), 20)
    tasks(folder)[0].parent().kill()
    assert driver.wait(30) == 0
    assert tally.attempts(folder) == dict.fromkeys(range(8), 1)


def test_a_killed_driver_is_followed_by_one_that_attaches(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    asked = {"place": "local", "jobs": 2, "units": 8, "seconds": 0.5}
    first = tally.start(folder, **asked)
    tally.until(lambda: tally.names(folder / "done"), 20)
    first.kill()
    first.wait(5)
    assert tally.start(folder, **asked).wait(30) == 0
    assert "attached to the array that still runs" in tally.said(folder)
    assert tally.attempts(folder) == dict.fromkeys(range(8), 1)
    assert not tally.names(folder / "collisions")


def test_a_terminated_driver_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="local", jobs=2, units=8, seconds=5)
    tally.until(lambda: len(tasks(folder)) == 2, 20)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(10) == 143
    tally.until(lambda: not job_processes(folder), 5)


def test_a_second_driver_is_refused_while_one_is_at_work(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    asked = {"place": "local", "jobs": 1, "units": 2, "seconds": 1}
    first = tally.start(folder, **asked)
    tally.until(lambda: tally.names(folder / "tally.jobs"), 20)
    assert tally.start(folder, **asked).wait(20) == 1
    assert "Another process is at work" in tally.said(folder)
    assert first.wait(20) == 0


def test_a_job_has_its_threads_and_no_trace_of_an_enclosing_job(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    enclosing = {"SLURM_CPUS_PER_TASK": "7", "SLURM_JOB_PARTITION": "long"}
    driver = tally.start(
        folder, enclosing, place="local", jobs=1, units=1, seconds=0, cpus_per_task=3
    )
    assert driver.wait(20) == 0
    facts = json.loads((folder / "facts" / "0.json").read_text())
    assert facts["OMP_NUM_THREADS"] == "3"
    assert facts["SLURM_CPUS_PER_TASK"] == facts["SLURM_JOB_PARTITION"] == ""


@pytest.mark.parametrize(("ended", "begun"), [(False, {1, 2}), (True, set())])
def test_a_job_started_again_does_what_is_missing_while_its_array_is_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool, begun: set[int]
) -> None:
    work = toy(tmp_path, 3)
    (tmp_path / "done" / "0").touch()
    array = Array.new("slurm", "tally", tmp_path)
    dataclasses.replace(array, ended=ended).write()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    Share(work, [0, 1, 2], "", array.folder)()
    assert set(tally.attempts(tmp_path)) == begun


def test_processes_of_another_machine_are_not_overrun(tmp_path: Path) -> None:
    work, folder = toy(tmp_path, 2), tmp_path / "tally.jobs"
    folder.mkdir()
    record = {"place": "local", "name": "tally", "folder": "001", "host": "elsewhere", "within": ""}
    (folder / "array.json").write_text(json.dumps(record | {"jobs": ["1"], "ended": False}))
    with pytest.raises(RuntimeError, match=r"on elsewhere.*delete"):
        cluster.complete(work, ASKED, folder, "tally")
    assert not tally.attempts(tmp_path)


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put commands in place of SLURM's: each prints its text, or fails when that is None."""

    def put(**texts: str | None) -> slurm.Queue:
        for command in ("squeue", "sacct", "scontrol"):
            text = texts.get(command)
            path = tmp_path / command
            body = "exit 1" if text is None else f"cat <<'END'\n{text}\nEND"
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(slurm, "SPACING_S", 0.0)
        return slurm.Queue("tally")

    return put


def test_slurm_without_any_answer_is_silent(answers) -> None:
    with pytest.raises(slurm.SilentError):
        answers().states(["5_0"])


def queued(*jobs: tuple[str, str, str, str]) -> str:
    """What squeue prints of jobs: id, state, node, reason."""
    rows = [(job, "tally", state, "0", node, reason) for job, state, node, reason in jobs]
    return "\n".join(
        "".join(
            value.ljust(width) for value, width in zip(row, slurm.COLUMNS.values(), strict=True)
        )
        for row in rows
    )


def test_the_queue_is_believed_first(answers) -> None:
    queue = answers(
        squeue=queued(
            ("5_0", "PENDING", "", "Priority"),
            ("5_1", "RUNNING", "c1", "None"),
            ("4_0", "FAILED", "c1", "None"),
        )
    )
    assert queue.states(["5_0"]) == {"5_0": "PENDING (Priority)", "5_1": "RUNNING"}


def test_a_job_that_left_the_queue_is_found_in_the_accounts(answers) -> None:
    accounts = "JobID|State\n5_0|CANCELLED by 1000\n5_[1-2%8]|CANCELLED by 0\n6|COMPLETED"
    for queue in (answers(squeue="", sacct=accounts), answers(sacct=accounts)):
        assert queue.states(["5_0", "5_2"]) == {"5_0": "CANCELLED", "5_2": "CANCELLED"}


def test_accounts_alone_do_not_keep_a_job_alive(answers) -> None:
    accounts = "JobID|State\n5|RUNNING"
    assert answers(squeue="", sacct=accounts, scontrol="").states(["5"]) == {}
    assert answers(sacct=accounts).states(["5"]) == {"5": "RUNNING"}


def test_the_controller_is_asked_last_and_only_about_our_jobs(answers) -> None:
    shown = (
        "JobId=9 ArrayJobId=5 ArrayTaskId=0 JobName=tally JobState=NODE_FAIL\n"
        "JobId=8 ArrayJobId=5 ArrayTaskId=1 JobName=other JobState=RUNNING"
    )
    assert answers(squeue="", scontrol=shown).states(["5_0", "5_1"]) == {"5_0": "NODE_FAIL"}


def test_a_queue_that_is_silent_and_answers_again_is_said_once(answers, caplog) -> None:
    queue, accounts = answers(), "JobID|State\n5_0|RUNNING"
    for texts in ({"sacct": accounts}, {"squeue": queued(("5_0", "RUNNING", "c1", "None"))}):
        answers(**texts)
        for _ in range(2):
            assert queue.states(["5_0"]) == {"5_0": "RUNNING"}
    assert caplog.text.count("squeue fails") == 1
    assert caplog.text.count("squeue answers again") == 1


def test_accounts_that_hang_are_left_alone(answers, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(slurm, "ACCOUNTS_S", 0.5)
    queue = answers(scontrol="JobId=5 JobName=tally JobState=RUNNING")
    (tmp_path / "sacct").write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\nexec sleep 600\n")
    for _ in range(3):
        assert queue.states(["5"]) == {"5": "RUNNING"}
    assert (tmp_path / "asked").read_text().splitlines() == ["asked"]
    assert caplog.text.count("sacct hangs") == 1


@pytest.mark.parametrize(
    ("reason", "known"),
    [
        ("JobHeldUser", "JobHeldUser"),
        ("launch_failed_requeued_held", "launch failed requeued held"),
        ("Priority", ""),
        ("None", ""),
    ],
)
def test_jobs_that_nobody_will_start_are_told_from_those_that_wait(reason, known) -> None:
    said = slurm.held(f"PENDING ({reason})", "tally-1")
    assert said.startswith(f"held ({known})") if known else not said
    assert ("scontrol release jobname=tally-1" in said) == bool(known)
