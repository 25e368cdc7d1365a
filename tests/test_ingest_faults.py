"""Whatever fails under ingest, it says so in one sentence, and the same command then completes.

What is published then has the bytes of a run that nothing disturbed.
"""

import os
import shutil
import subprocess
import sys

import campaigns
import disks
import pytest
import scenes
import tifffile
import yaml
from disks import KILOBYTE, ROOT_ALONE, mount

from pipeline import boundaries, cli, ingest

SHAPE = (17, 90, 107)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A raw stack, which tests copy."""
    image, _ = scenes.simulated("zyx", SHAPE, 6.0, 20)
    path = tmp_path_factory.mktemp("raw") / "dish.tif"
    tifffile.imwrite(path, image, photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    """The files of its volume, made in calm."""
    receipt = tmp_path_factory.mktemp("calm") / "dish.json"
    assert cli.main(command(receipt, raw)) == 0
    return published(receipt)


@pytest.fixture
def small_disk(tmp_path):
    with disks.small(tmp_path / "disk") as disk:
        yield disk


def task(raw, **given):
    acquired = scenes.acquisition(raw, axes="zyx", voxel_size_um=scenes.VOXEL)
    return scenes.ingest_task(acquired, **given)


def command(receipt, raw, **given):
    """What a user types after `python -m pipeline`."""
    settings = task(raw, **given).model_dump_json()
    return ["ingest", str(receipt), "--settings", settings]


def published(receipt):
    """Every file of the volume, but for the metadata that name the raw file."""
    files = scenes.snapshot(receipt.with_suffix(".ome.zarr"))
    files.pop("zarr.json", None)
    return files


def said(capsys, words, code=1):
    """What ingest says when it fails, which must be one sentence."""
    capsys.readouterr()
    assert cli.main(words) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "equiscope: " in line]
    assert len(lines) == 1, lines
    return lines[0]


@ROOT_ALONE
def test_a_disk_that_fills_up_anywhere_costs_nothing_but_time(raw, undisturbed, small_disk, capsys):
    receipt = small_disk / "ingest" / "dish.json"
    assert cli.main(command(receipt, raw, smallest_level_voxels=50)) == 0
    before = published(receipt)
    assert before != undisturbed
    ballast, failures = small_disk / "ballast", 0
    disks.fill(ballast)
    words = command(receipt, raw)
    while cli.main(words) != 0:
        lines = capsys.readouterr().err.splitlines()
        [sentence] = [line for line in lines if line.startswith("equiscope: ")]
        assert "no space left" in sentence.lower()
        assert "run again" in sentence
        assert published(receipt) == before
        failures += 1
        os.truncate(ballast, ballast.stat().st_size - 64 * KILOBYTE)
    assert failures > 3
    assert published(receipt) == undisturbed
    assert not list(receipt.parent.glob("*.building*"))


def test_jobs_whose_time_is_always_nearly_up_write_a_shard_each(
    raw, undisturbed, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv(boundaries.END, "1")
    receipt = tmp_path / "dish.json"
    with caplog.at_level("INFO"):
        assert cli.main(command(receipt, raw)) == 0
    assert published(receipt) == undisturbed
    assert caplog.text.count("this job's time is nearly up") > 3


@ROOT_ALONE
def test_a_read_only_disk_is_said_and_nothing_is_lost(raw, undisturbed, small_disk, capsys):
    receipt = small_disk / "ingest" / "dish.json"
    assert cli.main(command(receipt, raw, smallest_level_voxels=50)) == 0
    before = scenes.snapshot(small_disk)
    mount("-o", "remount,ro", str(small_disk))
    sentence = said(capsys, command(receipt, raw))
    assert "Read-only file system" in sentence
    assert "mounted writable" in sentence
    assert scenes.snapshot(small_disk) == before
    mount("-o", "remount,rw", str(small_disk))
    assert cli.main(command(receipt, raw)) == 0
    assert published(receipt) == undisturbed


HARMS = {
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "deleted": lambda path: path.unlink(),
    "other bytes": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_raw_file_that_is_harmed_midway_is_named_and_what_was_written_stays(
    raw, undisturbed, tmp_path, harm
):
    path, receipt = tmp_path / raw.name, tmp_path / "ingest" / "dish.json"
    shutil.copy(raw, path)

    def harming(work):
        first, *others = work.missing()
        work([first])
        HARMS[harm](path)
        work(others)

    with pytest.raises(OSError, match="put it back whole and run again") as fault:
        ingest.ingest(receipt, task(path, smallest_level_voxels=50), harming)
    assert str(path) in str(fault.value)
    assert "\n" not in str(fault.value)
    assert not receipt.exists()
    assert not receipt.with_suffix(".ome.zarr").exists()
    written = scenes.snapshot(receipt.parent / "dish.ome.zarr.building" / "0" / "c")
    assert written
    shutil.copy(raw, path)
    words = command(receipt, path, smallest_level_voxels=50)
    assert cli.main(words) == 0
    kept = scenes.snapshot(receipt.with_suffix(".ome.zarr") / "0" / "c")
    assert written.items() <= kept.items()
    assert cli.main(command(receipt, path)) == 0
    assert published(receipt) == undisturbed


def test_a_raw_file_that_is_gone_is_named(tmp_path, capsys):
    receipt = tmp_path / "ingest" / "dish.json"
    sentence = said(capsys, command(receipt, tmp_path / "dish.tif"), code=2)
    assert "acquisitions.dish.path" in sentence
    assert str(tmp_path / "dish.tif") in sentence
    assert not receipt.exists()


def campaign(folder, raw, **ingest_settings):
    """A campaign of one stack. Returns its config.yaml."""
    dish = {"path": str(raw), "axes": "zyx", "voxel_size_um": scenes.VOXEL}
    model = {"channel": "channel_0", "acquisitions": ["dish"], "diameter_um": 6}
    given = campaigns.settings(acquisitions={"dish": dish}, models={"objects": model})
    given["ingest"] |= task(raw).ingest.model_dump(mode="json") | ingest_settings
    (folder / "config.yaml").write_text(yaml.safe_dump(given))
    return folder / "config.yaml"


TYPOS = {
    "shard_voxel": ({"yx": [32, 32], "zyx": [8, 32, 32]}, "ingest.shard_voxel is no setting"),
    "smallest_level_voxels": (0, "ingest.smallest_level_voxels is 0"),
    "shard_voxels": ({"yx": [32, 32], "zyx": [8, 32, 30]}, "must be a multiple of"),
}


@pytest.mark.parametrize("name", TYPOS)
def test_a_wrong_setting_is_named_before_anything_is_touched(
    raw, undisturbed, tmp_path, capsys, name
):
    receipt, (value, words) = tmp_path / "ingest" / "dish.json", TYPOS[name]
    config = campaign(tmp_path, raw)
    typed = ["ingest", str(receipt), "--config", str(config)]
    assert cli.main(typed) == 0
    assert published(receipt) == undisturbed
    before = scenes.snapshot(receipt.parent)
    campaign(tmp_path, raw, **{name: value})
    sentence = said(capsys, typed, code=2)
    assert words in sentence
    assert str(config) in sentence
    assert scenes.snapshot(receipt.parent) == before
    campaign(tmp_path, raw)
    assert cli.main(typed) == 0
    assert scenes.snapshot(receipt.parent) == before


@ROOT_ALONE
def test_a_job_says_the_same_sentence_of_a_full_disk(raw, undisturbed, small_disk, tmp_path):
    receipt = small_disk / "ingest" / "dish.json"
    logs = tmp_path / "logs"
    (small_disk / "ingest").mkdir()
    disks.fill(small_disk / "ballast")
    os.truncate(small_disk / "ballast", (small_disk / "ballast").stat().st_size - 256 * KILOBYTE)
    options = ["--place", "local", "--jobs", "2", "--job-logs", str(logs)]
    words = [*command(receipt, raw), *options]
    failed = run(words)
    assert failed.returncode == 1
    assert "no space left" in failed.stderr.lower()
    assert not receipt.exists()
    (small_disk / "ballast").unlink()
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert published(receipt) == undisturbed


def run(words):
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        capture_output=True,
        text=True,
        cwd=campaigns.ROOT,
        env=campaigns.environment(),
        timeout=campaigns.LIMIT_S,
    )
