"""OME-TIFF spread over several files is one image, of which no file may lack unseen."""

import json

import numpy as np
import pytest
import samples
import scenes
import tifffile

from pipeline import formats, ingest, readers, volumes
from pipeline.tiles import Box


def ingested(folder, path):
    ingest.ingest(folder / "a.json", scenes.ingest_task(scenes.acquisition(path)), scenes.here)
    recipe = json.loads((folder / "a.json").read_text())["recipe"]
    return volumes.open_volume(folder / "a.ome.zarr"), recipe["inputs"]


def test_the_files_beside_the_one_named_are_read_too(tmp_path):
    written = samples.ome_tiff_files(tmp_path)
    volume, _ = ingested(tmp_path, written.path)
    assert (np.asarray(volumes.open_level(volume.store, 0)[:]) == written.array).all()
    source = readers.source("a", scenes.acquisition(tmp_path / "a_t1.ome.tif"))
    box = Box((1, 0, 1, 2, 3), (2, 2, 3, 20, 30))
    assert (source.read(box) == written.array[box.slices]).all()


def test_a_change_in_any_of_the_files_is_another_input(tmp_path):
    written = samples.ome_tiff_files(tmp_path)
    assert len(formats.TIFF.files(written.path, "0")) == 2
    _, before = ingested(tmp_path, written.path)
    content = bytearray((tmp_path / "a_t1.ome.tif").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a_t1.ome.tif").write_bytes(content)
    _, after = ingested(tmp_path, written.path)
    assert before != after


def test_a_file_that_lacks_is_named_and_not_taken_for_zeros(tmp_path):
    written = samples.ome_tiff_files(tmp_path)
    source = readers.source("a", scenes.acquisition(written.path))
    (tmp_path / "a_t1.ome.tif").unlink()
    with pytest.raises(ValueError, match=r"a_t1\.ome\.tif is not there"):
        readers.source("a", scenes.acquisition(written.path))
    with pytest.raises(OSError, match=r"a_t1\.ome\.tif is not there"):
        source.read(Box((1, 0, 0, 0, 0), (2, 1, 1, 8, 8)))


def test_planes_that_were_never_recorded_are_not_taken_for_zeros(tmp_path):
    written = samples.ome_tiff(tmp_path)
    with tifffile.TiffFile(written.path) as tiff:
        xml = tiff.ome_metadata
    promised = xml.replace('SizeT="2"', 'SizeT="3"').encode()
    content = written.path.read_bytes()
    assert len(promised) == len(xml.encode())
    written.path.write_bytes(content.replace(xml.encode(), promised))
    with pytest.raises(ValueError, match="planes that it does not hold"):
        readers.source("a", scenes.acquisition(written.path))


def test_a_part_that_another_file_describes_says_which(tmp_path):
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:2"/></OME>'
    )
    tifffile.imwrite(
        tmp_path / "a.ome.tif", np.zeros((8, 9), np.uint8), metadata=None, description=xml
    )
    with pytest.raises(ValueError, match=r"an image that a\.companion\.ome describes"):
        readers.source("a", scenes.acquisition(tmp_path / "a.ome.tif"))


def test_one_file_alone_has_none_beside_it(tmp_path):
    assert formats.TIFF.files(samples.ome_tiff(tmp_path).path, "0") == ()


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ("2024-05-06T07:08:09", "2024-05-06T07:08:09"),
        ("2024-05-06T07:08:09.123Z", "2024-05-06T07:08:09"),
        ("last week", ""),
    ],
)
def test_a_volume_knows_when_its_image_was_taken(tmp_path, told, taken):
    said = {"axes": "YX", "AcquisitionDate": told, "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0}
    image = np.zeros((20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata=said)
    assert ingested(tmp_path, tmp_path / "a.ome.tif")[0].acquired == taken
