"""What microscopes and programs write becomes the same voxels, or one sentence says why not."""

import itertools

import h5py
import imagecodecs
import mrcfile
import numpy as np
import pytest
import scenes
import tifffile
import zarr

from pipeline import copying, formats, formats_planes, ingest, inspect, readers, tiles, volumes

STACK = np.random.default_rng(0).integers(0, 4000, (5, 23, 31), np.uint16)
VOXEL = {"z": 1.0, "y": 0.5, "x": 0.5}


def planes_of_tiff(folder):
    for z, plane in enumerate(STACK):
        tifffile.imwrite(folder / f"cells_z{z:04d}.tif", plane)
    return folder / "cells_z{z:04d}.tif", {"voxel_size_um": VOXEL}


def planes_of_compressed_tiff(folder):
    for z, plane in enumerate(STACK):
        tifffile.imwrite(folder / f"cells_z{z}.tif", plane, compression="zlib")
    return folder / "cells_z{z}.tif", {"voxel_size_um": VOXEL}


def planes_of_png(folder):
    for z, plane in enumerate(STACK):
        (folder / f"{z}.png").write_bytes(imagecodecs.png_encode(plane))
    return folder, {"axes": "zyx", "voxel_size_um": VOXEL}


def hdf5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        data = file.create_dataset("exported/raw", data=STACK, chunks=(2, 8, 8))
        data.attrs["element_size_um"] = [1.0, 0.5, 0.5]
        file["seconds"] = np.arange(3)
    return folder / "a.h5", {"axes": "zyx"}


def plain_zarr(folder):
    zarr.save_array(folder / "a.zarr", STACK)
    return folder / "a.zarr", {"axes": "zyx", "voxel_size_um": VOXEL}


def named_zarr(folder):
    array = zarr.create_array(
        folder / "a.zarr", shape=STACK.shape, dtype=STACK.dtype, dimension_names=["z", "y", "x"]
    )
    array[:] = STACK
    return folder / "a.zarr", {"voxel_size_um": VOXEL}


def ome_zarr_0_4(folder):
    group = zarr.create_group(folder / "a.ome.zarr", zarr_format=2)
    group.create_array("s0", data=STACK, chunks=(2, 8, 8))
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    scale = [{"type": "scale", "scale": [1000.0, 500.0, 500.0]}]
    dataset = {"path": "s0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    return folder / "a.ome.zarr", {}


def ome_zarr_0_5(folder):
    task = scenes.ingest_task(scenes.write(folder / "a.tif", STACK, "zyx"))
    ingest.ingest(folder / "a.json", task, scenes.here)
    return folder / "a.ome.zarr", {}


def mrc(folder):
    with mrcfile.new(folder / "a.mrc") as file:
        file.set_data(STACK)
        file.set_volume()
        file.voxel_size = (5000.0, 5000.0, 10000.0)
    return folder / "a.mrc", {}


def czi(folder):
    library = pytest.importorskip("pylibCZIrw.czi", reason="the extra czi is not installed")
    with library.create_czi(str(folder / "a.czi")) as file:
        for z, plane in enumerate(STACK):
            file.write(plane[..., np.newaxis], plane={"Z": z, "C": 0, "T": 0})
        file.write_metadata("a", scale_x=5e-7, scale_y=5e-7, scale_z=1e-6)
    return folder / "a.czi", {}


def series_of_tiff(folder):
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as file:
        file.write(STACK[:2, :9], metadata={"axes": "ZYX", "Name": "overview"})
        sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}
        file.write(STACK, metadata={"axes": "ZYX", "Name": "cells", **sizes})
    return folder / "a.ome.tif", {"series": "cells"}


WRITERS = (
    planes_of_tiff, planes_of_compressed_tiff, planes_of_png, hdf5, plain_zarr, named_zarr,
    ome_zarr_0_4, ome_zarr_0_5, mrc, czi, series_of_tiff,
)  # fmt: skip


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_volume_has_the_voxels_and_sizes_of_the_file(tmp_path, write):
    path, given = write(tmp_path)
    task = scenes.ingest_task(scenes.acquisition(path, **given))
    ingest.ingest(tmp_path / "made" / "volume.json", task, scenes.here)
    volume = volumes.open_volume(tmp_path / "made" / "volume.ome.zarr")
    assert volume.axes == "czyx"
    assert (np.asarray(volumes.open_level(volume.store, 0)[0]) == STACK).all()
    assert volume.voxel_size_um == pytest.approx(VOXEL)


def test_planes_are_found_by_all_their_numbers(tmp_path):
    for t, c, z in itertools.product(range(2), range(2), (3, 4, 7)):
        plane = np.full((8, 9), 100 * t + 10 * c + z, np.uint8)
        tifffile.imwrite(tmp_path / f"w{c + 1}_t{t:02d}_z{z:03d}.tif", plane)
    source = readers.source(
        "a",
        scenes.acquisition(tmp_path / "w{c}_t{t:02d}_z{z:03d}.tif", voxel_size_um=VOXEL),
    )
    assert (source.axes, source.shape) == ("tczyx", (2, 2, 3, 8, 9))
    read = source.read(formats_box((1, 0, 1, 2, 0), (2, 2, 3, 5, 9)))
    assert read[0, :, :, 0, 0].tolist() == [[104, 107], [114, 117]]


