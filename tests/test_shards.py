"""Laws of a store in the making: what counts as done, what is made again, what the log can say."""

import dataclasses
import json
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline import checksums, cluster, progress, receipts, records, shards, tiles, volumes
from pipeline.tiles import Box, pyramid

SHAPE = (60, 40)
LEVELS = pyramid("yx", SHAPE, {"y": 1.0, "x": 1.0}, (8, 8), (16, 16), 20)
# levels of 60 x 40, 30 x 20 and 15 x 10 voxels, in shards of 16 x 16
COUNTS = {0: 12, 1: 4, 2: 1}
RECIPE = {"hash": "0" * 64}


@dataclasses.dataclass(frozen=True)
class Ramp:
    """Fills every box with addresses of its voxels, and leaves a file beside it."""

    parts: Path
    by_families: bool = False
    made: Counter[Box] = dataclasses.field(default_factory=Counter)

    def spent(self):
        return {"read_bytes": 10.0 * self.made.total(), "busy_s": 0.0, "devices": 2.0}

    def __call__(self, boxes, put):
        for box in boxes:
            self.made[box] += 1
            file = self.parts / f"{box.start[0]}-{box.start[1]}.txt"
            file.write_text(str(box))
            address = np.ravel_multi_index(np.mgrid[box.slices], LEVELS[0].shape)
            put(box, address.astype(np.uint64), {}, (file,))


@pytest.fixture
def work(tmp_path):
    """A store that has begun, in the first of its two phases: levels 0 and 1, then 2."""
    store = tmp_path / "a.building"
    shards.begin(store, RECIPE, LEVELS, "yx", np.uint64, "labels")
    parts = shards.units_folder(store) / "parts"
    parts.mkdir(parents=True)
    made = shards.Shards(store, LEVELS, RECIPE["hash"], (), Ramp(parts), "first")
    return made.only(tiles.phases(LEVELS, 4)[0])


def here(phase):
    phase(phase.missing())


def looked_at(monkeypatch):
    """Every file that is read or whose size is asked for from now on."""
    found, read, stat = [], receipts.read, Path.stat

    def reading(path):
        found.append(path)
        return read(path)

    def asking(path, **options):
        if path.suffix != ".units":  # the listing asks whether there is a folder at all
            found.append(path)
        return stat(path, **options)

    monkeypatch.setattr(receipts, "read", reading)
    monkeypatch.setattr(Path, "stat", asking)
    return found


def record(work, level, start):
    return work.units / f"{level}-{start[0]}-{start[1]}.json"


def test_of_a_fresh_store_no_file_is_looked_at(work, monkeypatch):
    found = looked_at(monkeypatch)
    assert work.missing() == list(work.trees)
    assert not found


def test_of_a_unit_without_all_its_records_no_file_is_looked_at(work, monkeypatch):
    here(work)
    for tree in work.trees:
        record(work, tree.last, tree.box.start).unlink()
    found = looked_at(monkeypatch)
    assert work.missing() == list(work.trees)
    assert not found


def test_each_record_is_read_once(work, monkeypatch):
    here(work)
    found = looked_at(monkeypatch)
    assert not work.missing()
    reads = Counter(path for path in found if path.suffix == ".json")
    assert reads == dict.fromkeys(work.units.glob("*.json"), 1)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: os.truncate(file, 1)])
@pytest.mark.parametrize("kind", ["shard", "beside"])
def test_a_unit_that_lost_a_file_is_missing_and_says_why(work, harm, kind, caplog):
    here(work)
    tree = work.trees[-1]
    box = next(box for level, box in tree.shards(LEVELS) if level.number == 0)
    said = receipts.read(record(work, 0, box.start))
    [beside] = said["beside"]
    file = work.store / said["file"] if kind == "shard" else work.units / beside
    content = file.read_bytes()
    harm(file)
    assert work.missing() == [tree]
    assert f"{file} {'torn' if file.exists() else 'missing'}" in caplog.text
    here(work)
    assert file.read_bytes() == content
    assert work.fill.made == {b: 2 if b == box else 1 for b in tiles.boxes(SHAPE, (16, 16))}


def test_a_job_makes_nothing_that_is_done(work):
    here(work)
    work(work.trees)
    assert set(work.fill.made.values()) == {1}


def test_forget_forgets_the_shard_and_all_above_it_and_no_other(work):
    shards.complete(work, here, 4)
    before = {path.name for path in work.units.glob("*.json")}
    assert len(before) == sum(COUNTS.values())
    shards.forget(work, [Box((48, 16), (60, 32))])
    gone = before - {path.name for path in work.units.glob("*.json")}
    assert gone == {"0-48-16.json", "1-16-0.json", "2-0-0.json"}
    shards.complete(work, here, 4)
    assert work.fill.made.pop(Box((48, 16), (60, 32))) == 2
    assert set(work.fill.made.values()) == {1}


def test_complete_returns_what_lies_on_disk(work):
    written = shards.complete(work, here, 4)
    assert len(written) == sum(COUNTS.values())
    assert checksums.harmed(work.store, LEVELS, checksums.keep(work.store, written)) == {}
    assert all(checksums.of(work.store / said.file) == said.checksum for said in written)


