"""N5 as Fiji and BigDataViewer write it: axes turned round, sizes in um, the finest level alone."""

import json

import numpy as np
import pytest
import scenes

from pipeline import formats, ingest, readers, volumes
from pipeline.tiles import Box

tensorstore = pytest.importorskip("tensorstore", reason="the extra n5 is not installed")
STACK = np.random.default_rng(0).integers(0, 4000, (5, 23, 31), np.uint16)


def attributes(folder, **told):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "attributes.json"
    held = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(held | told))


def data_set(folder, array, compression="gzip", **told):
    """Write an array of axes slowest first; N5 counts them from the fastest."""
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": str(folder)},
        "metadata": {
            "dimensions": list(array.shape[::-1]),
            "blockSize": [8] * array.ndim,
            "dataType": array.dtype.name,
            "compression": {"type": compression},
        },
    }
    tensorstore.open(spec, create=True).result().write(array.T).result()
    attributes(folder, **told)
    return folder


def container(path):
    attributes(path, n5="2.5.1")
    return path


NM = {"unit": "nm", "dimensions": [200.0, 250.0, 1000.0]}
UM = {"z": 1.0, "y": 0.25, "x": 0.2}
CONVENTIONS = {
    "n5-viewer": {"pixelResolution": NM},
    "resolution and units": {"resolution": [0.2, 0.25, 1.0], "units": ["um"] * 3},
    "axes": {"axes": ["x", "y", "z"], "resolution": [0.2, 0.25, 1.0], "units": ["um"] * 3},
    "ImageJ": {
        "numChannels": 1, "numSlices": 5, "numFrames": 1, "pixelUnit": "micron",
        "pixelWidth": 0.2, "pixelHeight": 0.25, "pixelDepth": 1.0,
    },
    "COSEM": {
        "transform": {
            "axes": ["z", "y", "x"], "units": ["nm"] * 3,
            "scale": [1000, 250, 200], "translate": [0, 0, 0],
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("told", CONVENTIONS.values(), ids=CONVENTIONS)
def test_a_volume_has_the_voxels_and_sizes_of_the_data_set(tmp_path, told):
    path = container(tmp_path / "a.n5")
    data_set(path / "raw", STACK, **told)
    ingest.ingest(
        tmp_path / "a.json", scenes.ingest_task(scenes.acquisition(path, series="raw")), scenes.here
    )
    volume = volumes.open_volume(tmp_path / "a.ome.zarr")
    assert (np.asarray(volumes.open_level(volume.store, 0)[0]) == STACK).all()
    assert volume.voxel_size_um == pytest.approx(UM)


@pytest.mark.parametrize("compression", ["raw", "gzip", "bzip2", "xz", "zstd", "blosc"])
def test_blocks_of_any_compression_are_read_where_they_are_asked(tmp_path, compression):
    path = container(tmp_path / "a.n5")
    more = {"cname": "lz4", "clevel": 5, "shuffle": 1} if compression == "blosc" else {}
    spec = {"type": compression, **more}
    folder = path / "raw"
    whole = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": str(folder)},
        "metadata": {
            "dimensions": [31, 23, 5], "blockSize": [8, 8, 2],
            "dataType": "uint16", "compression": spec,
        },
    }  # fmt: skip
    tensorstore.open(whole, create=True).result().write(STACK.T).result()
    source = readers.source("a", scenes.acquisition(path, axes="zyx", voxel_size_um=scenes.VOXEL))
    for block in (folder / "0").rglob("*"):
        # Nothing of the first columns is asked for: no block of theirs is opened.
        if block.is_file():
            block.write_bytes(b"?")
    box = Box((0, 1, 3, 8), (1, 5, 20, 31))
    assert (source.read(box)[0] == STACK[1:5, 3:20, 8:31]).all()
    with pytest.raises(OSError, match="It is damaged, or was changed"):
        source.read(Box((0, 1, 3, 0), (1, 5, 20, 31)))


def test_of_a_pyramid_the_finest_level_is_the_image(tmp_path):
    path = container(tmp_path / "bdv.n5")
    for setup in range(2):
        group = path / f"setup{setup}"
        attributes(group, downsamplingFactors=[[1, 1, 1], [2, 2, 1]], dataType="uint16")
        for time in range(2):
            levels = group / f"timepoint{time}"
            attributes(levels, multiScale=True, resolution=[0.2, 0.25, 1.0])
            data_set(levels / "s0", STACK + 10 * setup + time)
            data_set(levels / "s1", STACK[:, ::2, ::2], downsamplingFactors=[2, 2, 1])
    names = formats.of(path).series(path)
    assert names == [f"setup{s}/timepoint{t}/s0" for s in range(2) for t in range(2)]
    said = formats.header(path, names[3])
    assert (said.axes, said.shape) == ("zyx", STACK.shape)
    # BigDataViewer keeps the unit elsewhere, in its XML.
    assert said.voxel_size_um == {}
    given = {"series": names[3], "voxel_size_um": scenes.VOXEL}
    source = readers.source("a", scenes.acquisition(path, **given))
    assert (source.read(Box((0, 0, 0, 0), (1, *STACK.shape)))[0] == STACK + 11).all()


def test_a_level_that_is_coarser_says_how_much(tmp_path):
    path = container(tmp_path / "a.n5")
    data_set(path / "c0" / "s1", STACK, pixelResolution=NM, downsamplingFactors=[2, 2, 1])
    said = formats.header(path, "c0/s1")
    assert said.voxel_size_um == pytest.approx({"z": 1.0, "y": 0.5, "x": 0.4})


def test_a_hyperstack_of_imagej_has_its_axes(tmp_path):
    path = container(tmp_path / "a.n5")
    array = np.arange(2 * 3 * 4 * 6 * 7, dtype=np.uint16).reshape(2, 3, 4, 6, 7)
    told = {"numChannels": 4, "numSlices": 3, "numFrames": 2, "frameInterval": 30.0}
    told |= {"pixelWidth": 0.2, "pixelHeight": 0.25, "pixelDepth": 1.0, "pixelUnit": "um"}
    data_set(path / "movie", array, **told)
    source = readers.source("a", scenes.acquisition(path))
    assert (source.axes, source.shape, source.time_step_s) == ("tczyx", (2, 4, 3, 6, 7), 30.0)
    whole = source.read(Box((0,) * 5, source.shape))
    assert (whole == array.transpose(0, 2, 1, 3, 4)).all()


def test_the_place_of_the_first_voxel_is_told(tmp_path):
    path = container(tmp_path / "a.n5")
    transform = CONVENTIONS["COSEM"]["transform"] | {"translate": [5000, 100, -200]}
    data_set(path / "raw", STACK, transform=transform)
    assert formats.header(path, "raw").position_um == pytest.approx({"z": 5, "y": 0.1, "x": -0.2})


def test_axes_that_nothing_names_are_asked_for(tmp_path):
    path = container(tmp_path / "a.n5")
    data_set(path / "raw", STACK)
    with pytest.raises(ValueError, match=r"Add the line `axes: \.\.\.`"):
        readers.source("a", scenes.acquisition(path))


def test_a_data_set_may_be_named_by_its_own_folder(tmp_path):
    folder = data_set(container(tmp_path / "a.n5") / "raw", STACK, pixelResolution=NM)
    assert formats.of(folder).series(folder) == ["array"]
    assert formats.header(folder, "array").shape == STACK.shape


def test_a_container_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        readers.source("a", scenes.acquisition(container(tmp_path / "a.n5")))


def test_attributes_that_are_torn_are_named(tmp_path):
    (container(tmp_path / "a.n5") / "attributes.json").write_text("{")
    with pytest.raises(ValueError, match=r"attributes\.json is no readable JSON"):
        readers.source("a", scenes.acquisition(tmp_path / "a.n5"))


def test_without_its_reader_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install '\.\[n5\]'"):
        readers.source("a", scenes.acquisition(container(tmp_path / "a.n5")))
