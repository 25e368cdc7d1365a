"""Bit rot, truncation and loss are found, and named, in volumes, labels and tables."""

import os

import numpy as np
import pytest
import scenes

from pipeline import checksums, cli, ingest, shards, verify


@pytest.fixture
def store(tmp_path):
    image = np.random.default_rng(0).integers(1, 999, (70, 80), np.uint16)
    task = scenes.ingest_task(scenes.write(tmp_path / "a.tif", image, "yx"))
    ingest.ingest(tmp_path / "made" / "a.json", task, scenes.here)
    return tmp_path / "made" / "a.ome.zarr"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "lost": lambda path: path.unlink(),
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 9),
}


def test_a_whole_volume_has_no_faults(store):
    assert verify.verify(store) == []
    assert cli.main(["verify", str(store)]) == 0


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("shard", ["0/c/0/1/2", "1/c/0/0/1"])
def test_a_harmed_shard_is_named(store, damage, shard, capsys):
    DAMAGES[damage](store / shard)
    [fault] = verify.verify(store)
    assert fault.startswith(f"{store / shard} is {'lost' if damage == 'lost' else 'damaged'}")
    assert cli.main(["verify", str(store)]) == 1
    assert "run again" in capsys.readouterr().err


def test_a_shard_of_another_volume_is_found_by_its_bytes(store):
    (store / "0/c/0/0/0").write_bytes((store / "0/c/0/0/1").read_bytes())
    [fault] = verify.verify(store)
    assert fault.startswith(f"{store / '0/c/0/0/0'} is damaged")


def test_without_its_checksums_nothing_is_taken_for_whole(store):
    (store / checksums.FILE).unlink()
    assert len(verify.verify(store)) == len(list(store.glob("*/c/*/*/*")))


def remake(store):
    receipt = store.with_name("a.json")
    receipt.unlink()
    acquired = scenes.acquisition(store.parents[1] / "a.tif", axes="yx", voxel_size_um=VOXEL)
    ingest.ingest(receipt, scenes.ingest_task(acquired), scenes.here)


def written(path):
    """What tells that a file was written again; the number of one that is gone may come back."""
    return path.stat().st_ino, path.stat().st_ctime_ns


VOXEL = {"y": 0.5, "x": 0.5}


def test_harmed_shards_are_made_again_from_the_source_and_no_others(store):
    (store / "labels" / "cells").mkdir(parents=True)
    statistics = store.with_name("a.statistics.json").read_bytes()
    before = scenes.snapshot(store)
    files = {path: written(path) for path in store.rglob("c/*/*/*")}
    DAMAGES["flipped"](store / "0/c/0/1/2")
    DAMAGES["lost"](store / "1/c/0/0/1")
    DAMAGES["truncated"](store / "2/c/0/0/0")
    remake(store)
    assert scenes.snapshot(store) == before
    assert store.with_name("a.statistics.json").read_bytes() == statistics
    again = {path for path, mark in files.items() if written(path) != mark}
    assert again == {store / "0/c/0/1/2", store / "1/c/0/0/1", store / "2/c/0/0/0"}
    assert (store / "labels" / "cells").is_dir()
    assert not list(store.parent.glob("*.building*"))


def test_a_repair_that_is_killed_at_any_step_ends_in_the_same_bytes(store, monkeypatch):
    before = scenes.snapshot(store)
    steps = ("reopen", "begin", "complete")
    for step in steps:
        DAMAGES["flipped"](store / "0/c/0/1/2")
        module = checksums if step == "reopen" else shards
        whole = getattr(module, step)

        def killed(*given, whole=whole):
            whole(*given)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, step, killed)
            with pytest.raises(KeyboardInterrupt):
                remake(store)
        store.with_name("a.json").touch()
        remake(store)
        assert scenes.snapshot(store) == before
