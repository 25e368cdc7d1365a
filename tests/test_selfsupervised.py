"""One unlabelled crop is enough: laws of crops, scenes, votes, and of what is learned from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import bases, crops, detections, detectors, gathering, localisation, points, topology
from pipeline.crops import Crop, Range
from pipeline.noise import Noise
from pipeline.selfsupervised import Lesson
from pipeline.tiles import Box

SHOT_NOISE = Noise(1.0, 0.0, 1e-3)
LIGHT = localisation.spot((21, 21), 1.3)
HOW = gathering.gathering(3.2, 2.0, 4.0)


def spots(places, photons=1000.0, background=10.0, side=21, seed=0):
    """An image of Gaussian spots, in photons."""
    light = localisation.spot((side, side), 1.3)
    expected = background + sum(photons * light(np.array(place)) for place in places)
    return np.random.default_rng(seed).poisson(expected).astype(float)


def test_a_crop_knows_where_its_contrast_is_and_how_wide():
    crop = Crop.of(spots([(9.0, 11.5)], photons=1e5), SHOT_NOISE, "it")
    assert crop.middle == pytest.approx([-1.0, 1.5], abs=0.1)
    assert crop.diameter == pytest.approx(2.355 * 1.3, rel=0.2)


def test_a_crop_loses_noise_and_keeps_its_object():
    clean = 1000 * LIGHT(np.array([10.0, 10.0]))
    noisy = spots([(10.0, 10.0)])
    crop = Crop.of(noisy, SHOT_NOISE, "it")
    assert np.square(crop.object - clean).sum() < 0.3 * np.square(noisy - 10 - clean).sum()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.random.default_rng(0).poisson(10, (21, 21)).astype(float), "no contrast"),
        (spots([(1.0, 10.0)], 1e4), "cuts its object"),
        (spots([(5.0, 5.0), (15.0, 15.0)], 1e4), "two objects"),
    ],
)
def test_a_hopeless_crop_is_refused_with_the_reason(image, reason):
    with pytest.raises(ValueError, match=reason):
        Crop.of(image, SHOT_NOISE, "shot 1")


def test_a_neighbour_that_the_crop_cuts_is_no_part_of_its_object():
    alone = Crop.of(spots([(10.0, 10.0)], 1e5), SHOT_NOISE, "it")
    beside = Crop.of(spots([(10.0, 10.0), (9.0, 20.0)], 1e5), SHOT_NOISE, "it")
    assert beside.object.sum() == pytest.approx(alone.object.sum(), rel=0.05)
    assert beside.middle == pytest.approx(alone.middle, abs=0.1)


def test_a_clipped_background_is_not_taken_for_one_without_noise():
    clipped = np.maximum(spots([(10.0, 10.0)], 1e4) - 60, 0)
    assert Crop.of(clipped, None, "it").signal_to_noise < 500


def test_a_scene_knows_how_its_copies_were_moved():
    crop = Crop.of(spots([(10.3, 9.6)], photons=1e6, background=100.0), SHOT_NOISE, "it")
    one = crops.scene([crop], 48, 1, Range(0.0, 0.0, 0.0), np.random.default_rng(5))
    light = one.image - np.median(one.image)
    inside = np.abs(light) > 0.1 * light.max()
    found = [(light * at)[inside].sum() / light[inside].sum() for at in np.indices(light.shape)]
    expected = one.places[0] + one.turns[0] @ np.array([0.3, -0.4])
    assert found == pytest.approx(expected, abs=0.05)


def cast(side, seed):
    """Output of a network that votes, more or less, for 12 places."""
    generator = np.random.default_rng(seed)
    places = generator.uniform(4, side - 4, (12, 2))
    grid = np.indices((side, side)).astype(float)
    off = places[:, :, None, None] - grid
    nearest = np.hypot(off[:, 0], off[:, 1]).argmin(axis=0)
    moves = np.take_along_axis(off, nearest[None, None], axis=0)[0]
    far = np.hypot(*moves)
    output = np.concatenate([(3 - far)[None], (moves + generator.normal(0, 0.2, moves.shape)) / 4])
    return output.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_detections_of_pieces_are_those_of_the_whole_to_the_last_bit(seed):
    side, output = 64, cast(64, seed)
    whole = Box((0, 0), (side, side))
    every = detections.detect(detections.votes(output, whole, HOW), whole, HOW, 0.5)
    rows = []
    for corner in [(0, 0), (0, 24), (24, 0), (24, 24)]:
        stop = tuple(24 if a == 0 else side for a in corner)
        box = Box(corner, stop)
        seen = box.grown((HOW.halo,) * 2).clipped((side, side))
        votes = detections.votes(output[(slice(None), *seen.slices)], seen, HOW)
        part = detections.detect(votes, box, HOW, 0.5)
        rows += list(zip(map(tuple, part.bins), part.places, part.information, strict=True))
    rows.sort(key=lambda row: row[0])
    assert len(every.bins) >= 8
    assert [row[0] for row in rows] == sorted(map(tuple, every.bins))
    order = np.lexsort(every.bins.T[::-1])
    np.testing.assert_array_equal([row[1] for row in rows], every.places[order])
    np.testing.assert_array_equal([row[2] for row in rows], every.information[order])


def test_the_order_of_votes_changes_nothing():
    box = Box((0, 0), (48, 48))
    votes = detections.votes(cast(48, 1), box, HOW)
    order = np.random.default_rng(0).permutation(len(votes.weights))
    shuffled = detections.Votes(votes.places[order], votes.weights[order])
    first, second = (detections.detect(v, box, HOW, 0.5) for v in (votes, shuffled))
    np.testing.assert_array_equal(first.places, second.places)


def test_an_image_without_votes_has_no_detections():
    box = Box((0, 0), (16, 16))
    output = np.full((3, 16, 16), -50.0, np.float32)
    assert len(detections.detect(detections.votes(output, box, HOW), box, HOW, 0.0).bins) == 0


@pytest.fixture(scope="module")
def detector():
    """Trained for a few seconds on one noisy crop."""
    torch.set_num_threads(1)
    crop = Crop.of(spots([(10.2, 9.7)]) / 60, SHOT_NOISE.normalised(0, 60), "it")
    lesson = Lesson(60, 0.006, 4, 48, 6, Range(1.0, 0.0, 0.3), 0.3, 0.3, 0.1)
    architecture = topology.design("yx", (1.0, 1.0), "d4", 32, 2)
    return detectors.train([crop], architecture, bases.learned("spots_2d"), 4.0, lesson, 0)


def test_one_crop_teaches_to_find_all_objects_to_a_fraction_of_a_voxel(detector):
    places = [(12.2 + 15 * i, 12.7 + 15 * j) for i in range(5) for j in range(5)]
    found = detectors.points(detector, (spots(places, side=88, seed=3) / 60).astype(np.float32))
    own, theirs = points.matched(found.places, np.array(places), 2.0)
    assert len(own) == len(places)
    assert len(found.places) <= len(places) + 1
    errors = found.places[own] - np.array(places)[theirs]
    least = localisation.bound(LIGHT, np.array([10.0, 10.0]), 1000.0, 10.0)[0]
    assert np.sqrt(np.square(errors).mean()) < 2 * least


def test_objects_closer_than_two_diameters_stay_apart(detector):
    found = detectors.points(
        detector, (spots([(20.0, 20.0), (20.0, 26.0)], side=40) / 60).astype(np.float32)
    )
    assert len(found.places) == 2


def test_the_same_image_turned_has_the_same_objects_turned(detector):
    image = (spots([(10.3, 12.1), (30.2, 25.4)], side=40) / 60).astype(np.float32)
    straight = detectors.points(detector, image).places
    turned = detectors.points(detector, np.ascontiguousarray(np.rot90(image))).places
    back = np.stack([turned[:, 1], 39 - turned[:, 0]], axis=1)
    back = back[np.lexsort(back.T[::-1])]
    np.testing.assert_allclose(back, straight[np.lexsort(straight.T[::-1])], atol=0.02)


def test_what_cannot_be_learned_is_given_up_with_a_reason():
    crop = Crop.of(spots([(10.2, 9.7)]) / 60, SHOT_NOISE.normalised(0, 60), "it")
    lesson = Lesson(1, 1e-9, 1, 48, 6, Range(0.0, 0.0, 0.0), 0.3, 0.3, 0.1)
    architecture = topology.design("yx", (1.0, 1.0), "d4", 8, 1)
    with pytest.raises(ValueError, match="no training of 3 finds copies of the crop again"):
        detectors.train([crop], architecture, None, 4.0, lesson, 0)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"extent": 500.0}, "the crop is too large for this voxel size"),
        ({"signal_to_noise": 7.0}, "stands out 7 times the noise: choose a brighter one"),
        ({"signal_to_noise": 150.0}, "too like what lies around it"),
    ],
)
def test_what_is_given_up_says_what_may_help(known, reason):
    crop = replace(Crop.of(spots([(10.2, 9.7)]), SHOT_NOISE, "it"), **known)
    lesson = Lesson(1, 1e-9, 1, 48, 6, Range(0.0, 0.0, 0.0), 0.3, 0.3, 0.1)
    architecture = topology.design("yx", (1.0, 1.0), "d4", 8, 1)
    said = detectors.hopeless(crop, [0.4, 0.5], architecture, lesson)
    assert "no training of 2 finds copies of the crop again (F1 0.40, 0.50, 0.9 is asked)" in said
    assert reason in said


@pytest.mark.parametrize("freedom", [4, 1000])
def test_two_thirds_of_errors_lie_within_a_stated_deviation_whatever_their_tails(freedom):
    generator = np.random.default_rng(0)
    information = np.exp(generator.uniform(0, 8, 1000))
    off = generator.standard_t(freedom, (1000, 2)) * 1.3 * information[:, None] ** -0.45
    factor, exponent = detectors.deviation_law(information, off)
    for half in (information < np.exp(4), information >= np.exp(4)):
        stated = factor * information[half, None] ** exponent
        assert 0.64 < (np.abs(off[half]) <= stated).mean() < 0.73
