"""The benchmarks of large volumes: what they count, on little, and that they see what is wrong."""

import dataclasses
import itertools
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import (
    cases,
    contenders,
    driven,
    exactness,
    expanse,
    plan,
    resume,
    staging,
    throughput,
)
from benchmarks.apart import apart, commanded
from benchmarks.contenders import Task
from pipeline import receipts, shards, volumes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiled")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A small model of planes."""
    return staging.small_model(folder, "yx")


CASE = cases.Case(
    axes="tyx",
    shape=(2, 61, 83),
    dtype="int16",
    scale=1.0,
    count=12,
    tile=(24, 30),
    chunk=(10, 16),
    shard=(20, 32),
    jobs=3,
    order=1,
    workers=2,
    memory_mb=4000,
)


def test_a_case_cut_into_pieces_gives_what_the_whole_gives(tmp_path: Path, model: Path) -> None:
    found = exactness.compared(tmp_path, CASE, model, np.random.default_rng(0))
    assert (found.labels, found.cells, found.orphans) == (0, 0, 0)
    assert max(found.fields, found.measures) <= 1e-5
    assert found.crossing["objects"] > found.crossing["across seams"] > 0


def test_labels_that_differ_are_counted(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = volumes.read_table
    whole = itertools.count()

    def one_less(store: Path, name: str) -> pd.DataFrame:
        return read(store, name).iloc[next(whole) :]

    monkeypatch.setattr(volumes, "read_table", one_less)
    found = exactness.compared(tmp_path, CASE, model, np.random.default_rng(0))
    assert found.cells == read(tmp_path / "cut/ingest/case.ome.zarr", model.stem).shape[1]


def test_cells_that_differ_are_told_from_rounding() -> None:
    one = pd.DataFrame({"voxels": [3, 4], "mean": [1.0, 2.0]}, index=[7, 9])
    assert exactness.tables_differ(one, one) == (0, 0.0)
    other = pd.DataFrame({"voxels": [3, 5], "mean": [1.0, 2.002]}, index=[7, 9])
    assert exactness.tables_differ(one, other) == (1, pytest.approx(0.001, rel=0.01))
    assert exactness.tables_differ(one, one.iloc[:1])[0] == 2
    assert exactness.tables_differ(one, one.assign(mean=[1.0, np.nan]))[0] == 1


def test_objects_are_counted_by_the_seams_they_cross() -> None:
    labels = np.zeros((12, 12), np.uint64)
    labels[1:3, 1:3] = 5
    labels[5:7, 1:3] = 6
    labels[5:7, 5:8] = 7
    labels[7, 5:8] = 8
    expected = {"objects": 4, "across seams": 3, "across corners": 1, "touching another": 2}
    assert exactness.crossing(labels, [(6, 6)], False) == Counter(expected)
    assert exactness.crossing(np.stack([labels] * 2), [(6, 6)], True)["objects"] == 8


def test_the_same_seed_draws_the_same_cases_of_all_kinds() -> None:
    drawn = [
        [cases.drawn(generator, number) for number in range(48)]
        for generator in (np.random.default_rng(3), np.random.default_rng(3))
    ]
    assert drawn[0] == drawn[1]
    assert {(case.axes, case.dtype) for case in drawn[0]} == set(
        itertools.product(cases.AXES, (name for name, *_ in cases.TYPES))
    )
    for case in drawn[0]:
        assert all(s % c == 0 for s, c in zip(case.shard, case.chunk, strict=True))


def test_jobs_get_every_unit_once_in_an_order_of_the_seed() -> None:
    done: list[int] = []

    class Work:
        def missing(self) -> list[int]:
            return list(range(20))

        def __call__(self, share: list[int]) -> None:
            done.extend(share)

        def __reduce__(self) -> tuple[object, ...]:
            return (lambda: self, ())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cases.pickle, "dumps", lambda work: work)
        patched.setattr(cases.pickle, "loads", lambda work: work)
        CASE.run()(Work())
    assert sorted(done) == list(range(20))
    assert done != sorted(done)


def test_a_kill_leaves_recorded_shards_and_the_same_bytes(tmp_path: Path, model: Path) -> None:
    image, _ = staging.scattered((128, 128), 40, np.random.default_rng(0))
    receipt = staging.ingested(tmp_path / "ingest" / "plane.json", image, "yx", (64, 64), (64, 64))
    made = tmp_path / "predict" / model.stem / "plane.json"
    scene = driven.predicting(receipt, model, made, (32, 64), 1)
    calm = scene.start()
    assert calm.wait(60) == 0
    expected = driven.snapshot(scene.results)
    tally = resume.Tally()
    moments = resume.Moments(np.random.default_rng(1), 3.0, 5)
    while not tally.kills:
        scene.forget()
        resume.storm(scene, moments, tally, kills=1)
        assert driven.snapshot(scene.results) == expected
    assert tally.rewritten == 0
    assert not scene.jobs()


def test_kills_and_harm_leave_a_volume_with_the_same_bytes(tmp_path: Path) -> None:
    image, _ = staging.scattered((31, 96, 96), 40, np.random.default_rng(0))
    scene = resume.of_ingest(tmp_path, image)
    assert scene.start().wait(60) == 0
    expected, shards_made = driven.snapshot(scene.results), driven.shard_files(scene.results[0])
    assert {file[0] for file in shards_made} == {"0", "1"}
    tally = resume.Tally()
    moments = resume.Moments(np.random.default_rng(2), 2.0, len(shards_made), harming=True)
    while tally.kills < 3:
        scene.forget()
        resume.storm(scene, moments, tally, kills=3 - tally.kills)
        assert driven.snapshot(scene.results) == expected
    assert tally.rewritten == 0
    assert not scene.jobs()


