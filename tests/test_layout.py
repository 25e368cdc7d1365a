"""How many files volumes and labels become, and of what size: laws of the shipped settings."""

import math
from pathlib import Path

import numpy as np
import pytest
import scenes
import tifffile

from pipeline import config, ingest, tiles, volumes

SETTINGS = config.load(Path(__file__).parents[1] / "config.yaml").ingest
CUBES = {"z": 1.0, "y": 1.0, "x": 1.0}


def volume(axes, shape, voxel):
    levels = tiles.pyramid(
        axes,
        shape,
        voxel,
        SETTINGS.chunk_voxels.of(axes),
        SETTINGS.shard_voxels.of(axes),
        SETTINGS.smallest_level_voxels,
        SETTINGS.shard_frames.of(axes),
    )
    return volumes.Volume(
        Path("a"), axes, levels, voxel, None, {}, ("a",), ((0, 1),), "", {"dtype": "uint16"}
    )


def per_terabyte(made, levels):
    terabytes = math.prod(made.levels[0].shape) * 2 / 1e12
    return sum(level.shards for level in levels) / terabytes


def test_a_terabyte_of_light_sheet_is_at_most_5000_files():
    made = volume("czyx", (1, 4096, 10240, 12288), CUBES)
    assert per_terabyte(made, made.levels) <= 5000


def test_a_terabyte_of_planar_movies_is_at_most_10000_files():
    made = volume("tcyx", (120, 2, 2048, 2048), CUBES)
    assert per_terabyte(made, made.levels) <= 10000


@pytest.mark.parametrize(
    ("axes", "shape"), [("czyx", (1, 4096, 10240, 12288)), ("tcyx", (120, 2, 2048, 2048))]
)
def test_a_shard_of_labels_is_one_frame_and_fits_in_a_job(axes, shape):
    made = volume(axes, shape, CUBES)
    for level in made.label_levels:
        assert math.prod(level.shard) * 8 <= 2**28
        assert all(s % c == 0 for s, c in zip(level.shard, level.chunk, strict=True))
        assert axes[0] != "t" or level.shard[0] == 1


def test_frames_share_a_shard_and_read_back_as_they_were(tmp_path):
    movie = np.random.default_rng(0).integers(0, 4000, (5, 2, 70, 45), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", movie, photometric="minisblack")
    acquired = scenes.acquisition(
        tmp_path / "a.tif", axes="tcyx", voxel_size_um={"y": 0.5, "x": 0.5}
    )
    task = scenes.ingest_task(acquired, shard_frames={"yx": 3, "zyx": 1})
    ingest.ingest(tmp_path / "made" / "a.json", task, scenes.here)
    made = volumes.open_volume(tmp_path / "made" / "a.ome.zarr")
    assert made.levels[0].shard == (3, 1, 32, 32)
    assert (np.asarray(volumes.open_level(made.store, 0)) == movie).all()
    assert [level.shape[0] for level in made.levels] == [5] * len(made.levels)
