"""A volume of other voxels is seen at the model's, and labelled at its own."""

import numpy as np
import pytest
import scenes

from pipeline import ingest, resample, volumes
from pipeline import view as views
from pipeline.tiles import Box


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view")
    image, _ = scenes.simulated("yx", (61, 75), 4.0, 12)
    receipt = folder / "ingest" / "sample.json"
    ingest.ingest(
        receipt, scenes.ingest_task(scenes.write(folder / "r.tif", image, "yx")), scenes.here
    )
    return volumes.open_volume(receipt.with_suffix(".ome.zarr"))


def test_voxels_within_a_tenth_are_read_as_they_are(volume):
    view = views.view(volume, "channel_0", (0.52, 0.48))
    assert (view.level.number, view.resampled, view.shape) == (0, False, (61, 75))
    assert view.lattice.same


def test_a_coarser_level_is_taken_where_it_fits(volume):
    view = views.view(volume, "channel_0", (1.0, 1.0))
    assert (view.level.number, view.resampled) == (1, False)
    assert view.lattice.step == (2.0, 2.0)


def test_other_voxels_are_interpolated_from_the_nearest_level(volume):
    view = views.view(volume, "channel_0", (0.65, 0.65))
    assert (view.level.number, view.step) == (0, (1.3, 1.3))
    assert view.shape == (47, 58)
    seen = view.read(Box((0, 0), view.shape), 0)
    image = volume.normalised(0, Box((0, 0), (61, 75)), 0, 0)
    places = [resample.centres_in_fine(0, n, 1.3) for n in view.shape]
    expected = resample.interpolated(image, Box((0, 0), (61, 75)), tuple(places), (61, 75))
    assert np.array_equal(seen, expected)


def test_any_box_holds_what_the_whole_holds_mirrored_beyond_the_edges(volume):
    view = views.view(volume, "channel_0", (0.65, 0.65))
    whole = np.pad(view.read(Box((0, 0), view.shape), 0), 9, "symmetric")
    box = Box((-9, 40), (20, 58 + 9))
    assert np.array_equal(view.read(box, 0), whole[0 : 9 + 20, 9 + 40 :])


def test_what_no_level_comes_near_is_refused(volume):
    with pytest.raises(ValueError, match=r"no level near the model's voxels of 0\.2 x 0\.2 um"):
        views.view(volume, "channel_0", (0.2, 0.2))


def test_a_model_of_volumes_is_refused_on_planes(volume):
    with pytest.raises(ValueError, match=r"has the spatial axes yx.*volumes with depth"):
        views.view(volume, "channel_0", (1.0, 0.5, 0.5))


@pytest.mark.parametrize("voxel_um", [0.5, 0.65])
def test_that_there_is_nothing_is_known_without_reading_and_true(tmp_path, voxel_um):
    image = np.zeros((100, 90), np.uint16)
    image[70:75, 10:20] = 300
    receipt = tmp_path / "ingest" / "sparse.json"
    acquired = scenes.write(tmp_path / "r.tif", image, "yx")
    ingest.ingest(receipt, scenes.ingest_task(acquired), scenes.here)
    view = views.view(
        volumes.open_volume(receipt.with_suffix(".ome.zarr")), "channel_0", (voxel_um, voxel_um)
    )
    said = {}
    for box in (Box((-8, -8), (20, 40)), Box((40, 0), (76, 30)), Box((10, 30), (40, 66))):
        said[box] = view.nothing(box, 0)
        if said[box] is not None:
            assert (view.read(box, 0) == np.float32(said[box])).all()
    assert None in said.values()
    assert len(set(said.values())) == 2
