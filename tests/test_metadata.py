"""Colours, positions and sizes that a file tells come through; what is absurd does not."""

import dataclasses
import math
import types
from typing import ClassVar

import ngio
import numpy as np
import ome_zarr_models
import pytest
import scenes
import tifffile
import zarr

from pipeline import formats, formats_czi, formats_vendors, headers, ingest, ngff, readers, volumes

PLACE = {"z": 40.0, "y": -7.25, "x": 3.5}
GREEN, MAGENTA = "00FF00", "FF00FF"


def signed(colour):
    """A colour as OME-XML has it: red, green, blue, alpha in a signed number of 32 bits."""
    value = int(f"{colour}FF", 16)
    return value - 2**32 if value >= 2**31 else value


def placed_tiff(path, shape=(2, 5, 40, 50), colours=(GREEN, MAGENTA), image=None, **given):
    """OME-TIFF of two channels that tells their colours, and where its first plane lies."""
    count = shape[0] * shape[1]
    unit = given.pop("unit", "µm")
    told = {
        "axes": "CZYX",
        "Channel": {"Name": ["DNA", "actin"], "Color": [signed(one) for one in colours]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
        "PhysicalSizeZ": 1.0,
        "Plane": {
            f"Position{axis.upper()}{suffix}": [value] * count
            for axis, place in PLACE.items()
            for suffix, value in (("", place), ("Unit", unit))
        },
    }
    image = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape) if image is None else image
    tifffile.imwrite(path, image, photometric="minisblack", metadata=told | given)
    return scenes.acquisition(path)


def ingested(folder, acquired, **given):
    receipt = folder / "ingest" / "sample.json"
    ingest.ingest(receipt, scenes.ingest_task(acquired, **given), scenes.here)
    return receipt


def transformations(store):
    [block] = volumes.attributes(store)["ome"]["multiscales"]
    steps = [level["coordinateTransformations"] for level in block["datasets"]]
    return [{step["type"]: step[step["type"]] for step in level} for level in steps]


def test_a_volume_has_the_colours_and_the_place_that_its_file_tells(tmp_path):
    receipt = ingested(tmp_path, placed_tiff(tmp_path / "a.ome.tif"))
    volume = volumes.open_volume(receipt.with_suffix(".ome.zarr"))
    channels = volumes.attributes(volume.store)["ome"]["omero"]["channels"]
    assert [channel["color"] for channel in channels] == [GREEN, MAGENTA]
    assert volume.position_um == PLACE
    first, second, *_ = transformations(volume.store)
    assert first == {"scale": [1.0, 1.0, 0.5, 0.5], "translation": [0.0, 40.0, -7.25, 3.5]}
    assert second == {"scale": [1.0, 1.0, 1.0, 1.0], "translation": [0.0, 40.0, -7.0, 3.75]}


def test_a_volume_without_a_place_says_none(tmp_path):
    acquired = scenes.write(tmp_path / "a.tif", np.ones((5, 40, 50), np.uint8), "zyx")
    receipt = ingested(tmp_path, acquired)
    volume = volumes.open_volume(receipt.with_suffix(".ome.zarr"))
    assert volume.position_um == {}
    assert "translation" not in transformations(volume.store)[0]


def test_channels_that_are_taken_keep_their_colours(tmp_path):
    acquired = placed_tiff(tmp_path / "a.ome.tif")
    taken = acquired.model_copy(update={"channels": ("actin",)})
    assert readers.source("a", taken).colours == (MAGENTA,)


def test_channels_without_a_colour_get_one_of_their_own():
    made = ngff.omero(["a", "b"], ["", MAGENTA], [(0, 1), (0, 1)], np.dtype(np.uint8))
    assert [channel["color"] for channel in made["channels"]] == [ngff.COLOURS[0], MAGENTA]
    made = ngff.omero(["a", "b"], [], [(0, 1), (0, 1)], np.dtype(np.uint8))
    assert [channel["color"] for channel in made["channels"]] == list(ngff.COLOURS[:2])


