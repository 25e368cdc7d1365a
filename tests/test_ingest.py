"""Exact pixels, exact pyramids, valid stores; and no crash or damage that survives."""

import json
import logging

import ngio
import numpy as np
import ome_zarr_models
import pytest
import scenes
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from pipeline import ingest, readers, receipts, shards, volumes


def run(tmp_path, acquired, work=scenes.here, **given):
    receipt = tmp_path / "out" / "sample.json"
    ingest.ingest(receipt, scenes.ingest_task(acquired, **given), work)
    return volumes.open_volume(receipt.with_suffix(".ome.zarr"))


def level(volume, number):
    return np.asarray(volumes.open_level(volume.store, number)[:])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", ">u2"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("yx", (37, 53)), ("zyx", (9, 33, 35)), ("tczyx", (2, 2, 5, 20, 17)), ("xyc", (21, 40, 3))],
)
def test_level_0_equals_the_source_bit_for_bit(tmp_path, dtype, axes, shape):
    array = np.random.default_rng(0).integers(0, 120, shape).astype(dtype)
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", array, axes))
    order = [axes.index(a) for a in volume.axes if a in axes]
    expected = array.transpose(order)
    assert (level(volume, 0).reshape(expected.shape) == expected).all()
    assert level(volume, 0).dtype == np.dtype(dtype).newbyteorder("=")


def test_a_level_is_the_rounded_mean_of_the_one_below(tmp_path):
    array = np.random.default_rng(1).integers(0, 999, (9, 35, 51)).astype(np.uint16)
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", array, "zyx"))
    fine, coarse = level(volume, 0)[0], level(volume, 1)[0]
    assert volume.levels[1].factors == (1, 1, 2, 2)
    assert coarse.shape == (9, 18, 26)
    for z, y, x in [(0, 0, 0), (3, 8, 11), (8, 17, 25), (5, 17, 2)]:
        block = fine[z, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float)
        assert coarse[z, y, x] == int(block.mean() + 0.5)


def test_metadata_puts_voxels_of_all_levels_where_they_are(tmp_path):
    array = np.zeros((9, 35, 51), np.uint16)
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", array, "zyx"))
    [block] = volumes.attributes(volume.store)["ome"]["multiscales"]
    second = block["datasets"][2]["coordinateTransformations"]
    assert second == [
        {"type": "scale", "scale": [1.0, 2.0, 2.0, 2.0]},
        {"type": "translation", "translation": [0.0, 0.5, 0.75, 0.75]},
    ]


@pytest.mark.parametrize(("axes", "shape"), [("tyx", (3, 40, 50)), ("zyx", (9, 33, 35))])
def test_stores_are_valid_and_open_in_the_fields_readers(tmp_path, axes, shape):
    image, _ = scenes.simulated(axes, shape, 6.0, 5)
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", image, axes))
    checked = ome_zarr_models.open_ome_zarr(zarr.open_group(volume.store, mode="r"))
    assert type(checked).__module__ == "ome_zarr_models.v05.image"
    opened = ngio.open_ome_zarr_container(str(volume.store)).get_image()
    assert opened.pixel_size.x == scenes.VOXEL["x"]
    [node] = list(Reader(parse_url(str(volume.store)))())
    assert (np.asarray(node.data[0]).squeeze() == image).all()


def test_metadata_of_ome_tiff_is_understood(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((2, 2, 20, 24), np.uint16),
        metadata={
            "axes": "TCYX",
            "Channel": {"Name": ["DNA", "actin"]},
            "PhysicalSizeX": 250.0,
            "PhysicalSizeXUnit": "nm",
            "PhysicalSizeY": 0.25,
            "TimeIncrement": 2.0,
            "TimeIncrementUnit": "min",
        },
    )
    volume = run(tmp_path, scenes.acquisition(path))
    assert (volume.axes, volume.channels) == ("tcyx", ("DNA", "actin"))
    assert volume.voxel_size_um == {"y": 0.25, "x": 0.25}
    assert volume.time_step_s == 120.0


def test_metadata_of_imagej_is_understood(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.zeros((5, 20, 24), np.uint16),
        imagej=True,
        resolution=(4.0, 4.0),
        metadata={"axes": "ZYX", "unit": "um", "spacing": 0.7},
    )
    assert run(tmp_path, scenes.acquisition(path)).voxel_size_um == {"z": 0.7, "y": 0.25, "x": 0.25}


def test_channels_are_taken_by_name(tmp_path):
    path = tmp_path / "a.ome.tif"
    array = np.arange(3 * 20 * 20, dtype=np.uint16).reshape(3, 20, 20)
    tifffile.imwrite(path, array, metadata={"axes": "CYX", "Channel": {"Name": ["a", "b", "c"]}})
    acquired = scenes.acquisition(path, channels=["c", "a"], voxel_size_um={"y": 1, "x": 1})
    assert (level(run(tmp_path, acquired), 0) == array[[2, 0]]).all()


