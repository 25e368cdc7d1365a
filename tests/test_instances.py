"""Objects by votes: whole, separate, and the same from any piece of the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.instances import assign, centres, geometry
from pipeline.labelling import label, refined, window
from pipeline.shots import Example, Shot
from pipeline.tiles import Box, boxes


def votes(labels):
    """What a perfect network says about these labels, in units of one voxel."""
    shot = Shot.of(Example(labels.astype(np.float32), labels, np.ones(labels.shape, bool)))
    logit = np.where(labels, 5.0, -5.0)[None].astype(np.float32)
    return np.concatenate([logit, shot.displacement.numpy()])


def whole(labels, diameter, smallest=0.1):
    shape = geometry((float(diameter),) * labels.ndim, smallest, (1.0,) * labels.ndim)
    output = votes(labels)
    is_centre = centres(output[0] > 0, output[1:], shape)
    return is_centre, assign(output[0] > 0, output[1:], is_centre, shape)


def same_partition(found, expected):
    pairs = {(int(f), int(e)) for f, e in zip(found.ravel(), expected.ravel(), strict=True)}
    return len(pairs) == len({f for f, _ in pairs}) == len({e for _, e in pairs})


def test_abutting_objects_stay_separate():
    labels = np.zeros((20, 40), int)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    assert same_partition(whole(labels, 10)[1], labels)


def test_a_long_object_stays_whole():
    labels = np.zeros((16, 60), int)
    labels[6:10, 10:34] = 1
    assert same_partition(whole(labels, 12)[1], labels)


def test_objects_in_depth_are_found():
    z, y, x = np.indices((24, 30, 30))
    labels = np.where((z - 8) ** 2 + (y - 10) ** 2 + (x - 9) ** 2 < 36, 1, 0)
    labels[(z - 15) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 36] = 2
    assert same_partition(whole(labels, 12)[1], labels)


def test_no_object_gives_no_centre():
    is_centre, owner = whole(np.zeros((20, 20), int), 10)
    assert not is_centre.any()
    assert not owner.any()


def test_specks_below_the_smallest_object_are_none():
    labels = np.zeros((30, 30), int)
    labels[3:5, 3:5], labels[10:20, 10:20] = 1, 2
    assert len(np.unique(whole(labels, 10, smallest=0.15)[1])) == 2


def test_of_equal_centres_the_first_in_address_order_wins():
    foreground = np.ones((9, 9), bool)
    shape = geometry((9.0, 9.0), 0.01, (1.0, 1.0))
    is_centre = centres(foreground, np.zeros((2, 9, 9), np.float32), shape)
    first = np.argwhere(is_centre)[0]
    assert first.tolist() == [1, 1]


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (4, 4), (1, 2)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.integers(5, 40))
def test_any_box_gets_the_labels_that_the_whole_gets(factors, seed, side):
    """Random votes: plateaus, ties and votes out of reach included."""
    generator = np.random.default_rng(seed)
    shape = (33, 29)
    full = tuple(n * f - (f > 1) for n, f in zip(shape, factors, strict=True))
    logit = generator.normal(0, 2, shape)
    output = np.stack([logit, *generator.normal(0, 0.4, (2, *shape))]).astype(np.float32)
    size = geometry((6.0, 5.0), 0.1, (6.0, 5.0))

    def labels_of(space):
        around = window(space, factors, shape, size)
        cut = output[(slice(None), *around.slices)]
        return label(cut, around, space, 3, factors, full, size, 0.5)

    expected, owned = labels_of(Box((0, 0), full))
    assert len(owned)
    pieces = []
    for box in boxes(full, (side, side + 3)):
        found, here = labels_of(box)
        assert (found == expected[box.slices]).all()
        pieces.append(here)
    assert sorted(np.concatenate(pieces).tolist()) == sorted(owned.tolist())


def test_an_id_is_the_address_of_its_centre():
    labels = np.zeros((12, 20), int)
    labels[3:8, 4:9] = 1
    size = geometry((5.0, 5.0), 0.1, (5.0, 5.0))
    output = votes(labels)
    output[1:] /= 5
    box = Box((0, 0), labels.shape)
    found, owned = label(output, box, box, 2, (1, 1), labels.shape, size, 0.5)
    assert owned.tolist() == [1 + 2 * 240 + 5 * 20 + 6]
    assert (found[labels == 1] == owned[0]).all()


@given(st.integers(0, 1000), st.sampled_from([(1, 1), (2, 1), (2, 4)]))
def test_interpolation_keeps_constants_and_linear_ramps(seed, factors):
    level = np.random.default_rng(seed).normal()
    flat = refined(np.full((5, 6), level, np.float32), factors)
    assert np.allclose(flat, np.float32(level))
    ramp = refined(np.arange(6, dtype=np.float32)[None], (1, 2))[0]
    assert np.allclose(ramp[1:-1], np.arange(12)[1:-1] / 2 - 0.25)
