"""Scores count what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import Score, match


def scene():
    labels = np.zeros((30, 30), int)
    labels[2:10, 2:10], labels[12:20, 2:10], labels[2:10, 15:25] = 3, 7, 9
    return labels


def test_equal_labels_match_whatever_their_numbers():
    renamed = np.array([0, 0, 0, 5, 0, 0, 0, 1, 0, 2])[scene()]
    assert match(renamed, scene(), 0.5) == Score(matched=3, false=0, missed=0)


def test_a_missing_and_a_false_object_are_counted():
    found = scene()
    found[found == 7] = 0
    found[25:29, 25:29] = 11
    assert match(found, scene(), 0.5) == Score(matched=2, false=1, missed=1)


def test_a_merge_is_one_false_and_two_missed():
    found = np.where(np.isin(scene(), (3, 7)), 3, scene())
    assert match(found, scene(), 0.6) == Score(matched=1, false=1, missed=2)


def test_the_threshold_is_reached_at_equality():
    reference, found = np.zeros((2, 10), int)
    reference[:4], found[:2] = 1, 1
    assert match(found, reference, 0.5).matched == 1
    assert match(found, reference, 0.51).matched == 0


def test_nothing_found_where_nothing_is_is_perfect():
    score = match(np.zeros((4, 4), int), np.zeros((4, 4), int), 0.5)
    assert (score.f1, score.average_precision) == (1.0, 1.0)


def test_an_image_without_background_is_scored():
    assert match(np.ones((4, 4), int), np.ones((4, 4), int), 0.5) == Score(1, 0, 0)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_f1_and_average_precision_are_bound_to_each_other(matched, false, missed):
    score = Score(matched, false, missed)
    expected = 2 * score.average_precision / (1 + score.average_precision)
    assert score.f1 == pytest.approx(expected)
