"""Whatever fails under predict, it says so in one sentence, harms nothing and can go on."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys

import campaigns
import disks
import numpy as np
import psutil
import pytest
import scenes
from brightness import Results
from disks import KILOBYTE, ROOT_ALONE, mount

from pipeline import boundaries, cli, publication, volumes

MOVIE = ("tyx", (3, 90, 107), 4.0, 25)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Results before predict ran. Tests copy them, and leave them as they are."""
    image, _ = scenes.simulated(*MOVIE)
    return Results.of(tmp_path_factory.mktemp("reference") / "results", image, MOVIE[0])


@pytest.fixture(scope="module")
def undisturbed(reference, tmp_path_factory):
    """Results after predict ran twice, with two settings, and nothing went wrong."""
    results = copied(reference, tmp_path_factory.mktemp("undisturbed") / "results")
    results.predict(foreground=0.7)
    results.predict()
    return results


@pytest.fixture
def results(reference, tmp_path):
    """Results of one's own, before predict ran."""
    return copied(reference, tmp_path / "results")


@pytest.fixture
def small_disk(tmp_path):
    with disks.small(tmp_path / "disk") as disk:
        yield disk


def copied(results, folder):
    shutil.copytree(results.folder, folder, dirs_exist_ok=True)
    return Results(folder)


def said(results, capsys, **given):
    """What predict says when it fails, which must be one sentence."""
    capsys.readouterr()
    code = cli.main(results.command(**given))
    lines = [line for line in capsys.readouterr().err.splitlines() if "equiscope: " in line]
    assert code == 1, lines
    assert len(lines) == 1, lines
    return lines[0]


def test_jobs_whose_time_is_always_nearly_up_make_the_same_labels(
    results, undisturbed, monkeypatch, caplog
):
    monkeypatch.setenv(boundaries.END, "1")
    results.predict(foreground=0.7)
    with caplog.at_level("INFO"):
        assert cli.main(results.command()) == 0
    assert results.published() == undisturbed.published()
    assert caplog.text.count("this job's time is nearly up") > 3


# --- the disk -----------------------------------------------------------------------------------


@ROOT_ALONE
def test_a_disk_that_fills_up_anywhere_costs_nothing_but_time(
    reference, undisturbed, small_disk, capsys
):
    results = copied(reference, small_disk / "results")
    results.predict(foreground=0.7)
    before = results.published()
    ballast, failures = small_disk / "ballast", 0
    disks.fill(ballast)
    while cli.main(results.command()) != 0:
        lines = capsys.readouterr().err.splitlines()
        [sentence] = [line for line in lines if line.startswith("equiscope: ")]
        assert "no space left" in sentence.lower()
        assert results.published() == before
        failures += 1
        os.truncate(ballast, ballast.stat().st_size - 7 * KILOBYTE)
    assert failures > 3
    assert results.published() == undisturbed.published()


@ROOT_ALONE
def test_a_read_only_disk_is_said_before_any_work(reference, small_disk, capsys):
    results = copied(reference, small_disk / "results")
    before = scenes.snapshot(results.folder)
    mount("-o", "remount,ro", str(small_disk))
    assert "Read-only file system" in said(results, capsys)
    assert scenes.snapshot(results.folder) == before


@ROOT_ALONE
def test_a_volume_on_a_read_only_disk_loses_nothing(results, capsys):
    before = results.published()
    ingested = str(results.image.parent)
    mount("--bind", "-o", "ro", ingested, ingested)
    try:
        assert results.image.parent.name in said(results, capsys)
        assert results.published() == before
    finally:
        subprocess.run(["umount", ingested], check=True)
    results.predict()
    assert not list(results.folder.rglob("*.building*"))


@ROOT_ALONE
@pytest.mark.parametrize("fault", ["read-only", "elsewhere"])
def test_that_results_cannot_come_to_their_place_is_known_beforehand(tmp_path, small_disk, fault):
    building = tmp_path / "predict"
    if fault == "read-only":
        building = small_disk / "predict"
        building.mkdir()
        mount("-o", "remount,ro", str(small_disk))
    with pytest.raises(OSError, match=r"cannot take what is made in .*lie on one file system"):
        publication.check_place(building, small_disk)
    assert not list(tmp_path.rglob("*.probe"))


