"""Laws of the disk's check: what it says of disks that cannot hold results; it leaves nothing."""

from pathlib import Path

import disks
import pytest

from pipeline import storage


def test_a_disk_that_works_has_no_fault_and_keeps_no_trace(tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results"
    assert storage.faults(results, ["ingest", "predict"]) == []
    assert list(tmp_path.iterdir()) == []


def test_what_lies_in_the_results_already_stays(tmp_path: Path) -> None:
    (tmp_path / "ingest").mkdir()
    (tmp_path / "ingest" / "wound.json").write_text("{}")
    assert storage.faults(tmp_path, ["ingest"]) == []
    assert [path.name for path in tmp_path.rglob("*")] == ["ingest", "wound.json"]


def test_a_results_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    (fault,) = storage.faults(tmp_path / "results", [])
    assert "results is" in fault
    assert str(tmp_path / "results") in fault


@disks.ROOT_ALONE
def test_a_disk_without_room_for_a_single_byte_is_named(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk") as disk:
        disks.fill(disk / "ballast")
        (fault,) = storage.faults(disk / "results", [])
        assert "no space left on device" in fault


@disks.ROOT_ALONE
def test_a_disk_that_is_read_only_is_named(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk") as disk:
        disks.mount("-o", "remount,ro", str(disk))
        (fault,) = storage.faults(disk / "results", [])
        assert "read-only file system" in fault


@disks.ROOT_ALONE
def test_a_stage_whose_folder_lies_on_another_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with disks.small(tmp_path / "results" / "predict"):
        (fault,) = storage.faults(tmp_path / "results", ["ingest", "predict"])
        assert "predict lies on another file system" in fault


@disks.ROOT_ALONE
def test_room_counts_bytes_and_files_of_that_disk(tmp_path: Path) -> None:
    with disks.small(tmp_path / "disk") as disk:
        before = storage.room(disk / "not" / "there" / "yet")
        assert 15 * 1024**2 <= before.free_bytes <= 16 * 1024**2
        (disk / "file").write_bytes(bytes(1024**2))
        after = storage.room(disk)
        assert before.free_bytes - after.free_bytes == 1024**2
        assert before.free_files is not None
        assert after.free_files is not None
        assert before.free_files - after.free_files == 1


@pytest.mark.parametrize("place", ["", "results", "results/ingest"])
def test_the_nearest_folder_that_is_there_is_asked(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    assert storage.existing(tmp_path / "results" / "ingest") == tmp_path / place
