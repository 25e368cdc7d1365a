"""OME-Zarr that is fit is used where it lies, untouched; what is not is copied, and told why."""

import logging
import os

import numpy as np
import pytest
import scenes
import zarr

from pipeline import ingest, readers, receipts, tiles, verify, volumes

STACK = np.random.default_rng(0).integers(1, 4000, (2, 9, 40, 45), np.uint16)


@pytest.fixture
def fit(tmp_path):
    """A volume as another campaign made it."""
    acquired = scenes.write(tmp_path / "a.tif", STACK, "czyx", channels=["DNA", "actin"])
    ingest.ingest(tmp_path / "other" / "a.json", scenes.ingest_task(acquired), scenes.here)
    return tmp_path / "other" / "a.ome.zarr"


def ingested(fit, caplog=None, given=None, **settings):
    receipt = fit.parents[1] / "mine" / "b.json"
    task = scenes.ingest_task(scenes.acquisition(fit, **(given or {})), **settings)
    if caplog:
        caplog.set_level(logging.INFO)
    ingest.ingest(receipt, task, scenes.here)
    return volumes.open_volume(receipts.result(receipt, "volume"))


def is_link(volume):
    return all((volume.store / str(level.number) / "c").is_symlink() for level in volume.levels)


def test_a_fit_store_is_used_without_a_copy_and_left_untouched(fit):
    before = scenes.snapshot(fit)
    volume = ingested(fit)
    assert is_link(volume)
    assert volume.facts["adopted"]
    assert (np.asarray(volumes.open_level(volume.store, 0)) == STACK).all()
    assert volume.channels == ("DNA", "actin")
    assert volume.voxel_size_um == scenes.VOXEL
    volumes.create(volume.store / "labels" / "cells", volume.label_levels, "zyx", "u8", "labels")
    assert verify.verify(volume.store) == []
    assert scenes.snapshot(fit) == before


def test_a_second_time_nothing_is_done(fit):
    volume = ingested(fit)
    inode = (volume.store / "zarr.json").stat().st_ino
    assert (ingested(fit).store / "zarr.json").stat().st_ino == inode


def test_results_and_raw_data_may_move_together(fit, tmp_path):
    volume = ingested(fit)
    (tmp_path / "elsewhere").mkdir()
    for folder in ("mine", "other"):
        (tmp_path / folder).rename(tmp_path / "elsewhere" / folder)
    moved = tmp_path / "elsewhere" / "mine" / volume.store.name
    assert (np.asarray(volumes.open_level(moved, 0)) == STACK).all()


def test_a_copy_is_made_where_one_is_asked_for(fit):
    volume = ingested(fit, adopt=False)
    assert not is_link(volume)
    assert (np.asarray(volumes.open_level(volume.store, 0)) == STACK).all()


def lose_a_shard(fit):
    (fit / "1" / "c" / "0" / "0" / "0" / "0").unlink()
    return "which may be zeros or a loss"


def falsify_a_level(fit):
    level = volumes.open_volume(fit).levels[1]
    box = next(iter(tiles.boxes(level.shape, level.shard)))
    volumes.write_shard(fit, level, box, np.full(box.shape, 7, np.uint16))
    return "is not the mean of level 0"


def leave_out_checksums(fit):
    document = receipts.read(fit / "1" / "zarr.json")
    inner = document["codecs"][0]["configuration"]["codecs"]
    inner[:] = [step for step in inner if step["name"] != "crc32c"]
    receipts.write(fit / "1" / "zarr.json", document)
    return "its chunks have no checksums"


def claim_another_scale(fit):
    document = receipts.read(fit / "zarr.json")
    datasets = document["attributes"]["ome"]["multiscales"][0]["datasets"]
    datasets[1]["coordinateTransformations"][0]["scale"][-1] *= 1.5
    receipts.write(fit / "zarr.json", document)
    return "no powers of two"


UNFIT = (lose_a_shard, falsify_a_level, leave_out_checksums, claim_another_scale)


@pytest.mark.parametrize("harm", UNFIT, ids=lambda harm: harm.__name__)
def test_what_is_not_fit_is_copied_and_the_log_says_why(fit, caplog, harm):
    reason = harm(fit)
    volume = ingested(fit, caplog)
    assert not is_link(volume)
    assert (np.asarray(volumes.open_level(volume.store, 0)) == STACK).all()
    assert any("is copied: " in said and reason in said for said in caplog.messages)
    assert not list(volume.store.parent.glob("*.adopting"))


def test_some_channels_of_a_store_are_copied(fit):
    volume = ingested(fit, given={"channels": ["actin"]})
    assert not is_link(volume)
    assert (np.asarray(volumes.open_level(volume.store, 0)) == STACK[1:]).all()


def test_ome_zarr_0_4_is_copied(tmp_path, caplog):
    store = tmp_path / "other" / "a.ome.zarr"
    group = zarr.create_group(store, zarr_format=2)
    group.create_array("0", data=STACK[0], chunks=(4, 16, 16))
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    assert not is_link(ingested(store, caplog))
    assert any("is copied: " in said for said in caplog.messages)


def test_a_harmed_store_is_named_and_never_written(fit):
    volume = ingested(fit)
    os.truncate(fit / "0" / "c" / "0" / "0" / "0" / "0", 9)
    before = scenes.snapshot(fit)
    with pytest.raises(OSError, match=r"a\.ome\.zarr cannot be read.*put it back whole"):
        ingested(fit)
    assert scenes.snapshot(fit) == before
    assert volume.store.is_dir()


def test_harm_that_a_fingerprint_does_not_see_is_named_by_its_shard(fit, monkeypatch):
    monkeypatch.setattr(readers, "identity", lambda _: "the same")
    ingested(fit)
    shard = fit / "0" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[9] ^= 1
    shard.write_bytes(content)
    with pytest.raises(OSError, match=r"0/c/0/0/0/0 is damaged.*put them back whole"):
        ingested(fit)
    assert shard.read_bytes() == content