def test_what_was_made_from_damaged_bytes_is_made_again(work, caplog):
    digest = checksums.keep(work.store, shards.complete(work, here, 4))
    path, calls = record(work, 1, (16, 0)), []
    path.unlink()
    record(work, 2, (0, 0)).unlink()

    def harming(phase):
        here(phase)
        calls.append(phase)
        if len(calls) == 1:  # the next phase is made from these zeros
            level, box = records.shard(LEVELS, path.name)
            other = volumes.write_shard(work.store, level, box, np.zeros(box.shape, np.uint64))
            receipts.write(path, receipts.read(path) | {"bytes": other["bytes"]})

    written = shards.complete(work, harming, 4)
    assert "1-16-0 (other bytes)" in caplog.text
    assert len(calls) == 4
    assert checksums.keep(work.store, written) == digest


def test_bytes_that_change_twice_are_an_error(work):
    def harming(phase):
        here(phase)
        file = work.store / "0" / "c" / "0" / "0"
        if phase.trees[0].first == 0:
            file.write_bytes(file.read_bytes()[::-1])

    with pytest.raises(OSError, match="changed on disk, twice"):
        shards.complete(work, harming, 4)


def test_sizes_of_the_first_phase_add_up_to_the_volume(work):
    assert sum(map(work.size, work.trees)) == pytest.approx(60 * 40 / 1e9)


def test_what_travels_to_a_job_does_not_grow_with_the_volume(work):
    sides = [pickle.dumps(work.only(work.trees[:1])), pickle.dumps(work)]
    many = dataclasses.replace(work, trees=work.trees * 100)
    assert pickle.dumps(many.only(work.trees[:1])) == sides[0]
    assert isinstance(work, cluster.Measured)


def test_progress_of_two_jobs_adds_up(work):
    before, after = work.trees[:1], work.trees[1:]
    work(before)
    work(after)
    files = list((work.units / progress.FOLDER).iterdir())
    assert len(files) == 2
    said = [json.loads(file.read_text()) for file in files]
    total = progress.total(work.units / progress.FOLDER)
    assert (total.jobs, total.voxels) == (2, 60 * 40)
    assert total.shards == len(list(work.units.glob("*.json"))) == sum(s["shards"] for s in said)
    shard_bytes = sum(path.stat().st_size for path in work.store.rglob("c/*/*"))
    assert total.moved_bytes == shard_bytes + 10 * work.fill.made.total()
    assert total.seconds == pytest.approx(sum(s["seconds"] for s in said))
    assert total.device_s == pytest.approx(2 * total.seconds)
    assert total.peak_memory_mb == max(s["peak_memory_mb"] for s in said) > 1


def test_cost_counts_voxels_of_level_0_and_what_was_redone(work):
    shards.complete(work, here, 4)
    made = shards.cost(work.units)
    assert (made["voxels"], made["redone_shards"], made["jobs"]) == (60 * 40, 0, 2)
    assert made["shards"] == len(list(work.units.glob("*.json")))
    shards.forget(work, [Box((0, 0), (16, 16))])
    shards.complete(work, here, 4)
    again = shards.cost(work.units)
    assert (again["shards"], again["redone_shards"]) == (made["shards"], len(LEVELS))
    assert again["voxels"] == 60 * 40 + 16 * 16


def test_the_log_says_how_far_all_jobs_are(work, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    watch = work.watch()
    assert watch() == "0 of 16 shards, 0 of 2.4e-06 Gvoxel"
    folder = work.units / progress.FOLDER
    said = {"level": 0, "shards": 10, "voxels": 2560, "peak_memory_mb": 9.0}
    for job in ("a", "b"):
        spent = {"busy_s": 18.0, "devices": 1.0, "seconds": 20.0}
        moved = {"read_bytes": 4e7, "written_bytes": 1e7}
        receipts.write(folder / f"{job}.json", said | spent | moved)
    for level, box in [*work.trees[0].shards(LEVELS)][:3]:
        receipts.write(work.units / records.name(level, box), {})
    clock[0] = 20.0
    assert watch() == (
        "3 of 16 shards, 6e-07 of 2.4e-06 Gvoxel, 0.000256 Mvoxel/s, 5 MB/s, device busy 90 %,"
        " 7 s left"
    )


def test_only_the_last_minutes_count_for_the_time_left():
    def total(voxels):
        return progress.Sum(1, 1, voxels, voxels, 0.0, 1.0, 0.0, 0.0, 1.0)

    assert progress.rates(total(0), total(0), 60.0, 1e9) == []
    assert progress.rates(total(10**6), total(3 * 10**6), 2.0, 9e6) == [
        "1 Mvoxel/s",
        "0 MB/s",
        "9 s left",
    ]
    assert [progress.duration(s) for s in (119, 120, 7199, 7200, 200_000)] == [
        "119 s",
        "2 min",
        "120 min",
        "2 h",
        "2 days",
    ]
