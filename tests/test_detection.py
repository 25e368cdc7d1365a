"""The benchmark of detection: what counts as found, and what is drawn from annotated sets."""

import csv
import json

import numpy as np
import pytest
import tifffile

from benchmarks import placed, spotters
from benchmarks.placed import Kind, Placed
from benchmarks.spotters import Candidates
from pipeline import localisation


def image(places, widths=0.0, side=96, sigma=1.3, light=100.0):
    """Spots in noise."""
    spot = localisation.spot((side, side), sigma)
    noise = np.random.default_rng(0).normal(0, 0.2, (side, side))
    voxels = noise + sum((light * spot(np.array(p)) for p in places), np.zeros((side, side)))
    at = np.array(places, float).reshape(-1, 2)
    return Placed("it", voxels.astype(np.float32), at, np.full(len(at), widths))


def test_each_annotation_is_found_once_and_all_else_is_false():
    seen = image([(20.0, 20.0), (60.0, 60.0)])
    found = Candidates(
        np.array([[20.5, 20.0], [19.5, 20.0], [80.0, 10.0], [61.0, 60.0]]),
        np.array([3.0, 2.0, 2.5, 1.0]),
    )
    assert spotters.f1([found], [seen], 3.0, 2.0) == pytest.approx(2 * 1 / (3 + 2))
    assert spotters.f1([found], [seen], 3.0, 1.0) == pytest.approx(2 * 2 / (4 + 2))


def test_the_best_threshold_leaves_out_what_is_false_where_strengths_allow_it():
    seen = image([(20.0, 20.0), (60.0, 60.0)])
    found = Candidates(
        np.array([[20.0, 20.0], [60.0, 60.0], [80.0, 10.0], [5.0, 5.0]]),
        np.array([3.0, 2.0, 1.0, 0.5]),
    )
    score, threshold = spotters.best([found], [seen], 3.0)
    assert score == 1.0
    assert 1.0 < threshold <= 2.0


@pytest.mark.parametrize("dark", [False, True])
def test_the_laplacian_of_gaussian_finds_bright_or_dark_spots(dark):
    seen = image([(20.3, 20.1), (60.2, 60.4), (33.0, 71.0)])
    if dark:
        seen = Placed(seen.name, -seen.voxels, seen.places, seen.widths)
    found = spotters.laplacian(seen, 3.7, dark)
    assert spotters.best([found], [seen], 1.0)[0] == 1.0


def test_crops_hold_one_object_that_stands_free_and_lie_in_the_image():
    free, pair = (30.0, 30.0), [(70.0, 70.0), (70.0, 74.0)]
    seen = image([free, *pair, (2.0, 50.0)])
    kind = Kind("it", 4.0, 3.0, (seen,), (seen,))
    drawn = list(placed.crops_of(kind, 17, np.random.default_rng(0)))
    assert [crop.shape for crop in drawn] == [(17, 17)]
    np.testing.assert_array_equal(drawn[0], seen.voxels[22:39, 22:39])


def test_a_coarser_image_has_the_means_of_its_voxels():
    fine = np.arange(5 * 6, dtype=np.float32).reshape(5, 6)
    np.testing.assert_array_equal(placed.coarse(fine, 2)[0], [3.5, 5.5, 7.5])
    assert placed.coarse(fine, 2).shape == (2, 3)


def test_spots_are_learned_from_on_the_left_third_and_measured_on_the_rest(tmp_path):
    folder = tmp_path / "dev_spots_points"
    for name in ("images", "points"):
        (folder / name).mkdir(parents=True)
    seen = image([(20.0, 20.0), (50.0, 31.0), (60.0, 60.0)])
    tifffile.imwrite(folder / "images" / "some.tif", seen.voxels)
    with (folder / "points" / "some.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["y", "x", "y_refined", "x_refined", "refined_ok"])
        table.writerows([[y, x, y + 0.1, x, "True"] for y, x in seen.places])
    (kind,) = placed.kinds(tmp_path)["dev_spots_points"]()
    assert kind.shots[0].places == pytest.approx(np.array([[20.1, 20.0], [50.1, 31.0]]))
    assert kind.tests[0].places == pytest.approx(np.array([[60.1, 28.0]]))
    assert kind.tests[0].voxels.shape == (96, 64)


def test_labelled_objects_are_at_their_centroids_and_known_to_be_dark(tmp_path):
    folder = tmp_path / "dev_bbbc039_nuclei"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    y, x = np.indices((64, 64))
    labels = np.where(np.hypot(y - 30, x - 25) <= 9, 3, 0).astype(np.uint16)
    for stem in ("a", "b"):
        tifffile.imwrite(folder / "images" / f"{stem}.tif", (200 - labels * 30).astype(np.uint8))
        tifffile.imwrite(folder / "labels" / f"{stem}.tif", labels)
    (folder / "split.json").write_text(json.dumps({"shots": ["a"], "test": ["b"]}))
    (kind,) = placed.kinds(tmp_path)["dev_bbbc039_nuclei"]()
    assert kind.dark
    assert kind.tests[0].places == pytest.approx(np.array([[30.0, 25.0]]))
    assert kind.diameter == pytest.approx(18, abs=1)
    assert kind.factor == 2
