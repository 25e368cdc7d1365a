"""What a file says that cannot be: the right thing comes out, or the line to add is named."""

import math

import h5py
import mrcfile
import numpy as np
import pytest
import samples
import scenes
import tifffile
import zarr

from pipeline import ingest, inspect, readers, volumes

LINE = "Add the line `voxel_size_um: {y: ..., x: ...}`"
PIXEL = {"y": 0.5, "x": 0.5}


def refused(path, **given):
    with pytest.raises(ValueError, match=r"^acquisitions\.a\.") as fault:
        readers.source("a", scenes.acquisition(path, **given))
    return str(fault.value)


def ome(path, **told):
    tifffile.imwrite(path, np.zeros((8, 9), np.uint8), metadata={"axes": "YX"} | told)
    return path


def imagej(path, unit, resolution=(4.0, 4.0), **told):
    metadata = {"axes": "ZYX", "unit": unit} | told
    array = np.zeros((3, 8, 9), np.uint8)
    tifffile.imwrite(path, array, imagej=True, resolution=resolution, metadata=metadata)
    return path


@pytest.mark.parametrize("size", [-0.5, 4e13])
def test_a_size_that_no_microscope_records_is_shown(tmp_path, size):
    said = refused(ome(tmp_path / "a.ome.tif", PhysicalSizeX=size, PhysicalSizeY=0.5))
    assert f"the file says {{'x': {size}}} um, which no microscope records" in said
    assert LINE in said


@pytest.mark.parametrize("size", [0.0, math.nan, math.inf, "wide"])
def test_a_size_that_says_nothing_is_asked_for(tmp_path, size):
    said = refused(ome(tmp_path / "a.ome.tif", PhysicalSizeX=size, PhysicalSizeY=0.5))
    assert f"nothing says how large a voxel is along x. {LINE}" in said


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "inch"])
def test_a_size_in_no_unit_of_length_is_asked_for(tmp_path, unit):
    told = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    units = {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    said = refused(ome(tmp_path / "a.ome.tif", **told, **units))
    assert f"nothing says how large a voxel is along y, x. {LINE}" in said


def test_a_size_of_an_electron_microscope_in_ten_thousands_of_kilometres_is_refused(tmp_path):
    told = {"PhysicalSizeX": 4e16, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}
    assert "which no microscope records" in refused(ome(tmp_path / "a.ome.tif", **told))


@pytest.mark.parametrize("unit", ["pixel", "pixels", "inch", ""])
def test_imagej_counts_in_pixels_or_prints_in_inches(tmp_path, unit):
    said = refused(imagej(tmp_path / "a.tif", unit))
    assert "nothing says how large a voxel is along z, y, x" in said


def test_planes_that_imagej_counts_downwards_are_shown(tmp_path):
    said = refused(imagej(tmp_path / "a.tif", "um", spacing=-0.7))
    assert "the file says {'z': -0.7} um" in said
    assert "Add the line `voxel_size_um: {z: ..., y: ..., x: ...}`" in said


def test_what_settings_say_goes_before_what_cannot_be(tmp_path):
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeX=-1.0, PhysicalSizeY=0.5)
    source = readers.source("a", scenes.acquisition(path, voxel_size_um=PIXEL))
    assert source.voxel_size_um == PIXEL


@pytest.mark.parametrize("size", [(0.0, 0.5), (-1.0, 0.5), (math.nan, 0.5), (1, 2, 3, 4), "wide"])
def test_sizes_of_hdf5_that_cannot_be_name_the_line(tmp_path, size):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=np.zeros((8, 9), np.uint8))
        file["raw"].attrs["element_size_um"] = size
    assert LINE in refused(tmp_path / "a.h5")


@pytest.mark.parametrize("size", [0.0, -200.0])
def test_sizes_of_ome_zarr_that_cannot_be_name_the_line(tmp_path, size):
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("0", data=np.zeros((8, 9), np.uint8))
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [size, 200.0]}]
    dataset = {"path": "0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    assert LINE in refused(tmp_path / "a.zarr")


@pytest.mark.parametrize("step", [0.0, -2.0, math.nan])
def test_a_time_step_that_cannot_be_counts_as_none(tmp_path, step):
    path = tmp_path / "a.ome.tif"
    told = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "TimeIncrement": step}
    tifffile.imwrite(path, np.zeros((3, 8, 9), np.uint8), metadata=told)
    assert readers.source("a", scenes.acquisition(path)).time_step_s is None


def test_xml_that_is_torn_leaves_voxels_that_are_there(tmp_path):
    path = ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.5, PhysicalSizeY=0.5)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"</Pixels>", b"<<<<<<<<<"))
    assert LINE in refused(path)