def test_to_look_whether_results_can_come_to_their_place_leaves_no_trace(tmp_path):
    publication.check_place(tmp_path / "predict", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["predict"]


# --- the volume ---------------------------------------------------------------------------------

DAMAGES = ["deleted", "empty", "a stump", "torn", "flipped"]


def harm(shard, damage):
    content = shard.read_bytes()
    if damage == "deleted":
        shard.unlink()
    elif damage == "flipped":
        shard.write_bytes(bytes([content[0] ^ 255]) + content[1:])
    else:
        os.truncate(shard, {"empty": 0, "a stump": 3, "torn": len(content) // 2}[damage])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_harmed_shard_of_the_volume_is_named_and_never_read_as_zeros(
    results, undisturbed, reference, capsys, damage
):
    results.predict(foreground=0.7)
    before = results.published()
    shard = results.store / "0" / "c" / "1" / "0" / "1" / "2"
    content = shard.read_bytes()
    harm(shard, damage)
    sentence = said(results, capsys)
    assert str(shard) in sentence
    assert f"Delete {results.image} and run again" in sentence
    harmed = results.published()
    name = str(shard.relative_to(results.folder))
    assert harmed | {name: content} == before | {name: content}

    raw = reference.folder.with_suffix(".tif")
    voxel_size_um = {axis: scenes.VOXEL[axis] for axis in "yx"}
    results.image.unlink()
    results.ingest(scenes.acquisition(raw, axes="tyx", voxel_size_um=voxel_size_um))
    assert results.published() == before, "the labels that were there came through"
    results.predict()
    assert results.published() == undisturbed.published()


def test_a_volume_that_vanishes_midway_is_said_and_yields_no_labels(results, monkeypatch, capsys):
    write = volumes.write_shard

    def vanishing(*arguments):
        shutil.rmtree(results.store / "0" / "c", ignore_errors=True)
        return write(*arguments)

    monkeypatch.setattr(volumes, "write_shard", vanishing)
    assert "is lost or damaged" in said(results, capsys)
    assert not results.receipt.exists()
    assert not (results.store / "labels").exists()


def test_a_job_says_the_same_sentence(results):
    shard = results.store / "0" / "c" / "1" / "0" / "0" / "0"
    shard.unlink()
    done = run(results, "--place", "local", "--jobs", "2")
    assert done.returncode == 1
    assert f"{shard} is lost or damaged" in done.stderr
    assert not results.receipt.exists()


def test_a_volume_of_nothing_has_a_file_for_every_shard(tmp_path):
    results = Results.of(tmp_path / "results", np.zeros((40, 70), np.uint16), "yx")
    # 2 x 3 shards of 32 x 32 voxels.
    assert len(list((results.store / "0").rglob("c/*/*/*"))) == 6


def test_predict_needs_no_raw_file(results, reference, tmp_path):
    elsewhere = copied(reference, tmp_path / "moved")
    assert not elsewhere.folder.with_suffix(".tif").exists()
    assert elsewhere.predict() == results.predict()


# --- what was published -------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_published_labels_that_were_harmed_are_made_again(results, undisturbed, damage):
    copied(undisturbed, results.folder)
    shard = min(results.store.glob("labels/bright/0/c/*/*/*"))
    harm(shard, damage)
    assert results.published() != undisturbed.published()
    results.receipt.unlink()
    results.predict()
    assert results.published() == undisturbed.published()


def test_a_store_that_was_copied_is_found_whole_and_nothing_is_made(undisturbed, tmp_path, caplog):
    results = copied(undisturbed, tmp_path / "elsewhere")
    results.receipt.unlink()
    with caplog.at_level(logging.INFO):
        results.predict()
    assert "there and whole, made from the same recipe" in caplog.text
    assert results.published() == undisturbed.published()


# --- the processes ------------------------------------------------------------------------------


def words(results, *options):
    return [sys.executable, "-m", "pipeline", *results.command(*options)]


def run(results, *options):
    return subprocess.run(
        words(results, *options),
        capture_output=True,
        text=True,
        cwd=campaigns.ROOT,
        env=campaigns.environment(),
        timeout=campaigns.LIMIT_S,
    )


def test_of_two_jobs_one_may_be_killed(results, undisturbed):
    results.predict(foreground=0.7)
    driver = subprocess.Popen(
        words(results, "--place", "local", "--jobs", "2"),
        stderr=subprocess.PIPE,
        text=True,
        cwd=campaigns.ROOT,
        env=campaigns.environment(),
    )

    def tasks():
        found = []
        for process in psutil.Process(driver.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "submitit.core._submit" in process.cmdline():
                    found.append(process.pid)
        return found

    def at_work():
        return len(tasks()) == 2 and list(results.receipt.parent.glob("*.units/*.json"))

    campaigns.until(lambda: at_work() or driver.poll() is not None)
    victim, other = tasks()
    os.kill(victim, signal.SIGKILL)
    assert psutil.pid_exists(other)
    _, errors = driver.communicate(timeout=campaigns.LIMIT_S)
    assert driver.returncode == 0, errors
    assert results.published() == undisturbed.published()
