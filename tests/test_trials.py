"""Trials: what is found agrees with what is there, and examples part without sharing an object."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline import grids, metrics, network, trials
from pipeline.distances import geometry
from pipeline.shots import Example, Shot
from pipeline.simulate import ellipsoids
from pipeline.topology import Architecture

SHAPES = {2: (90, 120), 3: (20, 40, 56)}
DIAMETER = 10.0


def scene(axes, count=20, seed=0):
    generator = np.random.default_rng(seed)
    return ellipsoids(SHAPES[axes], (1.0,) * axes, DIAMETER, count, generator)


def example(labels, known=None):
    image = labels.astype(np.float32)
    return Example(image, labels, np.ones(labels.shape, bool) if known is None else known)


def reading(axes, tile=32):
    distances = geometry((DIAMETER,) * axes, 0.1, unit=(DIAMETER,) * axes, hops=0)
    return trials.Reading(distances, 0.5, (tile,) * axes)


def perfect(labels):
    """What the best network would say of these objects."""
    shot = Shot.of(example(labels))
    logit = 20 * shot.foreground.numpy() - 10
    return np.concatenate([logit[None], shot.displacement.numpy() / DIAMETER])


def found_from(labels, factors, monkeypatch):
    monkeypatch.setattr(trials, "output", lambda *_: perfect(labels))
    image = labels.astype(np.float32)
    return trials.segmented(None, image, factors, reading(labels.ndim))


def as_sets(labels):
    """Objects as the sets of their voxels: whatever their numbers."""
    flat = labels.ravel()
    return {np.flatnonzero(flat == number).tobytes() for number in np.unique(flat[flat > 0])}


@pytest.mark.parametrize("axes", [2, 3])
def test_a_perfect_output_gives_back_the_objects(axes, monkeypatch):
    labels = scene(axes)
    assert as_sets(found_from(labels, (1,) * axes, monkeypatch)) == as_sets(labels)


@pytest.mark.parametrize("axes", [2, 3])
def test_a_coarse_output_gives_as_many_objects_at_full_resolution(axes, monkeypatch):
    labels, factors = scene(axes), (1,) * (axes - 2) + (2, 2)
    fine = labels.repeat(2, axis=-1).repeat(2, axis=-2)
    found = found_from(labels, factors, monkeypatch)
    assert metrics.match(found, fine, 0.8) == metrics.Score(int(labels.max()), 0, 0)


def test_objects_that_leave_no_background_are_all_found(monkeypatch):
    labels = np.ones((12, 20), int)
    labels[:, 10:] = 2
    assert as_sets(found_from(labels, (1, 1), monkeypatch)) == as_sets(labels)


def test_nothing_is_found_where_nothing_is(monkeypatch):
    labels = np.zeros((30, 30), int)
    found = found_from(labels, (1, 1), monkeypatch)
    assert not found.any()
    assert trials.score(found, labels, np.ones(labels.shape, bool)) == 1.0


def untrained(axes):
    """A plain network with weights of no meaning."""
    generator = torch.Generator().manual_seed(0)
    result = network.plain(Architecture("zyx"[-axes:], "trivial", 1, 4, ((2,) * axes,)))
    for parameter in result.parameters():
        fan = parameter[0].numel()
        parameter.data = torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5
    return result


@pytest.mark.parametrize("axes", [2, 3])
def test_tiles_change_nothing_of_what_the_network_says(axes):
    shape = (45, 70) if axes == 2 else (11, 18, 27)
    image = np.random.default_rng(0).random(shape, np.float32)
    whole, *tiled = (trials.output(untrained(axes), image, (t,) * axes) for t in (128, 8, 20))
    assert whole.shape == (1 + axes, *shape)
    for output in tiled:
        assert np.allclose(output, whole, atol=1e-5 * abs(whole).max())


def test_an_image_continues_as_its_mirror_image():
    image = np.random.default_rng(0).random((32, 40), np.float32)
    judge = untrained(2)
    context = grids.grid(judge.architecture, image.shape, (64, 64)).context
    beyond = np.pad(image, [(c, c) for c in context], mode="symmetric")
    with torch.no_grad():
        expected = judge(torch.as_tensor(beyond)[None, None])[0].numpy()
    inner = tuple(slice(c, -c) for c in context)
    expected = expected[(slice(None), *inner)]
    output = trials.output(judge, image, (16, 16))
    assert np.allclose(output, expected, atol=1e-5 * abs(expected).max())


def known(labels, stop):
    """Everything left of a column."""
    where = np.zeros(labels.shape, bool)
    where[..., :stop] = True
    return where


@pytest.mark.parametrize("axes", [2, 3])
def test_equal_labels_score_1_whatever_their_numbers(axes):
    labels = scene(axes)
    renamed = np.where(labels, labels.max() + 1 - labels, 0)
    everywhere = np.ones(labels.shape, bool)
    assert trials.score(renamed, labels, everywhere) == 1.0
    for part in example(labels).parted(0.4):
        assert trials.score(renamed, labels, part.known) == 1.0


def squares():
    labels = np.zeros((40, 80), int)
    for number, (row, column) in enumerate(itertools.product((5, 25), (5, 25, 45, 65)), start=1):
        labels[row : row + 10, column : column + 10] = number
    return labels


def test_what_lies_where_nothing_is_known_does_not_count():
    labels = squares()
    found = np.where(known(labels, 40), labels, 0)
    found[:, 60:63] = 50
    assert trials.score(found, labels, known(labels, 40)) == 1.0
    assert trials.score(found, labels, known(labels, 80)) < 0.6


def test_an_object_counts_where_most_of_it_is_known():
    labels = squares()
    labels[labels % 4 == 3] = 0
    found = labels.copy()
    found[5:15, 36:46], found[25:35, 35:43] = 50, 51
    # Of the first 4 of 10 columns are known, of the second 5 of 8.
    assert trials.score(found, labels, known(labels, 40)) == pytest.approx(4 / 5)


def test_false_and_missed_objects_lower_the_score_alike():
    labels, everywhere = squares(), np.ones((40, 80), bool)
    more, fewer = labels.copy(), labels.copy()
    more[18:22, 2:78] = 50
    fewer[labels == 3] = 0
    assert trials.score(more, labels, everywhere) == pytest.approx(8 / 9)
    assert trials.score(fewer, labels, everywhere) == pytest.approx(7 / 8)


def test_an_object_counts_at_every_overlap_that_it_reaches():
    labels = np.zeros((20, 20), int)
    labels[5:15, 5:15] = 1
    found = labels.copy()
    found[5:15, 5:8] = 0
    assert trials.score(found, labels, np.ones(labels.shape, bool)) == pytest.approx(3 / 5)


PARTED = list(itertools.product([2, 3], [0.2, 0.5], range(3)))


@pytest.mark.parametrize(("axes", "fraction", "seed"), PARTED)
def test_parts_are_disjoint_and_together_all_that_is_known(axes, fraction, seed):
    labels = scene(axes, seed=seed)
    where = np.random.default_rng(seed).random(labels.shape) < 0.7
    first, second = example(labels, where).parted(fraction)
    assert not (first.known & second.known).any()
    assert ((first.known | second.known) == where).all()
    for part in (first, second):
        assert part.image.shape == labels.shape
        assert (part.labels == labels).all()


@pytest.mark.parametrize(("axes", "fraction", "seed"), PARTED)
def test_an_object_belongs_to_one_part_alone(axes, fraction, seed):
    labels = scene(axes, seed=seed)
    whole = example(labels)
    first, second = whole.parted(fraction)
    numbers = [set(np.unique(labels[part.known])) - {0} for part in (first, second)]
    assert not numbers[0] & numbers[1]
    assert first.objects() + second.objects() == whole.objects()


@pytest.mark.parametrize(("axes", "fraction", "seed"), PARTED)
def test_the_second_part_holds_the_fraction_that_is_asked_for(axes, fraction, seed):
    whole = example(scene(axes, seed=seed))
    assert whole.parted(fraction)[1].objects() == pytest.approx(fraction * whole.objects(), abs=1)


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_without_an_object_the_second_part_has_the_fraction_of_the_length(fraction):
    _, second = example(np.zeros((40, 80), int)).parted(fraction)
    assert second.known.mean() == pytest.approx(fraction)


@pytest.mark.parametrize(("shape", "axis"), [((60, 120), 1), ((120, 60), 0), ((90, 40, 60), 2)])
def test_the_cut_goes_across_the_longer_side_in_the_plane(shape, axis):
    labels = ellipsoids(shape, (1.0,) * len(shape), DIAMETER, 15, np.random.default_rng(0))
    first, second = example(labels).parted(0.4)
    middles = [
        [ndimage.center_of_mass(labels == n)[axis] for n in np.unique(labels[part.known])[1:]]
        for part in (first, second)
    ]
    assert max(middles[0]) < min(middles[1])
