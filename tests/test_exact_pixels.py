"""Laws of exact pixels: level 0 is the source bit for bit, and every level an exact mean of it."""

import numpy as np
import pytest
import scenes
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import ingest, volumes

TYPES = ("uint8", "int8", "uint16", ">i2", "uint32", "int32", "float32", "float64")
CUBES = {"z": 0.5, "y": 0.5, "x": 0.5}
SHAPE = (9, 37, 35)


def run(folder, acquired, **given):
    receipt = folder / "made" / "sample.json"
    ingest.ingest(receipt, scenes.ingest_task(acquired, **given), scenes.here)
    return volumes.open_volume(receipt.with_suffix(".ome.zarr"))


def level(volume, number):
    return np.asarray(volumes.open_level(volume.store, number)[:])


def whole_range(dtype, shape, seed=0):
    """Voxels of a type, its lowest and its highest number among them."""
    dtype, generator = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind == "f":
        # quarters, whose means of eight are exact
        values = generator.integers(-(2**15), 2**15, shape) / 4
    else:
        limits = np.iinfo(dtype)
        values = generator.integers(limits.min, limits.max, shape, np.int64, endpoint=True)
        values.flat[:2] = limits.min, limits.max
    return values.astype(dtype)


def block_means(fine, factors):
    """Means over blocks, integers rounded half up; cut blocks are means of what they have."""
    is_float = fine.dtype.kind == "f"
    sums, counts = fine.astype(np.float64 if is_float else np.int64), np.ones((), np.int64)
    for axis, (n, factor) in enumerate(zip(fine.shape, factors, strict=True)):
        starts = np.arange(0, n, factor)
        sums = np.add.reduceat(sums, starts, axis=axis)
        counts = counts[..., np.newaxis] * np.diff(np.append(starts, n))
    if is_float:
        return (sums / counts).astype(fine.dtype)
    return np.floor_divide(2 * sums + counts, 2 * counts).astype(fine.dtype)


