"""Laws of the pictures and of the numbers that come with them."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from pipeline import figures


def test_the_widest_gap_of_known_positions() -> None:
    centres = np.array([70.0, 10.0, 30.0])
    assert figures.widest_gap_um(centres, 100.0) == 40.0


def test_the_field_s_edges_end_a_gap() -> None:
    assert figures.widest_gap_um(np.array([30.0, 40.0]), 100.0) == 60.0
    assert figures.widest_gap_um(np.array([]), 100.0) == 100.0


def test_an_object_s_outline_is_its_rim_and_touching_objects_have_two() -> None:
    labels = np.zeros((7, 9), int)
    labels[1:6, 1:4], labels[1:6, 4:8] = 5, 6
    edge = figures.outlines(labels)
    assert not edge[labels == 0].any()
    inner = np.zeros_like(edge)
    inner[2:5, 2], inner[2:5, 5:7] = True, True
    assert np.array_equal(edge, (labels != 0) & ~inner)


def test_a_colour_belongs_to_an_id_wherever_it_is_drawn() -> None:
    ids = np.array([[3, 2**40 + 17], [2**62 + 5, 3]], np.uint64)
    numbers = figures.colour_numbers(ids)
    assert numbers[0, 0] == numbers[1, 1]
    assert [int(figures.colour_numbers(ids[i, j : j + 1])[0]) for i in (0, 1) for j in (0, 1)] == [
        int(n) for n in numbers.ravel()
    ]
    assert set(figures.colour_numbers(np.arange(200))) == set(range(len(figures.PALETTE)))


def test_an_overlay_enlarges_by_whole_voxels_and_colours_nothing_but_rims() -> None:
    image = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    labels = np.zeros((20, 30), np.uint64)
    labels[5:15, 5:15] = 7
    picture = figures.overlay(image, labels, 100, 500, 120)
    assert picture.shape == (80, 120, 3)
    is_coloured = (picture != picture[..., :1]).any(axis=2)
    large = np.repeat(np.repeat(labels, 4, 0), 4, 1)
    assert is_coloured.any()
    assert not is_coloured[large == 0].any()
    assert not is_coloured[22:58, 22:58].any()
    assert (picture[:4] == 0).all()
    assert (picture[-4:] == 255).all()


def test_a_reference_is_drawn_in_dashed_white() -> None:
    labels = np.zeros((20, 20), int)
    reference = labels.copy()
    reference[4:16, 4:16] = 1
    picture = figures.overlay(labels, labels, 0, 1, 80, reference)
    rim = figures.outlines(np.repeat(np.repeat(reference, 4, 0), 4, 1))
    white = (picture == 255).all(axis=2)
    assert 0.3 < white[rim].mean() < 0.7


def test_a_montage_keeps_every_pixel_under_captions_and_over_none() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(3)]
    sheet = imread(io.BytesIO(figures.png(figures.montage(pictures, ["", "", ""], 2))))
    sheet = np.rint(255 * sheet[..., :3]).astype(np.uint8)
    assert np.array_equal(sheet[:40, :60], pictures[0])
    assert np.array_equal(sheet[:40, -60:], pictures[1])
    assert np.array_equal(sheet[-40:, :60], pictures[2])


@pytest.mark.parametrize(("most", "length"), [(99, 50), (100, 100), (0.3, 0.2), (7, 5), (2.5, 2)])
def test_a_scale_bar_has_a_round_length(most: float, length: float) -> None:
    assert figures.round_length(most) == pytest.approx(length)


def test_objects_go_by_where_most_of_them_lies_and_none_is_cut() -> None:
    labels = np.zeros((4, 12), np.uint64)
    labels[:2, 0:8], labels[2:, 3:12] = 11, 22
    trained = np.zeros((4, 12), bool)
    trained[:, :6] = True
    left = figures.untrained(labels, trained)
    assert set(np.unique(left)) == {0, 22}
    assert np.array_equal(left == 22, labels == 22)


def test_an_object_half_inside_stays() -> None:
    labels = np.full((2, 4), 3)
    trained = np.zeros((2, 4), bool)
    trained[:, :2] = True
    assert np.array_equal(figures.untrained(labels, trained), labels)


def test_one_frame_that_leaps_is_told_and_a_trend_is_not() -> None:
    trend = [60, 64, 67, 72, 75, 80, 84, 88]
    assert figures.deviating(trend) == []
    leap = trend.copy()
    leap[4] = 20
    assert figures.deviating(leap) == [4]
    assert figures.deviating([5, 5, 50, 5]) == []


def test_pictures_of_the_same_numbers_are_the_same_bytes() -> None:
    def drawn() -> bytes:
        return figures.png(figures.curves([0, 1, 2], {"objects": [3, 4, 9]}, "frame", "objects"))

    assert drawn() == drawn()
    assert drawn().startswith(b"\x89PNG")
