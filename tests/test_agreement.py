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


def test_each_error_is_told_with_the_objects_that_it_is_about():
    reference = np.repeat([1, 2, 3, 4, 0, 9, 0], [8, 4, 4, 6, 5, 6, 4])
    predicted = np.repeat([5, 6, 7, 0, 8, 0, 3], [4, 4, 8, 6, 5, 2, 8])
    said = agreement.errors(changes.shared(reference, predicted), 0.5)
    assert {(one.kind, one.reference, one.predicted) for one in said} == {
        ("split", (1,), (5, 6)),
        ("merged", (2, 3), (7,)),
        ("missed", (4,), ()),
        ("false", (), (8,)),
        ("displaced", (9,), (3,)),
    }


@given(PAIRS)
def test_every_object_is_found_or_part_of_an_error_and_never_both(pairs):
    reference, predicted = np.array(pairs).T
    counted = changes.shared(reference, predicted)
    said = agreement.errors(counted, 0.5)
    same = changes.fates(counted, 0.5).same
    for side, ids, found in (
        ("reference", reference, [one for one, _ in same]),
        ("predicted", predicted, [one for _, one in same]),
    ):
        wrong = {number for one in said for number in getattr(one, side)}
        assert wrong | set(found) == set(ids.tolist()) - {0}
        assert not wrong & set(found)
