"""Phantoms are what they are asked to be: so many objects, of such size, shape and place."""

import math

import numpy as np
import pytest
from scipy import ndimage

from pipeline.phantoms import SHAPES, Specimen, phantom

FIELDS = {
    "plane": ((150, 150), (1.0, 1.0)),
    "cube": ((56, 56, 56), (1.0, 1.0, 1.0)),
    "flat": ((22, 64, 64), (2.5, 1.0, 1.0)),
}


def specimen(shape="round", diameter=10.0, cover=0.2, **given):
    """Objects of one shape and size that may not overlap, unless `given` says otherwise."""
    values = {
        "shapes": (shape,),
        "diameter_voxels": (diameter, diameter),
        "variation": (0.0, 0.0),
        "cover": (cover, cover),
        "clustering": (0.0, 0.0),
        "alignment": (0.0, 0.0),
        "overlap": 0.0,
    }
    return Specimen(**values | given)


def drawn(field, seed=0, **given):
    return phantom(specimen(**given), *FIELDS[field], np.random.default_rng(seed))


def uncut(found):
    """Where the voxels of each object lie that the field's border does not cut."""
    for number, box in enumerate(ndimage.find_objects(found.labels), start=1):
        if all(s.start > 0 and s.stop < n for s, n in zip(box, found.labels.shape, strict=True)):
            yield np.argwhere(found.labels == number)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_label_is_one_object_in_one_piece(field, shape):
    """Unless the border cuts through it; thin ones must be wider than a voxel."""
    found = drawn(field, shape=shape, diameter=14.0)
    for place in uncut(found):
        number = found.labels[tuple(place[0])]
        assert ndimage.label(found.labels == number, np.ones((3,) * found.labels.ndim))[1] == 1


@pytest.mark.parametrize("field", FIELDS)
def test_labels_are_numbered_without_a_gap(field):
    found = drawn(field, shapes=tuple(SHAPES), cover=0.4, overlap=0.2)
    assert np.unique(found.labels).tolist() == list(range(found.labels.max() + 1))


@pytest.mark.parametrize("field", FIELDS)
def test_there_is_depth_where_there_is_an_object_and_nowhere_else(field):
    found = drawn(field, shapes=tuple(SHAPES), cover=0.4, overlap=0.2)
    assert ((found.depth > 0) == (found.labels > 0)).all()


def test_depth_grows_by_a_voxel_from_voxel_to_voxel():
    found = drawn("plane", diameter=24.0)
    away = ndimage.distance_transform_edt(found.labels > 0)
    for place in uncut(found):
        depth, edge = (values[tuple(place.T)] for values in (found.depth, away))
        assert depth[edge == 1].mean() == pytest.approx(1.0, abs=0.35)
        assert np.corrcoef(depth, edge)[0, 1] > 0.95
        assert depth.max() < 1.2 * 24 / 2


@pytest.mark.parametrize("field", FIELDS)
def test_equal_generators_make_equal_fields(field):
    given = {"shapes": tuple(SHAPES), "variation": (0.0, 0.4), "clustering": (0.0, 1.0)}
    first, again, other = (drawn(field, seed, **given) for seed in (1, 1, 2))
    assert (first.labels == again.labels).all()
    assert (first.depth == again.depth).all()
    assert (first.labels != other.labels).any()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("cover", [0.05, 0.2, 0.35])
def test_the_field_is_covered_as_asked_where_there_is_room(field, cover):
    # What the border cuts off, or others hide, counts as covered.
    covered = [
        (drawn(field, seed, cover=cover, overlap=0.3).labels > 0).mean() for seed in range(3)
    ]
    assert 0.75 * cover <= np.mean(covered) <= 1.1 * cover


def test_drawing_ends_where_no_place_is_left():
    assert 0.4 < (drawn("plane", cover=3.0).labels > 0).mean() < 0.8


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("shape", ["round", "elliptic", "rod", "filament"])
def test_objects_have_the_diameter_that_is_asked_for(field, shape):
    """Of the disc or ball of their size, in voxels of the finest axis."""
    axes, voxel = len(FIELDS[field][0]), math.prod(FIELDS[field][1])
    ball = math.pi / (4 if axes == 2 else 6)
    diameters = [
        (len(place) * voxel / ball) ** (1 / axes)
        for seed in range(6)
        for place in uncut(drawn(field, seed, shape=shape, diameter=11.0, cover=0.1))
    ]
    assert len(diameters) >= 5
    assert np.mean(diameters) == pytest.approx(11.0, rel=0.03)
    assert np.std(diameters) < 0.6


def test_diameters_vary_as_asked():
    sizes = [
        len(place)
        for seed in range(6)
        for place in uncut(drawn("plane", seed, cover=0.1, variation=(0.2, 0.2)))
    ]
    assert np.std(np.log(np.sqrt(sizes))) == pytest.approx(0.2, rel=0.25)


def test_the_typical_diameter_lies_in_its_range():
    found = [drawn("plane", seed, diameter_voxels=(6.0, 20.0)).diameter for seed in range(20)]
    assert min(found) < 10 < 13 < max(found)
    assert all(6 <= diameter <= 20 for diameter in found)


def test_what_is_round_is_round_in_space_and_not_in_voxels():
    spread = [
        place.std(axis=0) * FIELDS["flat"][1]
        for seed in range(5)
        for place in uncut(drawn("flat", seed, diameter=18.0))
    ]
    across, *plane = np.mean(spread, axis=0)
    assert across == pytest.approx(np.mean(plane), rel=0.1)


def directions(found):
    """The long axis of every uncut object, as an angle in the plane."""
    for place in uncut(found):
        values, axes = np.linalg.eigh(np.cov(place.T))
        assert values[1] > 2 * values[0]
        yield math.atan2(*axes[:, 1])


def test_aligned_objects_point_the_same_way_and_others_anywhere():
    agreement = {}
    for alignment in (0.0, 1.0):
        found = drawn("plane", shape="rod", diameter=9.0, alignment=(alignment, alignment))
        agreement[alignment] = abs(np.mean([np.exp(2j * angle) for angle in directions(found)]))
    assert agreement[0.0] < 0.5
    assert agreement[1.0] > 0.95


def test_clustered_objects_lie_closer_together():
    nearest = {}
    for clustering in (0.0, 1.0):
        found = drawn("plane", diameter=8.0, cover=0.1, clustering=(clustering, clustering))
        number = range(1, found.labels.max() + 1)
        middle = np.array(ndimage.center_of_mass(found.labels > 0, found.labels, number))
        apart = np.linalg.norm(middle[:, None] - middle, axis=-1)
        np.fill_diagonal(apart, np.inf)
        nearest[clustering] = np.median(apart.min(axis=1))
    assert nearest[1.0] < 0.9 * nearest[0.0]


@pytest.mark.parametrize("field", ["plane", "cube"])
@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_no_more_of_an_object_is_hidden_than_may_be(field, overlap):
    """Round ones of one size are known to be whole by their size."""
    seen = [
        len(place)
        for seed in range(3)
        for place in uncut(drawn(field, seed, diameter=12.0, cover=0.6, overlap=overlap))
    ]
    whole = [len(place) for seed in range(3) for place in uncut(drawn(field, seed, diameter=12.0))]
    least = min(seen) / np.median(whole)
    assert 1 - overlap - 0.15 < least
    if overlap:
        assert least < 0.85