def test_a_compressed_plane_is_decoded_once_for_all_shards_it_reaches_over(tmp_path, monkeypatch):
    stack = np.random.default_rng(0).integers(0, 4000, (5, 70, 75), np.uint16)
    for z, plane in enumerate(stack):
        (tmp_path / f"{z}.png").write_bytes(imagecodecs.png_encode(plane))
    task = scenes.ingest_task(scenes.acquisition(tmp_path, axes="zyx", voxel_size_um=VOXEL))
    decoded, plane_of = [], formats_planes._plane

    def counted(path):
        decoded.append(path)
        return plane_of(path)

    monkeypatch.setattr(formats_planes, "_plane", counted)
    source = readers.source("a", task.acquisition)
    decoded.clear()
    copying.Copy(source)(list(tiles.boxes(source.shape, (1, 8, 32, 32))), lambda *_: None)
    # the first is looked at once more, to learn what can be had of a file
    assert len(decoded) == len(stack) + 1


def formats_box(start, stop):
    return readers.Box(start, stop)


def refused(path, **given):
    with pytest.raises(ValueError, match=r"^acquisitions\.a\.") as fault:
        readers.source("a", scenes.acquisition(path, **given))
    return str(fault.value)


def test_a_missing_plane_is_named(tmp_path):
    for t, z in [(0, 0), (0, 1), (1, 0)]:
        tifffile.imwrite(tmp_path / f"t{t}_z{z}.tif", np.zeros((8, 9), np.uint8))
    assert "there is no file for t 1, z 1" in refused(tmp_path / "t{t}_z{z}.tif")


def test_a_plane_of_another_size_is_named_when_it_is_read(tmp_path):
    for z in range(3):
        tifffile.imwrite(tmp_path / f"{z}.tif", np.zeros((8, 9 - z // 2), np.uint8))
    source = readers.source("a", scenes.acquisition(tmp_path / "{z}.tif", voxel_size_um=VOXEL))
    with pytest.raises(OSError, match=r"2\.tif has the sides \(8, 8\), unlike the first"):
        source.read(formats_box((0, 0, 0, 0), (1, 3, 8, 9)))


def test_a_folder_of_several_kinds_of_planes_asks_for_a_pattern(tmp_path):
    tifffile.imwrite(tmp_path / "1.tif", np.zeros((8, 9), np.uint8))
    (tmp_path / "1.png").write_bytes(imagecodecs.png_encode(np.zeros((8, 9), np.uint8)))
    assert "give a pattern" in refused(tmp_path)


def test_of_several_images_one_has_to_be_named(tmp_path):
    path, _ = series_of_tiff(tmp_path)
    assert "holds 2 images: overview, cells. Add the line `series: overview`" in refused(path)
    assert "holds overview, cells. Name one" in refused(path, series="cell")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.dm3", b"?", "Convert it to one of these"),
        ("a.h5", b"no HDF5", "is no readable HDF5 file"),
        ("a.tif", b"no TIFF", "is no readable TIFF"),
        ("a.png", b"no PNG", "is no readable image"),
        ("a.mrc", b"no MRC", "is no readable MRC file"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    assert sentence in refused(tmp_path / name)


OPTIONAL = [form for form in formats.ALL.values() if form.extra and form.endings]


@pytest.mark.parametrize("form", OPTIONAL, ids=lambda form: form.name)
def test_an_absent_reader_is_named_with_what_installs_it(tmp_path, monkeypatch, form):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda _: None)
    path = tmp_path / f"a{form.endings[0]}"
    path.write_bytes(b"")
    assert f"pip install '.[{form.extra}]'" in refused(path)


def test_colours_become_channels_of_their_names(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (12, 14, 3), np.uint8)
    for name, write in {
        "a.tif": lambda path: tifffile.imwrite(path, picture, photometric="rgb"),
        "a.png": lambda path: path.write_bytes(imagecodecs.png_encode(picture)),
    }.items():
        write(tmp_path / name)
        source = readers.source("a", scenes.acquisition(tmp_path / name, voxel_size_um=VOXEL))
        assert source.channels == ("red", "green", "blue")
        read = source.read(formats_box((0, 0, 0), source.shape))
        assert (read == picture.transpose(2, 0, 1)).all()


def test_inspect_says_what_ingest_would_make_and_what_is_missing(tmp_path):
    settings = scenes.ingest_task(scenes.acquisition("none")).ingest
    path, _ = series_of_tiff(tmp_path)
    told = inspect.inspect(str(path), settings)
    assert "holds    z 5 x y 23 x x 31, uint16, voxels of z 1 x y 0.5 x x 0.5 um" in told
    assert "becomes  c 1 x z 5 x y 23 x x 31, channels channel_0" in told
    assert "lacks    acquisitions.NAME.voxel_size_um: nothing says how large" in told
    assert 'series: "cells"' in told


def test_a_hundred_thousand_planes_are_listed_without_being_opened(tmp_path, monkeypatch):
    count = 100_000
    for z in range(count):
        (tmp_path / f"z{z:06d}.tif").touch()
    monkeypatch.setattr(formats_planes, "_plane", lambda _: pytest.fail("a plane was opened"))
    assert formats_planes.files(tmp_path / "z{z:06d}.tif").shape == (count,)
