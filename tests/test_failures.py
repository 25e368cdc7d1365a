"""Laws of failures: their class from evidence, and what is submitted next."""

import dataclasses
import errno
import json
import os
import socket
import subprocess
import traceback
from pathlib import Path

import numpy as np
import pytest
import tally
import torch
from hypothesis import given
from hypothesis import strategies as some
from test_cluster import ASKED, toy

from pipeline import boundaries, cluster, failures, share
from pipeline.arrays import Array
from pipeline.failures import Course, Evidence, Loss
from pipeline.share import Share
from pipeline.submission import parameters

LOG = "slurmstepd: error: *** JOB 7 ON c1 CANCELLED AT 2026-11-26T20:00:00{} ***"


def loss(kind: failures.Kind, node: str = "c1") -> Loss:
    return Loss(job="5_0", kind=kind, state="", node=node, units="unit 0")


@pytest.mark.parametrize(
    ("state", "said", "kind"),
    [
        ("OUT_OF_MEMORY", "", "memory"),
        ("FAILED", "slurmstepd: error: Detected 1 oom-kill event(s)", "memory"),
        ("FAILED", "error: Step 7.batch exceeded memory limit (9 > 8), being killed", "memory"),
        ("TIMEOUT", "", "time"),
        ("DEADLINE", "", "time"),
        ("vanished", LOG.format(" DUE TO TIME LIMIT"), "time"),
        ("PREEMPTED", "", "preemption"),
        ("vanished", LOG.format(" DUE TO PREEMPTION"), "preemption"),
        ("NODE_FAIL", "", "node"),
        ("vanished", LOG.format(" DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"), "node"),
        ("CANCELLED", "", "cancelled"),
        ("vanished", LOG.format(""), "cancelled"),
        ("FAILED", "line 5: module: command not found\nslurm_setup failed\n", "setup"),
        ("FAILED", "slurm_setup failed\n" + LOG.format(""), "cancelled"),
        ("FAILED", "", "unknown"),
        ("vanished", "", "unknown"),
        ("COMPLETED", "", "unknown"),
    ],
)
def test_what_slurm_says_tells_the_class_with_and_without_accounts(
    state: str, said: str, kind: str
) -> None:
    assert failures.kind(Evidence(state=state, said=said)) == kind


def test_a_job_that_says_nothing_on_a_full_disk_failed_for_that() -> None:
    assert failures.kind(Evidence(state="FAILED", full=True)) == "disk"
    assert failures.kind(Evidence(state="TIMEOUT", full=True)) == "time"


def host_memory() -> None:
    np.empty((1 << 50,), np.uint8)


def device_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/results/0")


def stale() -> None:
    raise OSError(errno.ESTALE, "Stale file handle")


def broken_device() -> None:
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


def mistake() -> None:
    raise LookupError("no optics for\nunit 0")


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (host_memory, "memory"),
        (device_memory, "device memory"),
        (disk, "disk"),
        (stale, "node"),
        (broken_device, "node"),
        (mistake, "error"),
    ],
)
def test_what_a_job_raised_tells_the_class(act, kind: str) -> None:
    try:
        act()
    except Exception as error:
        error.add_note(share._note(error))
        text = "".join(traceback.format_exception(error))
    evidence, node, said = failures.read_note(text)
    assert failures.kind(evidence) == kind
    assert node == socket.gethostname()
    assert failures.NOTE not in said


def test_memory_grows_to_what_the_nodes_have_and_then_failures_count() -> None:
    course, asked = Course(mem_mb=1000), []
    while not course.ended:
        course = course.after([loss("memory")], False, 4000)
        asked.append(course.mem_mb)
    assert asked == [1500, 2250, 3375, 4000, 4000, 4000, 4000, 4000]


def test_a_job_may_have_more_memory_than_the_site_tells_of() -> None:
    assert Course(mem_mb=5000).after([loss("memory")], False, 4000).mem_mb == 5000


@pytest.mark.parametrize("kind", sorted(failures.FREE))
def test_what_jobs_cannot_help_spends_no_retry_and_is_still_bounded(kind) -> None:
    course = Course(mem_mb=1)
    for _ in range(failures.FREE_RESUBMISSIONS):
        course = course.after([loss(kind)], False, 1)
        assert not course.ended
    assert course.fruitless == 0
    assert course.after([loss(kind)], False, 1).ended


def test_a_setup_that_fails_everywhere_is_tried_once_more() -> None:
    once = Course(mem_mb=1).after([loss("setup", "c1"), loss("setup", "c2")], False, 1)
    assert not once.ended
    assert once.after([loss("setup"), loss("node")], False, 1).unprepared == 0
    twice = once.after([loss("setup")], False, 1)
    assert twice.ended
    assert "Mend slurm_setup in the profile" in twice.why([loss("setup")])


