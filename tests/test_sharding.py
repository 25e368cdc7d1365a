"""Laws of the bytes of shards: readers of Zarr read them, harm shows, coarser ones are exact."""

import dataclasses

import numpy as np
import pytest
import scenes
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import checksums, pyramid, sampling, sharding, shards, tiles, volumes
from pipeline.tiles import Level

CHUNK, SHARD = (3, 4, 5), (6, 8, 10)
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "uint64", "float32", "float64")


def level(shape):
    return Level(0, (1, 1, 1), shape, CHUNK, SHARD)


def values(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def written(folder, array, kind="image"):
    """A store with this array, shard by shard."""
    volumes.create(folder, [level(array.shape)], "zyx", array.dtype, kind)
    for box in tiles.boxes(array.shape, SHARD):
        volumes.write_shard(folder, level(array.shape), box, array[box.slices])
    return folder


@given(
    shape=st.tuples(st.integers(1, 13), st.integers(1, 17), st.integers(1, 21)),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["image", "labels"]),
)
@settings(max_examples=40, deadline=None)
def test_zarr_reads_the_very_voxels_of_any_shape_and_type(tmp_path_factory, shape, dtype, kind):
    array = values(shape, dtype)
    store = written(tmp_path_factory.mktemp("a") / "a.zarr", array, kind)
    assert (np.asarray(zarr.open_array(store / "0", mode="r")[:]) == array).all()


@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_shard_has_the_chunks_that_zarr_writes_in_another_order(tmp_path, dtype, kind):
    array = values(SHARD, dtype)
    store = written(tmp_path / "ours", array, kind)
    volumes.create(tmp_path / "zarrs", [level(SHARD)], "zyx", array.dtype, kind)
    zarr.open_array(tmp_path / "zarrs" / "0", mode="r+")[:] = array
    file = "0/c/0/0/0"
    ours, zarrs = ((store / file).read_bytes(), (tmp_path / "zarrs" / file).read_bytes())
    index = 16 * 8 + 4  # offset and size of 8 chunks, and a checksum
    places = np.frombuffer(zarrs[-index:-4], "<u8").reshape(8, 2).astype(int)
    assert ours[:-index] == b"".join(zarrs[a : a + size] for a, size in places)


@pytest.mark.parametrize("shape", [SHARD, (5, 3, 7)])
def test_any_flipped_bit_and_any_cut_changes_the_checksum(tmp_path, shape):
    array = values(shape, "uint16")
    path = written(tmp_path / "a", array) / "0/c/0/0/0"
    whole = path.read_bytes()
    codec = sharding.codec((tmp_path / "a/0/zarr.json").read_bytes())
    assert checksums.of(path) == codec.write(path, array)
    seen = {checksums.of(path)}
    for at in range(len(whole)):
        harmed = bytearray(whole)
        harmed[at] ^= 1 << at % 8
        path.write_bytes(harmed)
        seen.add(checksums.of(path))
        path.write_bytes(whole[:at])
        seen.add(checksums.of(path))
    assert len(seen) == 2 * len(whole) + 1


def test_a_first_chunk_or_an_index_that_does_not_read_back_shows(tmp_path):
    array = values(SHARD, "uint16")
    path = written(tmp_path / "a", array) / "0/c/0/0/0"
    codec = sharding.codec((tmp_path / "a/0/zarr.json").read_bytes())
    whole = path.read_bytes()
    assert codec.holds(path, array)
    for at in (9, len(whole) - 9):
        harmed = bytearray(whole)
        harmed[at] ^= 1
        path.write_bytes(harmed)
        assert not codec.holds(path, array)


def test_other_voxels_than_those_written_show(tmp_path):
    array = values(SHARD, "uint16")
    path = written(tmp_path / "a", array) / "0/c/0/0/0"
    codec = sharding.codec((tmp_path / "a/0/zarr.json").read_bytes())
    array[0, 0, 0] += 1
    assert not codec.holds(path, array)


@dataclasses.dataclass(frozen=True)
class Copied:
    """Fills boxes with those of an array."""

    array: np.ndarray
    by_families: bool

    def spent(self):
        return {"read_bytes": 0.0}

    def __call__(self, boxes, put):
        for box in boxes:
            put(box, self.array[box.slices], {})


SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))


@given(shape=SHAPES, spacing=st.sampled_from([1.0, 2.0, 5.0]), frames=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_shards_that_grow_in_memory_equal_those_read_back(tmp_path_factory, shape, spacing, frames):
    folder = tmp_path_factory.mktemp("a")
    voxel = {"z": spacing, "y": 1.0, "x": 1.0}
    array = values((frames, *shape), "uint16")
    levels = tiles.pyramid("tzyx", array.shape, voxel, (4, 8, 8), (8, 16, 16), 8)
    for grown in (False, True):
        store = folder / f"{grown}"
        shards.begin(store, {"hash": "0"}, levels, "tzyx", "uint16", "image")
        work = shards.Shards(store, levels, "0", (), Copied(array, grown), "mean")
        shards.complete(work, scenes.here, 8)
    assert scenes.snapshot(folder / "False") == scenes.snapshot(folder / "True")


def test_a_family_that_is_not_whole_has_no_parent_in_memory():
    levels = tiles.pyramid("yx", (64, 64), {"y": 1.0, "x": 1.0}, (8, 8), (16, 16), 8)
    boxes = list(tiles.boxes((64, 64), (16, 16)))
    whole = pyramid.families(levels, boxes)
    assert [len(family.children) for family in whole] == [4] * 4
    assert all(family.parent for family in whole)
    parents = [family.parent for family in pyramid.families(levels, boxes[1:])]
    assert [parent is None for parent in parents] == [True, False, False, False]


@given(
    values=st.integers(-(2**15), 2**15 - 1).flatmap(
        lambda low: st.lists(st.integers(low, 2**15 - 1), min_size=8, max_size=8)
    )
)
def test_a_mean_of_integers_is_rounded_half_up(values):
    block = np.array(values, np.int16).reshape(2, 2, 2)
    [mean] = sampling.block_mean(block, (2, 2, 2)).ravel()
    assert mean == np.floor(sum(values) / 8 + 0.5)
