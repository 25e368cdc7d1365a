"""Laws of the report's scores: what is scored, and against what."""

import numpy as np
import pandas as pd
import pytest
import reports
from reports import ACQUISITION, GRID, MODEL, SIDES, Bench, movie, squares, without

from pipeline import report_errors, report_scores, report_summary


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    reports.undraw(monkeypatch)


def test_a_frame_used_for_training_is_not_scored(tmp_path):
    wrong_in_frame_0 = without(movie(), *range(1, 11))
    facts, page = Bench(tmp_path, "tyx", wrong_in_frame_0, movie()).report()
    score = facts["scores"][0]
    assert score["trained_frames"] == [0]
    assert [row["frame"] for row in score["frames"]] == [1, 2, 3, 4, 5]
    assert score["total"]["at"][0]["f1"] == 1.0
    assert score["total"]["reference"] == 5 * len(GRID)
    assert "Frame 0: learned from, not scored." in page


def test_false_and_missed_objects_are_counted_in_their_frame(tmp_path):
    predicted, reference = without(movie(), 203), without(movie(), 304, 305)
    facts, page = Bench(tmp_path, "tyx", predicted, reference).report()
    by_frame = {row["frame"]: row for row in facts["scores"][0]["frames"]}
    counted = {
        t: [row["at"][0][key] for key in ("matched", "false", "missed")]
        for t, row in by_frame.items()
    }
    assert counted == {1: [15, 0, 0], 2: [14, 0, 1], 3: [13, 2, 0], 4: [15, 0, 0], 5: [15, 0, 0]}
    assert [by_frame[t]["count_error"] for t in (1, 2, 3)] == [0, -1, 2]
    total = facts["scores"][0]["total"]["at"][0]
    assert total["f1"] == pytest.approx(2 * 72 / (2 * 72 + 3))
    assert total["average_precision"] == pytest.approx(72 / 75)
    assert page.count("<figcaption>missed, ") == 1
    assert page.count("<figcaption>false, ") == 2


def test_every_error_is_in_the_table_and_the_largest_of_each_kind_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report_errors, "CELLS", 1)
    predicted, reference = without(movie(), 203, 305), movie()
    predicted[4][predicted[4] == 401] = 402  # two that became one
    halves = np.where(np.arange(SIDES[1]) < 56, 598, 599)
    predicted[5] = np.where(reference[5] == 504, halves, predicted[5])  # one that became two
    bench = Bench(tmp_path, "tyx", predicted, reference)
    facts, page = bench.report()
    counts = facts["scores"][0]["total"]["errors"]
    table = pd.read_csv(bench.receipt.parent / f"errors/{MODEL}-{ACQUISITION}-0.csv", dtype=str)
    assert table["kind"].value_counts().to_dict() == {k: n for k, n in counts.items() if n}
    assert {k: n for k, n in counts.items() if n} == {"split": 1, "merged": 1, "missed": 2}
    merged = table[table["kind"] == "merged"].iloc[0]
    assert (merged["t"], merged["predicted"]) == ("4", "402")
    assert merged["reference"].split() == ["401", "402"]
    split = table[table["kind"] == "split"].iloc[0]
    assert (split["t"], split["y"], split["x"]) == ("5", "8.0", "56.0")
    assert page.count("<figcaption>missed, ") == 1
    assert "<h4>Missed, 1 of 2</h4>" in page
    assert page.count("<figcaption>split, 2 parts") == 1
    assert page.count("<figcaption>merged, 2 parts") == 1


@pytest.mark.parametrize(("stop", "found", "wanted"), [(26, 2, 2), (23, 3, 4)])
def test_objects_mostly_inside_the_shot_are_not_scored_and_none_is_cut(
    tmp_path, stop, found, wanted
):
    # Objects in the middle column reach from x 21 to 27: five, or two, of seven planes are inside.
    places = [(6, y, x) for y in (6, 22) for x in (6, 24, 40)]
    reference = squares(places, (12, 30, 48))
    predicted = without(reference, 1, 2)
    bench = Bench(tmp_path, "zyx", predicted, reference, shot={"x": [0, stop]})
    facts, page = bench.report()
    total = facts["scores"][0]["total"]
    assert (total["predicted"], total["reference"]) == (found, wanted)
    assert [at["matched"] for at in total["at"]] == [found, found]
    assert "Objects mostly inside the annotated region" in page


def test_a_model_trained_elsewhere_is_scored_everywhere(tmp_path):
    bench = Bench(tmp_path, "tyx", movie(2), movie(2), shot="elsewhere")
    facts, _ = bench.report()
    assert [row["frame"] for row in facts["scores"][0]["frames"]] == [0, 1]


def test_without_a_reference_nothing_is_scored_and_the_page_says_so(tmp_path):
    facts, page = Bench(tmp_path, "tyx", movie(), movie()).report(origin="")
    assert facts["scores"] == []
    assert "none given: not scored" in page


def test_a_volume_too_large_to_score_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(report_scores, "LARGEST_VOXELS", 100)
    facts, page = Bench(tmp_path, "tyx", movie(2), movie(2)).report()
    assert facts["scores"][0]["total"] is None
    assert "Not scored: a frame has more than 100 voxels" in page
    said = report_summary.summary(tmp_path / "results/report/campaign.json")
    assert "not scored against labels drawn by a person: a frame has more than 100 voxels" in said