def assert_levels_are_exact(volume):
    """Each level is the exact mean of the one below, and strays no further than its roundings."""
    assert len(volume.levels) > 1
    finest = level(volume, 0)
    for fine, coarse in zip(volume.levels, volume.levels[1:], strict=False):
        ratio = tuple(b // a for a, b in zip(fine.factors, coarse.factors, strict=True))
        found = level(volume, coarse.number)
        assert found.dtype == finest.dtype
        assert np.array_equal(found, block_means(level(volume, fine.number), ratio))
        full = tuple(slice(n // f) for n, f in zip(finest.shape, coarse.factors, strict=True))
        whole = tuple(slice(n // f * f) for n, f in zip(finest.shape, coarse.factors, strict=True))
        if finest.size and all(s.stop for s in full):
            mean = block_means(finest[whole].astype(np.float64), coarse.factors)
            bound = coarse.number / 2 if finest.dtype.kind != "f" else 1e-3
            assert np.abs(found[full].astype(np.float64) - mean).max() <= bound


TIFFS = {
    "page by page": {},
    "tiled": {"tile": (16, 16)},
    "compressed": {"compression": "zlib", "predictor": True},
    "tiled and compressed": {"tile": (16, 32), "compression": "lzw"},
    "in strips": {"rowsperstrip": 5},
}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", TIFFS)
def test_every_type_in_every_kind_of_tiff_comes_through(tmp_path, dtype, kind):
    array = whole_range(dtype, SHAPE)
    order = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="minisblack", byteorder=order, **TIFFS[kind]
    )
    volume = run(tmp_path, scenes.acquisition(tmp_path / "a.tif", axes="zyx", voxel_size_um=CUBES))
    assert level(volume, 0).dtype == np.dtype(dtype).newbyteorder("=")
    assert level(volume, 0)[0].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    assert_levels_are_exact(volume)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("more", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_colours_side_by_side_or_plane_by_plane_are_the_same_channels(tmp_path, planar, more):
    colours = whole_range("uint16", (3, 37, 35))
    given = colours if planar == "separate" else colours.transpose(1, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="rgb", planarconfig=planar, **more)
    size = {axis: CUBES[axis] for axis in "yx"}
    volume = run(tmp_path, scenes.acquisition(tmp_path / "a.tif", voxel_size_um=size))
    assert volume.axes == "cyx"
    assert np.array_equal(level(volume, 0), colours)
    assert_levels_are_exact(volume)


def test_planes_of_a_single_voxel_come_through(tmp_path):
    array = whole_range("uint16", (2, 3, 1, 1))
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", array, "tcyx"))
    assert np.array_equal(level(volume, 0), array)


def test_twelve_bits_in_sixteen_stay_as_they_are(tmp_path):
    array = np.random.default_rng(0).integers(0, 4096, (37, 35), np.uint16)
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", array, "yx"))
    assert np.array_equal(level(volume, 0)[0], array)
    assert level(volume, 0).dtype == np.uint16


@st.composite
def orders(draw):
    """Axes of a file in any order, with sides that may be single, odd or even."""
    others = draw(st.lists(st.sampled_from("tcz"), unique=True, max_size=3))
    axes = draw(st.permutations([*others, "y", "x"]))
    longest = {"t": 3, "c": 3, "z": 7, "y": 21, "x": 19}
    return "".join(axes), tuple(draw(st.integers(1, longest[axis])) for axis in axes)


@settings(max_examples=40)
@given(order=orders(), dtype=st.sampled_from(TYPES), seed=st.integers(0, 9))
def test_axes_in_any_order_come_into_one(tmp_path_factory, order, dtype, seed):
    axes, shape = order
    array, folder = whole_range(dtype, (*shape, 2), seed)[..., 0], tmp_path_factory.mktemp("any")
    volume = run(
        folder, scenes.write(folder / "a.tif", array, axes), smallest_level_voxels=max(shape)
    )
    kept = [axis for axis in "tczyx" if axis in axes and axis in volume.axes]
    dropped = [axis for axis in axes if axis not in volume.axes]
    assert all(shape[axes.index(axis)] == 1 for axis in dropped)
    ordered = array.transpose([axes.index(axis) for axis in [*kept, *dropped]])
    found = level(volume, 0)
    assert found.reshape(-1).tobytes() == ordered.astype(found.dtype).tobytes()
    sides = dict(zip(axes, shape, strict=True))
    assert found.shape == tuple(sides.get(axis, 1) for axis in volume.axes)


CHUNKS = {
    "a page": (1, 37, 35),
    "odd sides": (5, 7, 11),
    "a row": (1, 1, 35),
    "a column of planes": (9, 1, 1),
    "everything": SHAPE,
}


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("shape", [SHAPE, (1, 37, 35), (1, 1, 75)])
def test_how_the_source_is_cut_makes_no_difference(tmp_path, chunk, shape):
    array = whole_range("uint16", shape)
    chunk = tuple(map(min, chunk, shape))
    zarr.create_array(tmp_path / "a.zarr", data=array, chunks=chunk)
    volume = run(tmp_path, scenes.acquisition(tmp_path / "a.zarr", axes="zyx", voxel_size_um=CUBES))
    assert np.array_equal(level(volume, 0).reshape(shape), array)
    assert_levels_are_exact(volume)


@pytest.mark.parametrize("dtype", TYPES)
def test_halves_round_up_below_zero_as_well(tmp_path, dtype):
    lowest = 0 if np.dtype(dtype).kind == "u" else -3
    array = np.resize(np.array([lowest, lowest + 1], dtype), (34, 34))
    volume = run(tmp_path, scenes.write(tmp_path / "a.tif", array, "yx"))
    half = lowest + 0.5 if np.dtype(dtype).kind == "f" else lowest + 1
    assert (level(volume, 1) == half).all()


ANISOTROPIC = [
    ("zyx", (20, 110, 97), (2.0, 0.5, 0.5), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]),
    ("zyx", (25, 60, 71), (0.9, 0.5, 0.5), [(1, 1, 1), (2, 2, 2), (4, 4, 4)]),
    ("zyx", (99, 30, 33), (0.1, 0.5, 0.5), [(1, 1, 1), (2, 1, 1), (4, 1, 1)]),
    ("yx", (150, 130), (0.4, 1.0), [(1, 1), (2, 1), (4, 2), (8, 4)]),
]


@pytest.mark.parametrize(("axes", "shape", "size", "factors"), ANISOTROPIC)
def test_only_fine_axes_are_halved_and_metadata_says_so_exactly(
    tmp_path, axes, shape, size, factors
):
    voxel = dict(zip(axes, size, strict=True))
    array = whole_range("uint16", shape)
    acquired = scenes.write(tmp_path / "a.tif", array, axes, voxel_size_um=voxel)
    volume = run(tmp_path, acquired)
    assert [volume.spatial(one.factors) for one in volume.levels[: len(factors)]] == factors
    [block] = volumes.attributes(volume.store)["ome"]["multiscales"]
    for one, dataset in zip(volume.levels, block["datasets"], strict=True):
        moves = {move["type"]: move[move["type"]] for move in dataset["coordinateTransformations"]}
        by = volume.spatial(one.factors)
        assert all(factor & (factor - 1) == 0 for factor in by)
        scale = [s * f for s, f in zip(size, by, strict=True)]
        assert list(volume.spatial(moves["scale"])) == scale
        moved = volume.spatial(moves.get("translation", [0.0] * len(volume.axes)))
        assert moved == pytest.approx([s * (f - 1) / 2 for s, f in zip(size, by, strict=True)])
        sides = tuple(-(-n // f) for n, f in zip(shape, by, strict=True))
        assert volume.spatial(level(volume, one.number).shape) == sides
    assert_levels_are_exact(volume)
