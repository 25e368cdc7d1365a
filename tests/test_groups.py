"""Laws of groups of acquisitions: red where a plate, day or position is harmed, and seldom else."""

import numpy as np
import pytest

from pipeline import groups
from pipeline.charts import Chart
from pipeline.groups import Grouping

PLATES, WELLS, FIELDS = 3, 8, 4
NAMES = [(p, w, f) for p in range(PLATES) for w in range(WELLS) for f in range(FIELDS)]
WELL = tuple(f"{p}/{w}" for p, w, _ in NAMES)
BY_PLATE = Grouping("plate", tuple(f"plate {p}" for p, _, _ in NAMES), WELL, False)
BY_POSITION = Grouping("position", tuple(str(f) for _, _, f in NAMES), WELL, True)


def screen(seed, by_well=0.4):
    """Charts of a screen, in which wells differ more than fields of one well do."""
    generator = np.random.default_rng(seed)
    drawn = []
    for name in ("noise", "focus", "density"):
        wells = np.repeat(generator.normal(0, by_well, PLATES * WELLS), FIELDS)
        logs = wells + generator.normal(2, 0.1, len(NAMES))
        drawn.append(Chart(name, tuple(map(str, NAMES)), tuple(np.exp(logs).tolist())))
    return drawn


def harmed(chart, times, where):
    values = [v * (times if where(*n) else 1) for v, n in zip(chart.values, NAMES, strict=True)]
    return Chart(chart.name, chart.acquisitions, tuple(values))


@pytest.mark.parametrize("grouping", [BY_PLATE, BY_POSITION], ids=lambda one: one.kind)
def test_groups_of_a_screen_whose_wells_differ_stay_green(grouping):
    red = [groups.unlike(screen(seed), grouping).state == "alarm" for seed in range(300)]
    assert sum(red) <= 2, "each may go red once in a thousand times"


def test_a_plate_unlike_the_others_is_named_with_the_feature():
    noise, focus, density = screen(0, by_well=0.1)
    blurred = harmed(focus, 0.4, lambda p, *_: p == 1)
    check = groups.unlike([noise, blurred, density], BY_PLATE)
    assert (check.name, check.state) == ("plates unlike the others", "alarm")
    assert check.said.startswith("focus of plate 1 is 0.")
    assert "noise" not in check.said


def test_a_position_unlike_the_others_shows_although_wells_differ_more():
    noise, focus, density = screen(1)
    sparse = harmed(density, 0.7, lambda *n: n[2] == 3)
    check = groups.unlike([noise, focus, sparse], BY_POSITION)
    assert check.state == "alarm"
    assert check.said.startswith("density of 3 is 0.")


@pytest.mark.parametrize(
    "names", [("A", "B") * 2 + (None,) * 8, ("A",) * 12, (None,) * 12], ids=["few", "one", "none"]
)
def test_too_few_groups_or_acquisitions_tell_nothing(names):
    chart = Chart("noise", names, tuple(float(n) for n in range(1, 13)))
    assert groups.unlike([chart], Grouping("day", names, (None,) * 12, False)).state == "off"


def test_equal_values_are_no_alarm():
    chart = Chart("noise", ("",) * 12, (2.0,) * 12)
    days = Grouping("day", ("A", "B") * 6, (None,) * 12, False)
    assert groups.unlike([chart], days).state == "fine"


def test_medians_of_groups_come_in_the_order_of_numbers():
    chart = Chart("noise", tuple("abcde"), (1.0, 2.0, 3.0, None, 5.0))
    wells = Grouping("well", ("A10", "A2", "A2", "B1", None), (None,) * 5, False)
    assert wells.medians([chart]) == [("A2", 2, [2.5]), ("A10", 1, [1.0]), ("B1", 1, [None])]