def test_voxels_that_are_no_numbers_are_refused(tmp_path):
    array = np.ones((20, 20), np.float32)
    array[3, 4] = np.nan
    with pytest.raises(ValueError, match="no numbers"):
        run(tmp_path, scenes.write(tmp_path / "a.tif", array, "yx"))
    assert not (tmp_path / "out" / "sample.json").exists()


def test_an_absurd_voxel_size_is_refused(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, np.zeros((8, 8), np.uint8), metadata={"PhysicalSizeX": 4e13, "PhysicalSizeY": 1.0}
    )
    with pytest.raises(ValueError, match=r"which no microscope records.*voxel_size_um: \{y"):
        readers.source("a", scenes.acquisition(path))


class CrashError(RuntimeError):
    pass


def crash_after(shards_written):
    """Work that dies once so many shards are written."""
    left = [shards_written]
    write = volumes.write_shard

    def dying(*arguments):
        if not left[0]:
            raise CrashError
        left[0] -= 1
        return write(*arguments)

    return dying


@pytest.mark.parametrize("survived", [0, 1, 5, 11])
def test_after_a_crash_the_rest_is_written_and_bytes_are_equal(tmp_path, monkeypatch, survived):
    image, _ = scenes.simulated("zyx", (17, 50, 70), 6.0, 9)
    acquired = scenes.write(tmp_path / "a.tif", image, "zyx")
    (tmp_path / "calm").mkdir()
    undisturbed = run(tmp_path / "calm", acquired)

    monkeypatch.setattr(volumes, "write_shard", crash_after(survived))
    with pytest.raises(CrashError):
        run(tmp_path, acquired)
    written = []
    write = shards.volumes.write_shard.__closure__[1].cell_contents

    def counted(*arguments):
        written.append(arguments[2])
        return write(*arguments)

    monkeypatch.setattr(volumes, "write_shard", counted)
    volume = run(tmp_path, acquired)
    assert scenes.snapshot(volume.store) == scenes.snapshot(undisturbed.store)
    total = len(list((tmp_path / "calm").rglob("c/*/*/*/*")))
    assert len(written) == total - survived


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "missing"])
def test_a_damaged_shard_is_made_again(tmp_path, damage):
    image, _ = scenes.simulated("zyx", (17, 50, 70), 6.0, 9)
    acquired = scenes.write(tmp_path / "a.tif", image, "zyx")
    harmed = []

    def harming(work):
        scenes.here(work)
        if not harmed:
            shard = sorted(work.store.rglob("0/c/*/*/*/*"))[2]
            content = shard.read_bytes()
            harmed.append(shard)
            shard.unlink()
            if damage == "torn":
                shard.write_bytes(content[:-40])
            elif damage == "empty":
                shard.write_bytes(b"")
            elif damage == "flipped":
                shard.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    volume = run(tmp_path, acquired, harming)
    assert harmed
    assert (level(volume, 0)[0] == image).all()


def test_the_same_recipe_again_writes_no_shard(tmp_path, caplog):
    acquired = scenes.write(tmp_path / "a.tif", np.ones((40, 40), np.uint8), "yx")
    before = scenes.snapshot(run(tmp_path, acquired).store)

    def refuse(_):
        raise AssertionError

    with caplog.at_level(logging.INFO):
        assert scenes.snapshot(run(tmp_path, acquired, refuse).store) == before
    assert "made from the same recipe" in caplog.text


def test_a_published_store_that_was_harmed_is_not_trusted(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (40, 40)).astype(np.uint8)
    acquired = scenes.write(tmp_path / "a.tif", image, "yx")
    volume = run(tmp_path, acquired)
    shard = next(volume.store.rglob("0/c/*/*/*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert (level(run(tmp_path, acquired), 0)[0] == image).all()


def test_another_recipe_replaces_the_volume_only_when_it_is_whole(tmp_path, monkeypatch):
    acquired = scenes.write(tmp_path / "a.tif", np.ones((40, 40), np.uint8), "yx")
    first = run(tmp_path, acquired)
    old = scenes.snapshot(first.store)
    with monkeypatch.context() as patched:
        patched.setattr(volumes, "write_shard", crash_after(2))
        with pytest.raises(CrashError):
            run(tmp_path, acquired, smallest_level_voxels=5)
    assert scenes.snapshot(first.store) == old
    second = run(tmp_path, acquired, smallest_level_voxels=5)
    assert second.recipe != first.recipe
    assert not list(second.store.parent.glob("*.building*"))
    assert not list(second.store.parent.glob(".*"))


def test_an_empty_image_counts_as_written(tmp_path):
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", np.zeros((40, 40), np.uint8), "yx"))
    assert not level(volume, 0).any()


def test_a_receipt_says_the_recipe_and_no_time(tmp_path):
    acquired = scenes.write(tmp_path / "a.tif", np.ones((40, 40), np.uint8), "yx")
    texts = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        run(tmp_path / folder, acquired)
        texts.append((tmp_path / folder / "out" / "sample.json").read_text())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["recipe"]["inputs"] == {
        str(tmp_path / "a.tif"): receipts.file_fingerprint(tmp_path / "a.tif")
    }
