"""Laws of the record of what happened to jobs."""

import json

import disks

from pipeline import events


def recorded(folder) -> list[str]:
    lines = (folder / events.EVENTS).read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


@disks.ROOT_ALONE
def test_events_are_recorded_on_a_disk_that_is_full(tmp_path):
    with disks.small(tmp_path / "disk") as folder:
        with events.room(folder):
            disks.fill(folder / "ballast")
            for number in range(40):
                events.note(folder, {"kind": f"disk {number}", "units": "9 units, 0 to 8"})
        assert recorded(folder) == [f"disk {number}" for number in range(40)]


@disks.ROOT_ALONE
def test_a_record_for_which_there_is_no_room_at_all_stays_readable(tmp_path):
    with disks.small(tmp_path / "disk") as folder:
        events.note(folder, {"kind": "time"})
        disks.fill(folder / "ballast")
        for _ in range(100):
            events.note(folder, {"kind": "disk"})
        kinds = recorded(folder)
    assert kinds[0] == "time"
    assert set(kinds[1:]) == {"disk"}
    assert 1 < len(kinds) < 101


def test_room_is_given_back(tmp_path):
    with events.room(tmp_path):
        assert (tmp_path / events.ROOM).stat().st_size == events.ROOM_BYTES
    assert not list(tmp_path.iterdir())
