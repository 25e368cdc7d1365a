"""Chunks that are kept give what the volume gives, within the memory they may take."""

import numpy as np
import pytest
import scenes
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ingest, receipts, volumes
from pipeline.chunks import Chunks
from pipeline.tiles import Box


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chunks")
    image = np.random.default_rng(0).integers(0, 999, (53, 47), np.uint16)
    acquired = scenes.write(folder / "raw.tif", image, "yx")
    task = scenes.ingest_task(
        acquired,
        chunk_voxels={"yx": [8, 16], "zyx": [1, 8, 16]},
        shard_voxels={"yx": [16, 32], "zyx": [1, 16, 32]},
    )
    receipt = folder / "ingest" / "a.json"
    ingest.ingest(receipt, task, scenes.here)
    return volumes.open_volume(receipts.result(receipt, "volume"))


class Counted:
    """A volume that counts how many voxels it decodes."""

    def __init__(self, volume):
        self.volume, self.levels, self.dtype, self.voxels = volume, volume.levels, volume.dtype, 0

    def read(self, number, box):
        self.voxels += int(np.prod(box.shape))
        return self.volume.read(number, box)


sides = st.tuples(st.integers(0, 52), st.integers(0, 46), st.integers(1, 30), st.integers(1, 30))


@settings(deadline=None)
@given(asked=st.lists(sides, min_size=1, max_size=6), most_bytes=st.sampled_from([0, 2000, 10**6]))
def test_what_is_read_is_what_the_volume_holds(volume, asked, most_bytes):
    chunks = Chunks(volume, most_bytes)
    for y, x, height, width in asked:
        box = Box((0, y, x), (1, min(53, y + height), min(47, x + width)))
        assert np.array_equal(chunks.read(0, box), volume.read(0, box))
        assert sum(values.nbytes for values in chunks.kept.values()) == chunks.bytes <= most_bytes


def test_a_row_of_overlapping_boxes_decodes_each_chunk_once(volume):
    counted = Counted(volume)
    chunks = Chunks(counted)
    for x in range(0, 40, 5):
        chunks.read(0, Box((0, 3, x), (1, 20, x + 7)))
    assert counted.voxels == 24 * 47
