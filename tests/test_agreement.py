"""Laws of scores over overlaps, by size and by kind of error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import agreement, changes, metrics

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(PAIRS)
def test_the_curve_is_what_matching_gives_at_each_overlap(pairs):
    reference, predicted = np.array(pairs).T
    frame = agreement.objects(changes.shared(reference, predicted))
    for overlap, f1 in agreement.curve([frame])[1:]:
        assert f1 == pytest.approx(metrics.match(predicted, reference, overlap).f1)


@given(PAIRS)
def test_scores_by_size_add_up_to_that_of_all(pairs):
    reference, predicted = np.array(pairs).T
    frame = agreement.objects(changes.shared(reference, predicted))
    parts = agreement.by_size([frame], 0.55)
    whole = metrics.match(predicted, reference, 0.55)
    if parts:
        for name in ("matched", "false", "missed"):
            assert sum(getattr(part.score, name) for part in parts) == getattr(whole, name)


def test_small_objects_that_are_missed_show_in_their_third_alone():
    sizes = [2, 2, 10, 10, 40, 40]
    reference = np.repeat(np.arange(1, 7), sizes)
    predicted = np.where(reference > 2, reference, 0)
    frame = agreement.objects(changes.shared(reference, predicted))
    small, middle, large = agreement.by_size([frame], 0.5)
    assert (small.score.f1, middle.score.f1, large.score.f1) == (0, 1, 1)


def test_each_kind_of_error_is_counted():
    reference = np.repeat([1, 2, 3, 4, 0], [8, 4, 4, 6, 5])
    predicted = np.repeat([5, 6, 7, 0, 8], [4, 4, 8, 6, 5])
    counted = [changes.shared(reference, predicted)]
    assert agreement.errors(counted, 0.5) == {
        "split": 1,
        "merged": 1,
        "displaced": 0,
        "missed": 1,
        "false": 1,
    }
