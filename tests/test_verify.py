"""Bit rot, truncation and loss are found, and named, in volumes, labels and tables."""

import os

import numpy as np
import pytest
import scenes

from pipeline import cli, ingest, verify


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
    assert "other bytes than were written" in fault