def level_0(folder, path, **given):
    task = scenes.ingest_task(scenes.acquisition(path, **given))
    ingest.ingest(folder / "out" / "a.json", task, scenes.here)
    store = folder / "out" / "a.ome.zarr"
    return np.asarray(volumes.open_level(store, 0)[0]), volumes.attributes(store)["ome"]["omero"]


TYPES = ("int8", "int16", "int32", "uint32", "float32", "float64")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("write", ["tiff", "hdf5", "zarr"])
def test_signed_wide_and_big_endian_voxels_are_exact(tmp_path, dtype, order, write):
    kind = np.dtype(dtype).newbyteorder(order)
    array = (np.random.default_rng(0).standard_normal((20, 24)) * 100).astype(kind)
    path, given = tmp_path / "a.tif", {"axes": "yx", "voxel_size_um": PIXEL}
    if write == "tiff":
        tifffile.imwrite(path, array, byteorder=order)
    elif write == "hdf5":
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            file["raw"] = array
    else:
        path = tmp_path / "a.zarr"
        zarr.create_array(path, data=array, zarr_format=2)
    read, _ = level_0(tmp_path, path, **given)
    assert read.dtype == np.dtype(dtype)
    assert (read == array).all()


def test_big_endian_mrc_is_exact(tmp_path):
    array = np.random.default_rng(0).integers(-999, 999, (3, 20, 24)).astype(np.int16)
    path = tmp_path / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(array.astype(">i2"))
        file.set_volume()
        file.voxel_size = 5000.0
    assert path.read_bytes()[212:214] == b"\x11\x11"
    assert (level_0(tmp_path, path)[0] == array).all()


def test_twelve_bits_in_sixteen_stay_as_they_are(tmp_path):
    array = np.random.default_rng(0).integers(0, 4096, (20, 24)).astype(np.uint16)
    array[3, 4] = 4095
    tifffile.imwrite(tmp_path / "a.tif", array)
    read, omero = level_0(tmp_path, tmp_path / "a.tif", voxel_size_um=PIXEL)
    assert (read == array).all()
    [channel] = omero["channels"]
    assert channel["window"]["end"] <= 4095
    packed = samples.packed_tiff(tmp_path)
    assert (level_0(tmp_path, packed.path, voxel_size_um=PIXEL)[0] == packed.array).all()


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_what_is_no_intensity_is_named(tmp_path, dtype):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((8, 9), dtype))
    said = refused(tmp_path / "a.zarr", axes="yx", voxel_size_um=PIXEL)
    assert f"voxels of type {dtype} are no intensities" in said


@pytest.mark.parametrize(
    ("names", "shape", "line"),
    [
        (None, (3, 8, 9), "zyx"),
        (None, (2, 3, 8, 9), "czyx"),
        (["t", "wavelength", "z", "y", "x"], (2, 4, 3, 8, 9), "tczyx"),
        (["wavelength", "y", "x"], (4, 8, 9), "zyx"),
    ],
)
def test_axes_that_are_likely_are_proposed(tmp_path, names, shape, line):
    array = np.zeros(shape, np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=array, dimension_names=names)
    assert f"such as `axes: {line}`" in refused(tmp_path / "a.zarr", voxel_size_um=scenes.VOXEL)
    given = {"axes": line, "voxel_size_um": scenes.VOXEL}
    assert readers.source("a", scenes.acquisition(tmp_path / "a.zarr", **given)).shape[-1] == 9


def test_a_section_in_depth_is_told_to_lie_in_the_plane(tmp_path):
    array = np.random.default_rng(0).integers(0, 99, (4, 8, 9)).astype(np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=array, dimension_names=["t", "z", "x"])
    assert "add the line `axes: tyx`" in refused(tmp_path / "a.zarr")
    read, _ = level_0(tmp_path, tmp_path / "a.zarr", axes="tyx", voxel_size_um=PIXEL)
    assert (read == array[0]).all()


def test_inspect_tells_colours_and_the_place(tmp_path):
    told = {"axes": "CYX", "Channel": {"Name": ["a", "b"], "Color": [0x00FF00FF, 0xFF]}}
    told |= {"Plane": {"PositionX": [3.5] * 2, "PositionXUnit": ["nm"] * 2}}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 8, 9), np.uint8), metadata=told)
    settings = scenes.ingest_task(scenes.acquisition("none")).ingest
    said = inspect.inspect(str(tmp_path / "a.ome.tif"), settings)
    assert "channels a, b, colours 00FF00, none, first voxel at x 0.0035 um" in said
