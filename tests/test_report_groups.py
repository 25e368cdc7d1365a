"""Laws of what acquisitions of a campaign have in common, and of their order."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import report_checks, report_groups
from pipeline.report_checks import Measured


@pytest.mark.parametrize(
    ("series", "acquired", "expected"),
    [
        ("A/10/3", "", {"plate": "screen.zarr", "well": "A10", "position": "3"}),
        ("only", "2024-05-06T07:08:09", {"day": "2024-05-06"}),
        ("scene 2", "2024-05-06", {"day": "2024-05-06"}),
        ("only", "", {}),
    ],
)
def test_plate_well_and_position_come_from_a_field_s_name_and_the_day_from_the_file(
    series, acquired, expected
):
    given = {"path": "/data/screen.zarr", "series": series}
    volume = SimpleNamespace(acquired=acquired)
    assert report_groups.groups(SimpleNamespace(ingested=given, volume=volume)) == expected


def measured(number, acquired="", **groups):
    noise = np.random.default_rng(number).lognormal(1, 0.1)
    return Measured(f"a{number:02d}", acquired, groups, {"noise": noise}, {})


def test_acquisitions_come_in_the_order_of_time_where_all_tell_it():
    told = [measured(n, f"2024-05-{20 - n:02d}") for n in range(3)]
    assert [one.acquisition for one in report_checks.in_order(told)] == ["a02", "a01", "a00"]
    partly = [*told[:2], measured(2)]
    assert [one.acquisition for one in report_checks.in_order(partly)] == ["a00", "a01", "a02"]


def test_groups_are_held_against_each_other_where_there_are_two_and_wells_may_differ():
    found = [
        measured(n, day=f"2024-05-{n % 2 + 1:02d}", well=f"A{n % 3}", plate="one")
        for n in range(12)
    ]
    checks, charts, groupings = report_checks.of_campaign(found)
    assert [one.kind for one in groupings] == ["well", "day"]
    names = [check.name for check in checks]
    assert "days unlike the others" in names
    assert "wells unlike the others" not in names
    assert "plates unlike the others" not in names
    assert [count for _, count, _ in groupings[0].medians(charts)] == [4, 4, 4]
