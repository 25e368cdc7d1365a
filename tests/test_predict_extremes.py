"""Images at the end of what there is, and raw files that are none: no wrong label, no surprise."""

import os

import numpy as np
import ome_zarr_models
import pytest
import scenes
import tifffile
import zarr
from brightness import DIAMETER_UM, VOXEL_UM, Results

from pipeline import distances, formats, ingest, volumes

# --- raw files ----------------------------------------------------------------------------------

DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "halved": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut at its end": lambda path: os.truncate(path, path.stat().st_size - 100),
}
LAYOUTS = {
    "plain": {},
    "compressed": {"compression": "zlib"},
    "page by page": {"contiguous": False, "rowsperstrip": 16},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_raw_file_that_is_harmed_midway_is_named_and_once_back_nothing_shows(
    tmp_path, layout, damage
):
    image = np.random.default_rng(0).integers(1, 999, (3, 64, 90)).astype(np.uint16)
    raw = tmp_path / "raw.tif"
    tifffile.imwrite(raw, image, photometric="minisblack", metadata=None, **LAYOUTS[layout])
    whole = raw.read_bytes()
    acquired = scenes.acquisition(raw, axes="tyx", voxel_size_um={"y": 1, "x": 1})
    task = scenes.ingest_task(acquired)

    def harming(work):
        work(work.missing()[:1])
        DAMAGES[damage](raw)
        scenes.here(work)

    receipt = tmp_path / "ingest" / "dish.json"
    with pytest.raises(OSError, match=r"raw\.tif cannot be read.*put it back whole and run again"):
        ingest.ingest(receipt, task, harming)
    assert not receipt.exists()
    raw.write_bytes(whole)
    ingest.ingest(receipt, task, scenes.here)
    volume = volumes.open_volume(receipt.with_suffix(".ome.zarr"))
    assert (volumes.open_level(volume.store, 0)[:, 0] == image).all()


@pytest.mark.parametrize("length", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_raw_file_that_was_cut_before_is_called_so(tmp_path, layout, length):
    image = np.random.default_rng(0).integers(1, 999, (9, 64, 90)).astype(np.uint16)
    raw = tmp_path / "raw.tif"
    tifffile.imwrite(raw, image, photometric="minisblack", metadata=None, **LAYOUTS[layout])
    os.truncate(raw, int(raw.stat().st_size * length))
    with pytest.raises(ValueError, match=r"raw\.tif is (truncated|no readable TIFF)"):
        formats.header(raw, "0")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_never_gets_as_far_as_predict(tmp_path, value):
    image = np.ones((70, 80), np.float32)
    image[66, 5] = value
    with pytest.raises(ValueError, match=r"no numbers .*between \(0, 64, 0\)"):
        Results.of(tmp_path / "results", image, "yx")
    assert not list(tmp_path.rglob("*.ome.zarr"))


# --- images -------------------------------------------------------------------------------------

FLAT = {
    "zeros": np.zeros((70, 80), np.uint16),
    "saturated": np.full((70, 80), 65535, np.uint16),
    "one, of floats": np.ones((70, 80), np.float32),
    "negative": np.full((70, 80), -7, np.int16),
    "largest float": np.full((70, 80), 3e38, np.float32),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", FLAT)
def test_a_flat_image_has_no_objects_a_valid_store_and_an_empty_table(tmp_path, name):
    results = Results.of(tmp_path / "results", FLAT[name], "yx")
    facts = results.predict()
    assert (facts["objects"], facts["objects_per_frame"], facts["orphans"]) == (0, [0], 0)
    assert not results.labels().any()
    opened = zarr.open_group(results.store / "labels" / "bright", mode="r")
    checked = ome_zarr_models.open_ome_zarr(opened)
    assert type(checked).__module__ == "ome_zarr_models.v05.image_label"
    table = volumes.read_table(results.store, "bright")
    assert len(table) == 0
    assert {"t", "y", "x", "voxels", "mean_channel_0"} <= set(table)
    assert table.index.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float64])
def test_the_same_objects_are_found_however_large_the_numbers(tmp_path, dtype):
    image, _ = scenes.simulated("yx", (70, 80), 4.0, 9)
    plain = Results.of(tmp_path / "plain", image, "yx")
    lifted = Results.of(tmp_path / "lifted", image.astype(dtype) + dtype(2**31 - 2**17), "yx")
    assert lifted.predict()["objects"] == plain.predict()["objects"] > 0
    assert (lifted.labels() == plain.labels()).all()


def flooded():
    """One object over everything but a stripe, which tells what is dark; 17 diameters wide."""
    image = np.full((96, 140), 1000, np.uint16)
    image[:, -6:] = 0
    return image


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_object_over_everything_is_cut_to_the_reach_and_tiled_equals_whole(tmp_path):
    side = {"yx": [192, 192], "zyx": [8, 64, 64]}
    whole = Results.of(tmp_path / "whole", flooded(), "yx", chunk_voxels=side, shard_voxels=side)
    facts = whole.predict(tile_voxels=side)
    tiled = Results.of(tmp_path / "tiled", flooded(), "yx")
    assert tiled.predict()["objects"] == facts["objects"] > 0
    assert (tiled.labels() == whole.labels()).all()

    diameter = tuple(DIAMETER_UM / size for size in VOXEL_UM)
    shape = distances.geometry(diameter, 0.15, (7.0, 7.0), 0)
    table = volumes.read_table(whole.store, "bright")
    for axis, reach, catch in zip("yx", shape.reach, shape.catch, strict=True):
        width = table[f"last_{axis}"] - table[f"first_{axis}"] + 1
        assert (width <= 2 * (reach + catch) + 1).all()
