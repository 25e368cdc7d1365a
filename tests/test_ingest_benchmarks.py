"""The benchmark of ingest: what it makes, what it counts, and that it sees a wrong pyramid."""

import itertools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import scenes
import tifffile
import zarr

from benchmarks import ingest as benchmark
from benchmarks import pyramids, stack
from benchmarks.apart import spent
from benchmarks.measurement import Figure
from benchmarks.stack import Stack
from benchmarks.writers import ALONE, OURS, Run, Writers
from pipeline import ingest, receipts, volumes

SHAPE = (23, 64, 64)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack of an odd number of planes."""
    return stack.made(tmp_path_factory.mktemp("raw"), SHAPE, seed=0)


@pytest.fixture(scope="module")
def volume(raw: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stack as ingest publishes it."""
    receipt = tmp_path_factory.mktemp("volume") / "stack.json"
    ingest.ingest(receipt, scenes.ingest_task(scenes.acquisition(raw.file)), scenes.here)
    return receipts.result(receipt, "volume")


def test_a_stack_says_its_axes_and_voxels_and_is_the_same_for_a_seed(
    raw: Stack, tmp_path: Path
) -> None:
    with tifffile.TiffFile(raw.file) as tiff:
        assert tiff.is_bigtiff
        assert (len(tiff.pages), tiff.series[0].axes) == (SHAPE[0], "ZYX")
    again = stack.made(tmp_path / "again", SHAPE, seed=0)
    other = stack.made(tmp_path / "other", SHAPE, seed=1)
    assert np.array_equal(raw.voxels(), again.voxels())
    assert not np.array_equal(raw.voxels(), other.voxels())


