"""Volumes, labels and tables stand before validators and readers that others wrote."""

import json

import ngio
import numpy as np
import ome_zarr_models
import pytest
import scenes
import tifffile
import yaozarrs
import zarr
from yaozarrs import v05

PLACE_UM = 3.5
KINDS = {
    "2-D": ("yx", (70, 83), "nuclei_2d"),
    "2-D+t": ("tyx", (2, 70, 83), "nuclei_2d"),
    "3-D": ("zyx", (12, 45, 51), "nuclei_3d"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def volume(request, tmp_path_factory):
    """A volume with a place and a colour, and with labels and a table beside it."""
    axes, shape, base = KINDS[request.param]
    folder = tmp_path_factory.mktemp("volume")
    image, _ = scenes.simulated(axes, shape, 5.0, 12)
    planes = int(np.prod(shape[:-2]))
    told = {
        "axes": axes.upper(),
        "Channel": {"Name": ["DNA"], "Color": [0x00FF00FF]},
        "Plane": {"PositionX": [PLACE_UM] * planes, "PositionXUnit": ["µm"] * planes},
        "TimeIncrement": 30.0,
        **{f"PhysicalSize{axis.upper()}": scenes.VOXEL[axis] for axis in axes if axis != "t"},
    }
    tifffile.imwrite(folder / "a.ome.tif", image, photometric="minisblack", metadata=told)
    return scenes.predicted(folder, scenes.acquisition(folder / "a.ome.tif"), base)


def test_yaozarrs_finds_images_labels_and_all_their_arrays_valid(volume):
    image = yaozarrs.validate_zarr_store(str(volume.store))
    assert isinstance(image.ome_metadata(), v05.Image)
    held = yaozarrs.validate_zarr_store(str(volume.store / "labels"))
    assert held.ome_metadata().labels == ["nuclei"]
    labels = yaozarrs.validate_zarr_store(str(volume.store / "labels" / "nuclei"))
    assert isinstance(labels.ome_metadata(), v05.LabelImage)


def test_yaozarrs_sees_a_level_that_is_not_there(volume, tmp_path):
    """The validator looks at arrays, not at metadata alone."""
    broken = tmp_path / "broken.ome.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_bytes((volume.store / "zarr.json").read_bytes())
    with pytest.raises(ValueError, match="not found"):
        yaozarrs.validate_zarr_store(str(broken))


def test_ome_zarr_models_finds_the_same_valid(volume):
    for path in ("", "labels", "labels/nuclei"):
        group = zarr.open_group(volume.store / path, mode="r")
        assert type(ome_zarr_models.open_ome_zarr(group)).__module__.startswith(
            "ome_zarr_models.v05"
        )


def test_tables_beside_labels_are_named_and_open_in_ngio(volume):
    described = json.loads((volume.store / "tables" / "zarr.json").read_text())
    assert described["attributes"]["tables"] == ["nuclei"]
    container = ngio.open_ome_zarr_container(str(volume.store))
    found = np.unique(container.get_label("nuclei").get_as_numpy())
    assert sorted(container.get_table("nuclei").dataframe.index) == found[found > 0].tolist()


def test_a_validator_reads_the_place_and_the_colour(volume):
    image = yaozarrs.validate_zarr_store(str(volume.store)).ome_metadata()
    scale, shift = image.multiscales[0].datasets[0].coordinateTransformations
    assert scale.scale[-1] == scenes.VOXEL["x"]
    assert shift.translation[-1] == PLACE_UM
    [channel] = image.omero.channels
    assert (channel.label, channel.color) == ("DNA", "00FF00")