@pytest.mark.parametrize("how", driven.HARMED)
def test_a_harmed_shard_may_be_written_again(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "HARMED", (how,))
    scene = driven.Scene(tmp_path / "a.json", (), tmp_path / "store", ())
    file = scene.building / "1" / "c" / "0" / "0"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a whole shard")
    settled = dict.fromkeys(["0/c/0/0", "1/c/0/0", "1/c/0/1"], (0, 0))
    tally = resume.Tally()
    assert resume._harm(scene, np.random.default_rng(0), tally, settled) == 1
    assert (file.stat().st_size if file.exists() else None) in {
        "shortened": range(1, 13),
        "emptied": [0],
        "deleted": [None],
    }[how]
    assert settled.keys() == {"0/c/0/0", "1/c/0/1"}
    assert tally.harmed == {how: 1}


def test_a_shard_that_is_written_again_is_seen(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"same")
    before = {"shard": driven.marks(tmp_path / "shard")}
    assert resume._changed(before, tmp_path) == 0
    (tmp_path / "other").write_bytes(b"same")
    (tmp_path / "other").replace(tmp_path / "shard")
    assert resume._changed(before, tmp_path) == 1


def test_a_volume_is_planned_without_a_voxel(tmp_path: Path) -> None:
    image = expanse.described(tmp_path / "ingest" / "large.json", (256, 4096, 4096))
    store = receipts.result(image, "volume")
    assert not list(store.rglob("c/*"))
    shipped = staging.shipped_model(tmp_path, plan.BASE, image)
    site = dataclasses.replace(plan.site(), mem_mb=32000)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plan, "site", lambda: site)
        found = plan.planned(tmp_path / "predict" / "large.json", image, shipped)
    finest = volumes.open_volume(store).label_levels[0]
    assert found.plan.voxels == 256 * 4096 * 4096
    assert found.plan.shards >= 2 * 8 * 8
    assert finest.shard == (128, 512, 512)
    assert found.jobs >= 1


def test_an_expanse_has_all_its_shards_and_objects_in_those_at_a_corner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = staging.campaign().ingest.model_copy(
        update={
            "chunk_voxels": staging.with_sides(staging.campaign().ingest.chunk_voxels, (8, 16, 16)),
            "shard_voxels": staging.with_sides(staging.campaign().ingest.shard_voxels, (8, 32, 32)),
        }
    )
    campaign = staging.campaign().model_copy(update={"ingest": small})
    monkeypatch.setattr(staging, "campaign", lambda: campaign)
    monkeypatch.setattr(expanse, "FILLED", ((2, 4, 4),))
    monkeypatch.setattr(expanse, "BLOCK", (4, 16, 16))
    image = expanse.written(tmp_path / "ingest" / "wide.json", 40 * 8 * 32 * 32 * 2 / 1e9)
    volume = volumes.open_volume(receipts.result(image, "volume"))
    box = expanse.Box((0,) * 4, volume.levels[0].shape)
    voxels = volume.read(0, box)
    assert voxels.nbytes >= 40 * 8 * 32 * 32 * 2
    full = sum(
        bool(voxels[shard.slices].any())
        for shard in shards.Tree(0, 0, box).shards(volume.levels)
        for shard in [shard[1]]
    )
    assert full == math.prod(expanse.FULL)


def test_all_contenders_find_the_same_objects_with_one_network(tmp_path: Path, model: Path) -> None:
    image, truth = staging.scattered((128, 160), 60, np.random.default_rng(0))
    receipt = staging.ingested(tmp_path / "ingest" / "plane.json", image, "yx", (64, 64), (64, 64))
    found = {}
    present, _ = throughput._present()
    for name, contender in present.items():
        task = Task(receipt, model, 2, 4000, (64, 80), tmp_path / name.replace(" ", "_"))
        task.out.mkdir()
        assert contender(task) > 0
        if name != throughput.LIMIT:
            found[name] = throughput.f1(contenders.labels_of(task), truth)
    assert found[throughput.OURS] > 0.8
    assert max(found.values()) == pytest.approx(found[throughput.OURS], abs=0.1)


def test_f1_counts_what_overlaps_by_more_than_half() -> None:
    expected = np.zeros((4, 12), np.uint32)
    expected[:, 0:3], expected[:, 4:7], expected[:, 8:11] = 1, 2, 3
    found = np.zeros_like(expected)
    found[:, 0:3], found[:, 4:5] = 9, 4
    assert throughput.f1(found, expected) == pytest.approx(2 / 5)
    assert throughput.f1(expected, expected) == 1.0
    assert throughput.f1(np.zeros_like(expected), np.zeros_like(expected)) == 1.0


def test_a_call_apart_tells_its_own_memory_alone() -> None:
    ballast = np.ones(600 * 2**20, np.uint8)
    little, much = (apart(eval, f"len(b'1' * ({mib} * 2**20))") for mib in (1, 300))
    assert much.result == 300 * 2**20
    assert 280 < much.peak_mb - little.peak_mb < 360
    assert little.peak_mb < ballast.nbytes / 1e6


def test_a_command_tells_its_exit_code_time_and_memory(tmp_path: Path) -> None:
    code = "import time; held = bytearray(200 * 2**20); time.sleep(0.5); raise SystemExit(3)"
    run = commanded([sys.executable, "-c", code], tmp_path / "log")
    assert run.result == 3
    assert run.seconds >= 0.5
    assert run.peak_mb > 200