@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 2, 2), (8, 4, 4), (16, 32, 32)])
def test_levels_to_compare_with_are_means_of_blocks(raw: Stack, factors: tuple[int, ...]) -> None:
    voxels, exact, stepwise = raw.voxels(), raw.exact(factors), raw.stepwise(factors)
    for index in itertools.product(*map(range, exact.shape)):
        at = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))
        block = voxels[at].astype(np.int64)
        assert exact[index] == (2 * block.sum() + block.size) // (2 * block.size)
        if block.shape == factors:
            assert exact[index] == stepwise[index]
    last = voxels[SHAPE[0] // 2 * 2 :].astype(np.int64)  # an odd plane that is left alone
    if factors[0] == 2:
        assert stepwise[-1, 0, 0] == (2 * last[0, :2, :2].sum() + 4) // 8


def test_what_ingest_publishes_is_right(raw: Stack, volume: Path) -> None:
    found = pyramids.checked(volume, raw)
    assert (found.faults, found.remarks) == ((), ())
    assert found.levels == len(volumes.open_volume(volume).levels) == 3
    assert found.largest <= pyramids.MOST_GREY_LEVELS


def harmed(volume: Path, folder: Path, level: int, key: str) -> Path:
    """A copy of the volume with something wrong at a level."""
    store = folder / volume.name
    shutil.copytree(volume, store)
    if key == "voxels":
        array = zarr.open_array(store / str(level), mode="r+")
        array[0, 3, 4, 5] = array[0, 3, 4, 5] + (1 if level == 0 else 4)
        return store
    attributes = volumes.attributes(store)
    moves = attributes["ome"]["multiscales"][0]["datasets"][level]["coordinateTransformations"]
    move = next(move for move in moves if move["type"] == key)
    move[key][1] *= 1.01
    volumes.annotate(store, attributes)
    return store


@pytest.mark.parametrize(
    ("level", "key", "words"),
    [
        (0, "voxels", "level 0 differs by up to 1 grey"),
        (1, "voxels", "level 1 differs by up to"),
        (1, "scale", "level 1: its scale along z is 2.0200 times the voxel, not 2"),
        (2, "translation", "level 2: it is moved along z by 1.5150 voxels, not 1.5"),
    ],
)
def test_a_wrong_pyramid_is_seen(
    raw: Stack, volume: Path, tmp_path: Path, level: int, key: str, words: str
) -> None:
    [fault] = pyramids.checked(harmed(volume, tmp_path, level, key), raw).faults
    assert words in fault


def test_a_level_that_leaves_out_a_cut_block_is_told_and_one_that_loses_more_is_wrong(
    raw: Stack, volume: Path, tmp_path: Path
) -> None:
    store = tmp_path / volume.name
    shutil.copytree(volume, store)
    array = zarr.open_array(store / "1", mode="r+")
    assert array.shape[1:] == (12, 32, 32)
    array.resize((1, 11, 32, 32))
    found = pyramids.checked(store, raw)
    assert (found.faults, len(found.remarks)) == ((), 1)
    array.resize((1, 10, 32, 32))
    [fault] = pyramids.checked(store, raw).faults
    assert "has sides (10, 32, 32), not (12, 32, 32)" in fault


def test_time_and_memory_of_what_a_command_starts_count(tmp_path: Path) -> None:
    child = "import time; held = bytearray(200 * 2**20); sum(range(10**7)); time.sleep(0.5)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    alone = spent([sys.executable, "-c", "pass"], tmp_path / "log")
    used = spent([sys.executable, "-c", code], tmp_path / "log")
    assert (alone.code, used.code) == (0, 0)
    assert used.peak_mb > 200 > alone.peak_mb
    assert used.together_mb > used.peak_mb
    assert used.cpu_s > alone.cpu_s + 0.05
    assert used.seconds > 0.5


def test_a_command_that_fails_is_told_by_its_code(tmp_path: Path) -> None:
    assert spent([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log").code == 3


def test_all_writers_write_the_stack(tmp_path: Path) -> None:
    raw = stack.made(tmp_path, (23, 128, 128), seed=0)
    peers = ["dask", "ome-zarr-py from shards"]
    runs, found, left_out = Writers(tmp_path, raw, (64, 64, 64)).all(1, peers)
    assert not left_out
    assert set(runs) == {OURS, ALONE, *peers}
    assert not found[OURS].faults
    assert not found["dask"].faults
    assert found["ome-zarr-py from shards"].levels == found[OURS].levels == 2
    assert not list(tmp_path.rglob("c")), "stores are deleted once they are looked at"


def test_a_peer_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.writers.NGFF", tmp_path / "nowhere")
    none = Stack(tmp_path / "none.tif", (1, 1, 1), tmp_path / "none")
    _, _, left_out = Writers(tmp_path, none, None).all(0, ["ngff-zarr"])
    assert left_out == ["ngff-zarr: not measured, it is not installed. To install: make peers."]


def test_ours_is_compared_with_the_fastest_peer_whose_pyramid_is_right() -> None:
    def run(cpu_s: float) -> Run:
        return Run(seconds=cpu_s, cpu_s=cpu_s, peak_mb=500.0, together_mb=600.0)

    wrong = pyramids.Checked(3, 9, ("level 1 differs",), ())
    right = pyramids.Checked(3, 1, (), ())
    runs = {
        OURS: [run(10.0), run(12.0)],
        ALONE: [run(9.0), run(9.0)],
        "ome-zarr-py from pages": [run(5.0)],
        "dask": [run(24.0)],
        "ngff-zarr": [run(48.0)],
    }
    found = {OURS: right, "ome-zarr-py from pages": wrong, "dask": right, "ngff-zarr": right}
    made = {figure.name: figure for figure in benchmark.figures(1000.0, runs, found)}
    ahead = made["ours against dask, per CPU second"]
    assert (ahead.spread, ahead.target, ahead.met) == ((2.0, 2.4), ">= 2", True)
    near = made["ours against writing alone, per CPU second"]
    assert (near.spread, near.met) == ((0.75, 0.9), False)
    assert made["ours: CPU time"] == Figure.of("ours: CPU time", [10.0, 12.0], "s/GB")
