"""Objects by votes: whole, separate, and the same from any piece of the image."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline import instances, labelling
from pipeline.distances import HOPS, geometry
from pipeline.labelling import Lattice, label, threshold, whole
from pipeline.shots import Example, Shot
from pipeline.tiles import Box, boxes


def output_for(labels):
    """What a perfect network says about these labels, in units of one voxel."""
    shot = Shot.of(Example(labels.astype(np.float32), labels, np.ones(labels.shape, bool)))
    logit = np.where(labels, 5.0, -5.0)[None].astype(np.float32)
    return np.concatenate([logit, shot.displacement.numpy()])


def found(labels, diameter, smallest=0.1):
    size = geometry((float(diameter),) * labels.ndim, smallest, (1.0,) * labels.ndim, HOPS)
    return whole(output_for(labels), plain(labels.shape), size, 0.5)


def plain(shape):
    """A network that works at full resolution."""
    return Lattice((1.0,) * len(shape), shape, shape)


def same_partition(found, expected):
    pairs = {(int(f), int(e)) for f, e in zip(found.ravel(), expected.ravel(), strict=True)}
    return len(pairs) == len({f for f, _ in pairs}) == len({e for _, e in pairs})


def defined(output, size, above):
    """Labels by their definition, voxel by voxel, for all of an image at once."""
    shape, axes = output.shape[1:], range(output.ndim - 1)
    steps = np.stack([np.rint(output[1 + a] * np.float32(size.unit[a])) for a in axes]).astype(int)
    near = np.stack([abs(steps[a]) <= size.reach[a] for a in axes]).all(axis=0)
    solid = (output[0] > above) & near
    target = np.indices(shape)
    for voxel in np.argwhere(near):
        moved = steps[(slice(None), *voxel)]
        for _ in range(size.hops):
            place = tuple(voxel + moved)
            if all(0 <= p < n for p, n in zip(place, shape, strict=True)) and solid[place]:
                further = moved + steps[(slice(None), *place)]
                moved = further if (abs(further) <= size.reach).all() else moved
        target[(slice(None), *voxel)] += moved
    votes = np.zeros(shape, int)
    for voxel in np.argwhere(solid):
        place = tuple(target[(slice(None), *voxel)])
        if all(0 <= p < n for p, n in zip(place, shape, strict=True)):
            votes[place] += 1
    gathered = tents = votes
    for axis, half in enumerate(size.blur):
        tent = half + 1 - abs(np.arange(-half, half + 1))
        gathered = ndimage.convolve1d(gathered, np.ones(2 * half + 1, int), axis, mode="constant")
        tents = ndimage.convolve1d(tents, tent, axis, mode="constant")
    rank = tents * votes.size + np.arange(votes.size)[::-1].reshape(shape)
    window = tuple(2 * apart + 1 for apart in size.apart)
    best = ndimage.maximum_filter(rank, size=window, mode="constant", cval=-1)
    centres = np.argwhere((rank == best) & (gathered >= size.votes))
    labels = np.zeros(shape, np.uint64)
    for voxel in np.argwhere(solid):
        off = centres - target[(slice(None), *voxel)]
        distance = ((off / size.catch) ** 2).sum(axis=1)
        caught = [i for i in np.lexsort((*off.T[::-1], distance)) if distance[i] <= 1]
        if caught:
            labels[tuple(voxel)] = 1 + np.ravel_multi_index(tuple(centres[caught[0]]), shape)
    return labels


def random_output(shape, seed, spread=0.4):
    """Random votes: plateaus, ties and votes out of reach included."""
    generator = np.random.default_rng(seed)
    displacement = generator.normal(0, spread, (len(shape), *shape))
    return np.stack([generator.normal(0, 2, shape), *displacement]).astype(np.float32)


def test_abutting_objects_stay_separate():
    labels = np.zeros((20, 40), int)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    assert same_partition(found(labels, 10), labels)


def test_a_long_object_stays_whole():
    labels = np.zeros((16, 60), int)
    labels[6:10, 10:34] = 1
    assert same_partition(found(labels, 12), labels)


def test_a_long_object_stays_whole_where_its_ends_point_halfway():
    labels = np.zeros((16, 60), int)
    labels[6:10, 10:34] = 1
    size = geometry((12.0, 12.0), 0.1, (1.0, 1.0), HOPS)
    halfway = output_for(labels)
    halfway[2] *= 0.5
    found = whole(halfway, plain(labels.shape), size, 0.5)
    assert same_partition(found, labels)
    once = dataclasses.replace(size, hops=0)
    assert not same_partition(whole(halfway, plain(labels.shape), once, 0.5), labels)


@pytest.mark.parametrize(("step", "moved"), [(2, 6), (3, 9), (4, 8), (7, 7)])
def test_a_pointer_is_followed_twice_and_never_out_of_reach(step, moved):
    size, box = geometry((8.0, 8.0), 0.01, (1.0, 1.0), HOPS), Box((0, 0), (8, 60))
    onward = output_for(np.ones(box.shape, int))
    onward[1], onward[2] = 0, step
    voxels = np.flatnonzero(np.indices(box.shape)[1] < 60 - size.reach[1])
    said = instances.pointers(onward, size)
    target = instances.targets(said, box, box, voxels, 0.0, size)
    assert size.reach == (10, 10)
    assert (target - np.unravel_index(voxels, box.shape) == [[0], [moved]]).all()


def test_objects_in_depth_are_found():
    z, y, x = np.indices((24, 30, 30))
    labels = np.where((z - 8) ** 2 + (y - 10) ** 2 + (x - 9) ** 2 < 36, 1, 0)
    labels[(z - 15) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 36] = 2
    assert same_partition(found(labels, 12), labels)


def test_no_object_gives_no_label():
    assert not found(np.zeros((20, 20), int), 10).any()


def test_specks_below_the_smallest_object_are_none():
    labels = np.zeros((30, 30), int)
    labels[3:5, 3:5], labels[10:20, 10:20] = 1, 2
    assert len(np.unique(found(labels, 10, smallest=0.15))) == 2


def test_of_equal_centres_the_first_in_address_order_wins():
    size = geometry((9.0, 9.0), 0.01, (1.0, 1.0), 0)
    output = np.zeros((3, 9, 9), np.float32)
    output[0] = 1
    labels = whole(output, plain((9, 9)), size, 0.5)
    assert np.unravel_index(int(labels[labels > 0].min()) - 1, (9, 9)) == (1, 1)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(17, 23), (30, 9), (7, 11, 13), (1, 12, 9)]),
    spread=st.sampled_from([0.02, 0.15, 0.4]),
    hops=st.integers(0, 3),
)
def test_labels_are_what_their_definition_says(seed, shape, spread, hops):
    size = geometry((5.0, 6.0, 5.0)[: len(shape)], 0.05, (6.0, 5.0, 5.0)[: len(shape)], hops)
    output = random_output(shape, seed, spread)
    assert (whole(output, plain(shape), size, 0.5) == defined(output, size, 0.0)).all()


def piecewise(output, lattice, size, tile, frame):
    """All blocks of an image from tiles that know their neighbours alone; ids of their centres."""
    above, shape = threshold(0.5), np.asarray(lattice.coarse)
    grid = list(boxes(lattice.coarse, tile))
    image = Box((0,) * len(tile), lattice.coarse)
    everything, votes = instances.pointers(output, size), {}
    for box in grid:
        near = box.grown(size.following).clipped(lattice.coarse)
        said = everything.cut(near, image)
        votes[box] = instances.votes(said, near, box, above, size, shape)
    centres = {}
    for box in grid:
        near = boxes(lattice.coarse, tile, box.grown(size.voting).clipped(lattice.coarse))
        centres[box] = instances.centres([votes[b] for b in near], box, size, shape)
    labels = np.zeros(lattice.fine, np.uint64)
    for box in grid:
        near = boxes(lattice.coarse, tile, box.grown(size.owning).clipped(lattice.coarse))
        known = np.concatenate([centres[b] for b in near], axis=1)
        fine = lattice.refined(box)
        if 0 in fine.shape:
            continue
        far = labelling.beside(lattice, size)
        around = lattice.coarsened(fine).grown(far).clipped(lattice.coarse)
        cut = everything.cut(around, image)
        labels[fine.slices] = label(cut, around, fine, known, frame, lattice, size, above).ids
    return labels, np.concatenate([lattice.ids(c, frame) for c in centres.values()])


@pytest.mark.parametrize("step", [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (1.0, 2.0), (1.37, 0.8)])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.integers(5, 40), hops=st.sampled_from([0, HOPS]))
def test_any_tiling_gives_the_labels_that_the_whole_gets(step, seed, side, hops):
    fine = tuple(int(n * s) - (s > 1) for n, s in zip((33, 29), step, strict=True))
    coarse = tuple(int(np.ceil(n / s)) for n, s in zip(fine, step, strict=True))
    lattice, size = Lattice(step, coarse, fine), geometry((6.0, 5.0), 0.1, (6.0, 5.0), hops)
    output = random_output(coarse, seed)
    expected = whole(output, lattice, size, 0.5)
    assert expected.any()
    labels, ids = piecewise(output, lattice, size, (side, side + 3), 0)
    assert (labels == expected).all()
    assert set(np.unique(labels[labels > 0]).tolist()) <= set(ids.tolist())
    assert len(set(ids.tolist())) == len(ids)


@given(step=st.floats(0.5, 5), side=st.integers(1, 60), cut=st.integers(1, 17))
def test_what_tiles_hold_tiles_the_image(step, side, cut):
    coarse = max(1, int(np.ceil(side / step - 1e-9)))
    lattice = Lattice((step,), (coarse,), (side,))
    spans = [lattice.refined(box) for box in boxes((coarse,), (cut,))]
    assert [s.start[0] for s in spans[1:]] == [s.stop[0] for s in spans[:-1]]
    assert (spans[0].start[0], spans[-1].stop[0]) == (0, side)
    for tile, span in zip(boxes((coarse,), (cut,)), spans, strict=True):
        if span.shape[0]:
            inside = lattice.coarsened(span)
            assert tile.start[0] <= inside.start[0] < inside.stop[0] <= tile.stop[0]


def test_an_id_is_the_address_of_its_centre():
    labels = np.zeros((12, 20), int)
    labels[3:8, 4:9] = 1
    size = geometry((5.0, 5.0), 0.1, (5.0, 5.0), HOPS)
    output = output_for(labels)
    output[1:] /= 5
    lattice = plain(labels.shape)
    found, ids = piecewise(output, lattice, size, (12, 20), 2)
    assert ids.tolist() == [1 + 2 * 240 + 5 * 20 + 6]
    assert (found[labels == 1] == ids[0]).all()


def test_what_is_no_number_points_nowhere():
    output = output_for(np.ones((6, 6), int))
    output[1, 2, 3] = np.nan
    said = instances.pointers(output, geometry((6.0, 6.0), 0.1, (1.0, 1.0), 0))
    assert said.steps[0, 2, 3] == said.void
    assert (said.steps[0] == said.void).sum() == 1


def test_offsets_before_a_voxel_are_half_of_all():
    earlier = instances._earlier((1, 2))
    every = set(itertools.product((-1, 0, 1), range(-2, 3)))
    assert {tuple(-o for o in offset) for offset in earlier} | set(earlier) | {(0, 0)} == every
