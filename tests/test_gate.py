"""The gate: what did not help does not become the model, and the reason is said."""

import pytest

from pipeline import gate


@pytest.mark.parametrize(
    ("tuned", "promoted"), [(0.9, True), (0.52, True), (0.505, False), (0.1, False)]
)
def test_only_what_is_better_than_its_base_by_the_margin_is_promoted(tuned, promoted):
    assert gate.judge(tuned, 0.5, None, margin=0.01).promoted is promoted


def test_without_a_base_there_is_nothing_to_fall_back_on():
    assert gate.judge(0.1, None, 0.9, margin=0.01).promoted


def test_a_plain_network_that_does_better_is_named_and_decides_nothing():
    verdict = gate.judge(0.6, 0.5, 0.7, margin=0.01)
    assert verdict.promoted
    assert "plain network did better (0.70)" in verdict.reason
    assert "plain" not in gate.judge(0.6, 0.5, 0.605, margin=0.01).reason


def test_the_reason_holds_both_scores():
    reason = gate.judge(0.41, 0.52, None, margin=0.01).reason
    assert "0.41" in reason
    assert "0.52" in reason
    assert "base stays" in reason


def test_the_curve_holds_what_was_measured():
    assert gate.curve([(0, None), (5, 0.4), None, (10, 0.6)]) == ((5, 0.4), (10, 0.6))


@pytest.mark.parametrize(
    ("curve", "word"),
    [
        ([(0, 0.2), (5, 0.4), (10, 0.6)], "likely to help"),
        ([(0, 0.2), (5, 0.6), (10, 0.61)], "unlikely to help"),
    ],
)
def test_the_last_doubling_says_whether_another_example_helps(curve, word):
    assert f" is {word}" in gate.advice(curve)


def test_a_curve_of_two_points_says_nothing():
    assert gate.advice([(0, 0.2), (10, 0.6)]) == ""