def test_a_volume_that_is_read_back_tells_the_same(tmp_path):
    receipt = ingested(tmp_path, placed_tiff(tmp_path / "a.ome.tif"))
    again = formats.header(receipt.with_suffix(".ome.zarr"), "image")
    assert again.colours == (GREEN, MAGENTA)
    assert again.position_um == PLACE


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A placed movie of nuclei, and what a base model makes of it as it is."""
    folder = tmp_path_factory.mktemp("predicted")
    image, _ = scenes.simulated("tyx", (2, 70, 83), 5.0, 15)
    told = {
        "axes": "TYX",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
        "Plane": {"PositionX": [3.5] * 2, "PositionXUnit": ["µm"] * 2},
    }
    tifffile.imwrite(folder / "a.ome.tif", image, photometric="minisblack", metadata=told)
    return scenes.predicted(folder, scenes.acquisition(folder / "a.ome.tif"), "nuclei_2d")


def test_labels_lie_on_their_image(predicted):
    image = transformations(predicted.store)
    labels = transformations(predicted.store / "labels" / "nuclei")
    assert image[0]["translation"] == [0.0, 0.0, 0.0, 3.5]
    assert labels[0] == {"scale": [1.0, 0.5, 0.5], "translation": [0.0, 0.0, 3.5]}
    # A coarse label is that of the first of the voxels it stands for.
    assert labels[1] == {"scale": [1.0, 1.0, 1.0], "translation": [0.0, 0.0, 3.5]}


def test_tables_count_from_the_first_voxel_wherever_that_lies(predicted):
    table = volumes.read_table(predicted.store, "nuclei")
    assert np.allclose(table["x_um"], table["x"] * 0.5)
    assert table["x_um"].max() < 83 * 0.5


def test_ngio_and_the_validator_take_placed_images_and_labels(predicted):
    for store in (predicted.store, predicted.store / "labels" / "nuclei"):
        ome_zarr_models.open_ome_zarr(zarr.open_group(store, mode="r"))
    container = ngio.open_ome_zarr_container(str(predicted.store))
    assert container.get_label("nuclei").pixel_size == container.get_image().pixel_size


@pytest.mark.parametrize("unit", ["reference frame", "pixel"])
def test_a_place_in_no_unit_of_length_is_no_place(tmp_path, unit):
    acquired = placed_tiff(tmp_path / "a.ome.tif", unit=unit)
    assert readers.source("a", acquired).position_um == {}


def test_a_place_is_turned_into_micrometres(tmp_path):
    acquired = placed_tiff(tmp_path / "a.ome.tif", unit="mm")
    found = readers.source("a", acquired).position_um
    assert found == {axis: 1000 * place for axis, place in PLACE.items()}


def test_black_and_the_schemas_own_white_are_no_colours(tmp_path):
    acquired = placed_tiff(tmp_path / "a.ome.tif", colours=("000000", MAGENTA))
    assert readers.source("a", acquired).colours == ("", MAGENTA)
    acquired = placed_tiff(tmp_path / "b.ome.tif", colours=("FFFFFF", "FFFFFF"))
    assert readers.source("a", acquired).colours == ()


@pytest.mark.parametrize(
    ("said", "colour"),
    [
        ("00ff00", "00FF00"), ("#FF7E00", "FF7E00"), ("#80FF7E00", "FF7E00"), ("000000", ""),
        ("green", ""), (None, ""), ("FFF", ""), (255, ""),
    ],
)  # fmt: skip
def test_a_colour_is_six_digits_or_none(said, colour):
    assert headers.colour(said) == colour


def test_colours_of_imagej_are_those_of_its_tables(tmp_path):
    ramp = np.arange(256, dtype=np.uint8)
    none = np.zeros(256, np.uint8)
    tables = [np.stack([none, ramp, none]), np.stack([ramp, none, ramp])]
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((2, 20, 24), np.uint16),
        imagej=True,
        metadata={"axes": "CYX", "mode": "composite", "LUTs": tables},
    )
    assert formats.header(tmp_path / "a.tif", "0").colours == (GREEN, MAGENTA)


def ome_zarr(path, dataset, whole=(), color="00ff00"):
    """OME-Zarr 0.4 of one channel with these transformations of its level and of the whole."""
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("0", data=np.zeros((1, 5, 6), np.uint8))
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "yx"]
    block = {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": list(dataset)}],
        "coordinateTransformations": list(whole),
    }
    omero = {"channels": [{"label": "DNA", "color": color}]}
    group.attrs.update({"multiscales": [block], "omero": omero})
    return path


def scale(*by):
    return {"type": "scale", "scale": list(by)}


def translation(*by):
    return {"type": "translation", "translation": list(by)}


def test_transformations_of_ome_zarr_follow_each_other(tmp_path):
    level = [scale(1, 100, 200), translation(0, 1000, 3000)]
    path = ome_zarr(tmp_path / "a.zarr", level, [scale(1, 2, 2), translation(0, 0, 500)])
    found = formats.header(path, "image")
    assert found.voxel_size_um == pytest.approx({"y": 0.2, "x": 0.4})
    assert found.position_um == pytest.approx({"y": 2.0, "x": 6.5})
    assert found.colours == (GREEN,)


def test_transformations_that_do_not_fit_the_axes_are_named(tmp_path):
    path = ome_zarr(tmp_path / "a.zarr", [scale(100, 200)])
    with pytest.raises(ValueError, match="not one number for each of the axes cyx"):
        formats.header(path, "image")


def test_a_place_that_is_no_number_counts_as_none(tmp_path):
    path = ome_zarr(tmp_path / "a.zarr", [scale(1, 100, 200), translation(0, math.nan, 3000)])
    assert formats.header(path, "image").position_um == {"x": 3.0}


def test_headers_are_silent_where_nothing_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8))
    silent = dataclasses.asdict(formats.header(tmp_path / "a.tif", "0"))
    assert (silent["colours"], silent["position_um"]) == ((), {})


def test_colours_of_czi_are_those_it_is_displayed_in(tmp_path):
    library = pytest.importorskip("pylibCZIrw.czi", reason="the extra czi is not installed")
    path = tmp_path / "a.czi"
    shown = {
        number: library.ChannelDisplaySettingsDataClass(
            True,
            library.TintingMode.Color,
            library.Rgb8Color(*(np.uint8(part) for part in bytes.fromhex(colour))),
            0.0,
            1.0,
        )
        for number, colour in enumerate((GREEN, MAGENTA))
    }
    with library.create_czi(str(path)) as file:
        for channel in range(2):
            file.write(np.zeros((8, 9, 1), np.uint8), plane={"C": channel})
        file.write_metadata("a", channel_names={0: "DNA", 1: "actin"}, display_settings=shown)
    said = formats.header(path, formats.of(path).series(path)[0])
    assert (said.channels, said.colours) == (("DNA", "actin"), (GREEN, MAGENTA))
    assert said.position_um == {}


def test_the_middle_of_a_scene_of_czi_tells_where_its_first_voxel_lies():
    scene = {"@Index": "1", "CenterPosition": "1000.0,-200.5"}
    said = {"Information": {"Image": {"Dimensions": {"S": {"Scenes": {"Scene": [scene]}}}}}}
    area = types.SimpleNamespace(w=5, h=3)
    voxel = {"y": 0.5, "x": 2.0}
    assert formats_czi._place(said, "scene_1", voxel, area) == {"y": -201.0, "x": 996.0}
    assert formats_czi._place(said, "scene_0", voxel, area) == {}
    scene["CenterPosition"] = "here"
    assert formats_czi._place(said, "scene_1", voxel, area) == {}


def test_the_label_of_the_stage_tells_the_place_where_no_plane_does(tmp_path):
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<StageLabel Name="B3" X="1.5" XUnit="mm" Y="-2" YUnit="mm" Z="7"/>'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="8" SizeZ="1" '
        'SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/><TiffData/></Pixels></Image></OME>'
    )
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((8, 9), np.uint8), metadata=None, description=xml)
    [name] = formats.of(path).series(path)
    assert formats.header(path, name).position_um == {"y": -2000.0, "x": 1500.0}


class Stage:
    """What nd2 gives of a file of two times at three positions, each of two planes."""

    sizes: ClassVar = {"T": 2, "P": 3, "Z": 2, "C": 1, "Y": 8, "X": 9}
    loop_indices: ClassVar = [
        {"T": t, "P": p, "Z": z} for t in range(2) for p in range(3) for z in range(2)
    ]

    def __init__(self, matrix):
        self.matrix = matrix

    def frame_metadata(self, number):
        place = types.SimpleNamespace(x=100.0 * self.loop_indices[number]["P"], y=50.0, z=math.nan)
        channel = types.SimpleNamespace(
            position=types.SimpleNamespace(stagePositionUm=place),
            volume=types.SimpleNamespace(pixelToStageTransformationMatrix=self.matrix),
        )
        return types.SimpleNamespace(channels=[channel])


def test_each_position_of_nd2_has_its_place_on_the_stage():
    turned = (-0.5, 0.0, 2.25, 0.0, 0.5, -2.0)
    found = formats_vendors._nd2_place(Stage(turned), "position_2")
    assert found == {"y": 48.0, "x": 202.25}
    assert formats_vendors._nd2_place(Stage(None), "position_1") == {"y": 50.0, "x": 100.0}
