"""Laws of the report's doubts: each fault is named, and nothing where there is none."""

import numpy as np
import pytest
import reports
from reports import GRID, MODEL, SIDES, Bench, Page, movie, squares, without

from pipeline import report_summary


@pytest.fixture(scope="module")
def flawless(tmp_path_factory):
    """Results that are the reference itself."""
    return Bench(tmp_path_factory.mktemp("flawless"), "tyx", movie(), movie())


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    reports.undraw(monkeypatch)


def test_outlines_that_only_roughly_agree_are_told(tmp_path):
    frame = squares(GRID, SIDES)
    small = np.where(squares(GRID, SIDES, half=2) > 0, frame, 0)
    reference = np.stack([frame] * 2)
    # 5 x 5 of 7 x 7 pixels: intersection over union is 0.51.
    facts, _ = Bench(
        tmp_path, "tyx", np.stack([small, small + 50 * (small > 0)]), reference
    ).report()
    loose, strict = facts["scores"][0]["total"]["at"]
    assert (loose["f1"], strict["f1"]) == (1.0, 0.0)
    assert any("outlines differ" in doubt for doubt in facts["doubts"])


def test_nothing_suspicious_is_said_where_nothing_is(flawless):
    facts, page = flawless.report()
    assert facts["doubts"] == []
    assert "Nothing is suspicious" in page


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"orphans": 3}, "3 orphans"),
        ({"equivariance": 2e-4}, "equivariance holds to 2.0e-04 only"),
        ({"smallest_object": 0.9, "diameter_um": 4.4}, "hardly larger than the smallest accepted"),
    ],
)
def test_the_report_names_an_injected_fault(tmp_path, given, expected):
    facts, page = Bench(tmp_path, "tyx", movie(), movie(), **given).report()
    assert len(facts["doubts"]) == 1
    assert expected in facts["doubts"][0]
    assert expected in "".join(Page(page).text).split("Results")[0]
    assert "Nothing is suspicious" not in page


def test_a_frame_whose_count_leaps_or_score_falls_is_named(tmp_path):
    predicted = without(movie(), *range(301, 314))
    facts, _ = Bench(tmp_path, "tyx", predicted, movie()).report()
    assert any("leaps in frame 3 (2 objects)" in doubt for doubt in facts["doubts"])
    assert any("F1 is below 0.8 in frame 3," in doubt for doubt in facts["doubts"])


def test_saturated_voxels_are_told_at_the_ceiling_of_a_12_bit_camera(tmp_path):
    image = np.where(movie() > 0, 4095, 100).astype(np.uint16)
    facts, _ = Bench(tmp_path, "tyx", movie(), movie(), image=image).report()
    assert [doubt for doubt in facts["doubts"] if "of channel DNA are saturated" in doubt]


def test_labels_by_an_algorithm_are_flagged_and_every_origin_stands_by_its_score(flawless):
    origin = "made by an algorithm <b>of old</b>"
    facts, page = flawless.report(origin)
    assert any(f"compare with labels {origin}" in doubt for doubt in facts["doubts"])
    assert "<b>of old" not in page
    said = "".join(Page(page).text)
    assert f"Scores against labels {origin}" in said


def random_squares(seed=0, cut=None, sides=(96, 160), half=3):
    """Squares at random places that touch no other; `cut` lets those across a column end there."""
    generator, labels, number = np.random.default_rng(seed), np.zeros(sides, np.uint64), 0
    for _ in range(4000):
        y, x = (int(generator.integers(half + 1, side - half - 1)) for side in sides)
        around = (slice(y - half - 1, y + half + 2), slice(x - half - 1, x + half + 2))
        if not labels[around].any():
            number += 1
            labels[y - half : y + half + 1, x - half : x + half + 1] = number
            if cut is not None and x - half < cut <= x + half:
                right = labels[y - half : y + half + 1, cut : x + half + 1]
                right[right > 0] = number = number + 1
    return labels


def red(facts):
    return {check["name"] for check in facts["checks"] if check["state"] == "alarm"}


def test_one_wrong_seam_turns_the_report_red_by_name(tmp_path):
    labels = random_squares(cut=80)
    facts, page = Bench(tmp_path, "yx", labels, labels).report()
    assert "borders at seams" in red(facts)
    [doubt] = [doubt for doubt in facts["doubts"] if doubt.startswith("borders at seams")]
    assert "x = 80" in doubt
    assert "✘ red" in page


def test_an_unharmed_acquisition_is_green(tmp_path):
    labels = random_squares(1)
    facts, page = Bench(tmp_path, "yx", labels, labels).report()
    assert not red(facts)
    assert facts["doubts"] == []
    assert "✘ red" not in page


def test_one_lost_shard_turns_the_report_red_by_name_and_the_rest_is_still_told(tmp_path):
    labels = random_squares(2)
    bench = Bench(tmp_path, "yx", labels, labels)
    (bench.volume.store / "labels" / MODEL / "0" / "c" / "1" / "0").unlink()
    facts, page = bench.report()
    assert red(facts) == {"shards"}
    assert f"labels/{MODEL}/0/c/1/0" in facts["doubts"][0]
    assert facts["overlay"] is None
    assert f"labels/{MODEL}/0/c/1/0" in page
    assert "outlines" not in report_summary.summary(bench.receipt)


def test_a_shard_that_was_written_without_its_objects_is_named(tmp_path):
    labels = random_squares(3)
    image = np.where(labels > 0, 200, 20).astype(np.uint16)
    labels[48:, :80] = 0
    facts, _ = Bench(tmp_path, "yx", labels, labels, image=image).report()
    assert "shards without objects" in red(facts)
    assert any("0/c/1/0:" in doubt for doubt in facts["doubts"])


def test_one_bad_frame_turns_the_report_red_by_name(tmp_path):
    predicted = movie(12)
    image = np.where(predicted > 0, 200, 20).astype(np.uint16)
    image[7] = 0
    facts, _ = Bench(tmp_path, "tyx", predicted, predicted, image=image).report()
    assert red(facts) == {"empty frames", "brightness of frames"}
    assert any("frame 7 holds one value" in doubt for doubt in facts["doubts"])
