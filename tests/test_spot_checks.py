"""A finished volume is held against its source, and its levels against each other."""

import numpy as np
import pytest
import scenes
import tifffile

from pipeline import ingest, readers, spot_checks, tiles, volumes

STACK = np.random.default_rng(0).integers(0, 4000, (9, 40, 45), np.uint16)


@pytest.fixture
def made(tmp_path):
    """A volume and its source."""
    acquired = scenes.write(tmp_path / "a.tif", STACK, "zyx")
    ingest.ingest(tmp_path / "made" / "a.json", scenes.ingest_task(acquired), scenes.here)
    volume = volumes.open_volume(tmp_path / "made" / "a.ome.zarr")
    return volume, readers.source("a", acquired)


def faults(volume, source):
    return spot_checks.faults(volume.store, volume.levels, source)


def falsify(volume, number):
    """Write other voxels, as soundly as the true ones."""
    level = volume.levels[number]
    for box in tiles.boxes(level.shape, level.shard):
        values = np.asarray(volumes.open_level(volume.store, number)[box.slices]) + 1
        volumes.write_shard(volume.store, level, box, values)


def test_a_true_volume_has_no_faults(made):
    assert faults(*made) == []


def test_voxels_that_the_source_does_not_hold_are_found(made):
    volume, source = made
    falsify(volume, 0)
    assert f"differs from {source.path}" in faults(volume, source)[0]


@pytest.mark.parametrize("number", [1, 2])
def test_a_level_that_is_not_the_mean_of_the_one_below_is_named(made, number):
    volume, source = made
    falsify(volume, number)
    assert f"level {number} of {volume.store}" in faults(volume, source)[0]


def test_a_source_that_was_changed_while_it_was_read_is_named(tmp_path):
    acquired = scenes.write(tmp_path / "a.tif", STACK, "zyx")
    receipt = tmp_path / "made" / "a.json"

    def changing(work):
        work(work.missing()[:1])
        tifffile.imwrite(tmp_path / "a.tif", STACK + 1, photometric="minisblack")
        scenes.here(work)

    with pytest.raises(OSError, match=r"a\.tif was changed while it was read: run again"):
        ingest.ingest(receipt, scenes.ingest_task(acquired), changing)
    assert not receipt.exists()
    ingest.ingest(receipt, scenes.ingest_task(acquired), scenes.here)
    volume = volumes.open_volume(receipt.with_suffix(".ome.zarr"))
    assert (np.asarray(volumes.open_level(volume.store, 0)[0]) == STACK + 1).all()
