"""What the benchmark of localisation counts as an error, as missed and as false."""

import numpy as np
import pytest

from benchmarks import appearances, rivals
from benchmarks.appearances import Field

PLACES = np.array([[20.0, 20.0], [20.0, 60.0], [60.0, 20.0], [60.0, 60.0]])
ANGLES = np.array([0.0, 0.5, 2.0, 4.0])


def field():
    return Field(np.zeros((80, 80)), PLACES, ANGLES)


def test_each_object_is_found_once_and_what_is_left_over_is_false():
    found = np.array([[20.5, 20.0], [21.0, 20.0], [60.0, 22.0], [40.0, 40.0]])
    errors = rivals.matched([found], [field()], turned=False)
    assert (errors.missed, errors.false) == (2, 2)
    assert errors.lost == 0.5
    assert sorted(errors.off.tolist()) == [[0.0, 2.0], [0.5, 0.0]]


def test_an_offset_that_turns_with_the_object_is_no_error():
    turned = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    errors = rivals.matched([PLACES + turned], [field()], turned=True)
    assert errors.off == pytest.approx(np.zeros((4, 2)), abs=1e-12)
    plain = rivals.matched([PLACES + turned], [field()], turned=False)
    assert np.hypot(*plain.off.T) == pytest.approx(1)


@pytest.mark.parametrize("method", ["maximum likelihood", "radial symmetry", "centroid"])
def test_an_estimator_locates_a_spot_without_noise(method):
    generator = np.random.default_rng(0)
    seen = appearances.field("spot", 10000.0, 1.0, 4, generator)
    errors = rivals.estimated(method, "spot", [seen])
    assert errors.missed == 0
    assert np.abs(errors.off).max() < 0.5