def test_a_setup_that_fails_on_one_node_is_tried_elsewhere() -> None:
    course = Course(mem_mb=1)
    for _ in range(failures.FAULTS_OF_A_NODE):
        course = course.after([loss("setup", "c1")], True, 1)
        assert not course.ended
    assert course.excluded(["c1", "c2"]) == ("c1",)


@given(some.lists(some.sampled_from(sorted(failures.ANSWERS)), max_size=4))
def test_progress_forgives_all(kinds) -> None:
    course = Course(mem_mb=1, fruitless=3, free=20)
    assert not course.after([loss(kind) for kind in kinds], True, 1).ended


def test_a_node_that_fails_again_is_excluded_unless_none_is_left() -> None:
    course = Course(mem_mb=1).after([loss("node", "c2"), loss("cancelled", "c1")], True, 1)
    assert course.excluded(["c1", "c2"]) == ()
    course = course.after([loss("unknown", "c2"), loss("cancelled", "c1")], True, 1)
    assert course.excluded(["c1", "c2"]) == ("c2",)
    assert course.excluded(["c2"]) == ()
    assert course.excluded([]) == ()


def test_excluded_nodes_add_to_those_of_the_profile() -> None:
    asked = dataclasses.replace(ASKED, slurm_extra="--exclude=n1 --nice=5", exclude=("c1", "c2"))
    given = parameters(asked, "x")["additional_parameters"]
    assert given == {"exclude": "n1,c1,c2", "nice": "5"}


def test_units_are_told_in_words() -> None:
    assert failures.units_in_words(["7"]) == "unit 7"
    assert failures.units_in_words(["0-1-0-0", "0-1-4-0"]) == "2 units, 0-1-0-0 to 0-1-4-0"


def test_every_event_is_one_line_and_one_record(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    driver = tally.start(folder, place="local", jobs=2, units=4, seconds=0.1, fault="raise")
    assert driver.wait(20) == 1
    lines = [line for line in tally.said(folder).splitlines() if ": error: job" in line]
    assert len(lines) == 1
    assert "2 units, 0 to 1: the others are cancelled" in lines[0]
    [event] = map(json.loads, (folder / "tally.jobs" / "events.jsonl").read_text().splitlines())
    assert (event["kind"], event["units"]) == ("error", "2 units, 0 to 1")


def test_the_command_that_is_shown_reproduces_the_error_on_one_unit(tmp_path: Path) -> None:
    folder = tmp_path / "folder with 'quotes'"
    driver = tally.start(folder, place="local", jobs=1, units=4, seconds=0, fault="raise")
    assert driver.wait(20) == 1
    [command] = [
        line.partition(":  ")[2] for line in tally.said(folder).splitlines() if "rerun" in line
    ]
    tests = Path(tally.__file__).parent
    done = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
    )
    assert done.returncode == 1
    assert "LookupError: no optics for unit 0" in done.stderr
    assert "unit 0 of job" in done.stderr
    assert tally.attempts(folder) == {0: 2}


def test_a_rerun_does_what_is_left_and_no_more(tmp_path: Path) -> None:
    work = toy(tmp_path, 3)
    (tmp_path / "done" / "1").touch()
    call = Share(work, [0, 1, 2], "", tmp_path)
    assert call.left() == [0, 2]


def test_a_rerun_of_nothing_says_how_to_name_a_job(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ARRAY/ID"):
        cluster.rerun(tmp_path / "5_0")


def test_jobs_with_time_left_go_on_and_others_end_at_a_boundary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = boundaries.time.time()
    for end, crossed in (("inf", 3), (now + 3600, 3), (now + 4, 0)):
        monkeypatch.setenv(boundaries.END, str(end))
        boundary, count = boundaries.Boundary(), 0
        with boundaries.respected():
            for _ in range(3):
                boundary.cross()
                count += 1
        assert count == crossed


def test_no_unit_is_begun_that_may_take_as_long_as_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(boundaries.time, "time", lambda: clock[0])
    monkeypatch.setenv(boundaries.END, "1100")
    boundary = boundaries.Boundary()
    clock[0] = 1030.0  # 30 s for one, 70 s left
    boundary.cross()
    clock[0] = 1055.0
    with pytest.raises(boundaries.EndError):
        boundary.cross()


def test_a_job_knows_its_end_from_slurm_or_from_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1234")
    assert share._end(5) == 1234.0
    monkeypatch.delenv("SLURM_JOB_END_TIME")
    assert share._end(5) == pytest.approx(share.psutil.Process().create_time() + 300)


def test_the_record_of_an_array_comes_back_whole(tmp_path: Path) -> None:
    array = Array.new("slurm", "tally", tmp_path)
    array = dataclasses.replace(
        array, jobs=("5_0",), units=("unit 0",), mem_mb=450, faults=("c1", "c1")
    )
    array.write()
    assert Array.read(tmp_path) == array
