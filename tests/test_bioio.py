"""Files of other endings are read by plugins of bioio, or a sentence says how they can be."""

import types

import imageio.v3
import numpy as np
import pytest
import scenes
import tifffile

from pipeline import formats_bioio, inspect, readers
from pipeline.tiles import Box

pytest.importorskip("bioio", reason="the extra bioio is not installed")
pytest.importorskip("bioio_imageio", reason="the plugin bioio-imageio is not installed")
PICTURE = np.random.default_rng(0).integers(0, 255, (20, 24), np.uint8)
PIXEL = {"y": 0.5, "x": 0.5}


def opened(path, **given):
    return readers.source("a", scenes.acquisition(path, **{"voxel_size_um": PIXEL} | given))


def test_a_greyscale_picture_has_its_pixels(tmp_path):
    imageio.v3.imwrite(tmp_path / "a.bmp", PICTURE)
    source = opened(tmp_path / "a.bmp")
    assert (source.form, source.axes, source.channels) == (
        formats_bioio.BIOIO.name, "cyx", ("channel_0",),
    )  # fmt: skip
    assert (source.read(Box((0, 3, 5), (1, 20, 20)))[0] == PICTURE[3:20, 5:20]).all()


def test_a_film_has_its_frames_and_colours(tmp_path):
    film = np.random.default_rng(0).integers(0, 2, (4, 20, 24, 3), np.uint8) * 255
    imageio.v3.imwrite(tmp_path / "a.gif", film)
    source = opened(tmp_path / "a.gif")
    assert (source.axes, source.shape) == ("tcyx", (4, 3, 20, 24))
    assert source.channels == ("red", "green", "blue")
    read = source.read(Box((1, 1, 0, 0), (3, 3, 20, 24)))
    assert (read == film[1:3, :, :, 1:].transpose(0, 3, 1, 2)).all()


def test_a_size_is_asked_for_where_a_plugin_tells_none(tmp_path):
    imageio.v3.imwrite(tmp_path / "a.bmp", PICTURE)
    with pytest.raises(ValueError, match="Add the line `voxel_size_um:"):
        readers.source("a", scenes.acquisition(tmp_path / "a.bmp"))


def test_a_damaged_file_is_named_in_one_sentence(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"^acquisitions\.a\.path: .*a\.gif is no readable") as no:
        opened(tmp_path / "a.gif")
    assert "bioio.plugins" not in str(no.value)


def test_inspect_tells_what_a_plugin_reads(tmp_path):
    imageio.v3.imwrite(tmp_path / "a.bmp", PICTURE)
    told = inspect.inspect(
        str(tmp_path / "a.bmp"), scenes.ingest_task(scenes.acquisition("")).ingest
    )
    assert "holds    y 20 x x 24, uint8, no voxel size" in told


def refused(path):
    path.write_bytes(b"?")
    with pytest.raises(ValueError, match="files of this kind cannot be read") as fault:
        readers.source("a", scenes.acquisition(path))
    return str(fault.value)


def test_what_no_plugin_reads_is_told_how_to_be_read(tmp_path):
    said = refused(tmp_path / "a.dm3")
    assert "pip install '.[bioio]' and bioio's plugin for .dm3" in said


def test_without_bioio_nothing_of_it_is_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(formats_bioio.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(formats_bioio.importlib, "import_module", lambda name: pytest.fail(name))
    assert "pip install '.[bioio]'" in refused(tmp_path / "a.gif")


def test_a_size_counts_where_a_plugin_tells_its_unit():
    base = pytest.importorskip("bioio_base")
    nothing = base.types.DimensionProperty(type=None, unit=None)
    sides = {"T": nothing, "C": nothing, "Z": nothing, "Y": nothing}
    sides["X"] = base.types.DimensionProperty(type="space", unit=base.types.ureg.nanometer)
    image = types.SimpleNamespace(
        physical_pixel_sizes=base.types.PhysicalPixelSizes(Z=None, Y=3.0, X=250.0),
        dimension_properties=base.types.DimensionProperties(**sides),
    )
    assert formats_bioio._sizes(image) == {"x": 0.25}


def test_scenes_and_names_come_through(tmp_path):
    """OME-TIFF is read by tifffile, but there is a plugin that reads it, too."""
    pytest.importorskip("bioio_ome_tiff", reason="the plugin bioio-ome-tiff is not installed")
    path = tmp_path / "a.ome.tif"
    array = np.random.default_rng(0).integers(0, 999, (3, 2, 20, 24), np.uint16)
    told = {
        "axes": "TCYX",
        "Channel": {"Name": ["DNA", "actin"]},
    }
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(array[:1], photometric="minisblack", metadata={"axes": "TCYX"})
        file.write(array, photometric="minisblack", metadata=told)
    names = formats_bioio.series(path)
    assert len(names) == 2
    said = formats_bioio.header(path, names[1])
    sides = dict(zip(said.axes, said.shape, strict=True))
    assert {axis: side for axis, side in sides.items() if side > 1} == {
        "t": 3, "c": 2, "y": 20, "x": 24,
    }  # fmt: skip
    assert said.channels == ("DNA", "actin")
    cut = {"t": slice(1, 3), "c": slice(1, 2), "y": slice(4, 9)}
    with formats_bioio.voxels(path, names[1]) as voxels:
        read = np.asarray(voxels[tuple(cut.get(axis, slice(None)) for axis in said.axes)])
    assert (read.squeeze() == array[1:3, 1, 4:9]).all()
