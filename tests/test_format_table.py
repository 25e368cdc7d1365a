"""The table of formats says what comes out of files, and nothing else."""

import dataclasses

import format_table
import pytest
import samples

from pipeline import formats

SHOWN = format_table.PAGE.read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in SHOWN.splitlines() if line.startswith("| ")]


def test_the_table_is_what_the_tests_find():
    assert format_table.page(SHOWN) == SHOWN, f"docs/formats.md differs: {format_table.REMEDY}"


def test_every_format_has_a_row():
    read_with = {package for row in ROWS for package in row[-1].split(", ")}
    assert {form.package for form in formats.ALL.values()} <= read_with


def test_nothing_in_the_table_is_wrong():
    assert [row for row in ROWS if "no" in row] == []


def test_a_row_of_a_library_that_is_not_there_may_not_vanish():
    absent = dataclasses.replace(samples.SAMPLES[0], writer="not_there", kind="Never seen")
    assert not format_table.writable(absent)
    with pytest.raises(ValueError, match="no row of Never seen: install not_there"):
        format_table.as_shown(absent, SHOWN)


def test_voxels_that_differ_are_seen(tmp_path):
    written = samples.plain_tiff(tmp_path)
    assert format_table.same(written.array[None], "czyx", written)
    other = written.array.copy()
    other[1, 2, 3] += 1
    assert not format_table.same(other, "zyx", written)
    assert not format_table.same(written.array.astype(int), "zyx", written)
