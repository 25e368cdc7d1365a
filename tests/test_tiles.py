"""Boxes cover, pyramids scale exactly, and every shard has one writer."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tiles import Box, boxes, phases, pyramid

SIDES = st.integers(1, 60)


@st.composite
def volumes(draw):
    axes = draw(st.sampled_from(["yx", "zyx", "tcyx", "tczyx"]))
    shape = tuple(draw(st.integers(1, 3)) if a in "tc" else draw(SIDES) for a in axes)
    space = [a for a in axes if a in "zyx"]
    chunk = tuple(draw(st.sampled_from([4, 8])) for _ in space)
    shard = tuple(c * draw(st.sampled_from([1, 2, 4])) for c in chunk)
    voxel = {a: draw(st.sampled_from([0.1, 0.3, 1.0])) for a in space}
    return axes, shape, voxel, chunk, shard, draw(st.integers(1, 30))


@given(st.lists(st.tuples(SIDES, st.integers(1, 20)), min_size=1, max_size=3))
def test_boxes_cover_every_voxel_once(sides):
    shape, side = zip(*sides, strict=True)
    seen = np.zeros(shape, int)
    for box in boxes(shape, side):
        seen[box.slices] += 1
    assert (seen == 1).all()


@given(st.integers(1, 40), st.integers(1, 9), st.data())
def test_boxes_over_a_region_are_those_that_touch_it(side, step, data):
    start = data.draw(st.integers(0, side - 1))
    stop = data.draw(st.integers(start + 1, side))
    touching = [b for b in boxes((side,), (step,)) if b.start[0] < stop and b.stop[0] > start]
    assert list(boxes((side,), (step,), Box((start,), (stop,)))) == touching


@given(volumes())
def test_levels_are_exact_powers_of_two_and_round_up(volume):
    axes, shape, voxel, chunk, shard, smallest = volume
    levels = pyramid(axes, shape, voxel, chunk, shard, smallest)
    for level in levels:
        assert all((f & (f - 1)) == 0 for f in level.factors)
        assert level.shape == tuple(-(-n // f) for n, f in zip(shape, level.factors, strict=True))
        assert all(s % c == 0 for s, c in zip(level.shard, level.chunk, strict=True))
    spatial = [n for n, a in zip(levels[-1].shape, axes, strict=True) if a in "zyx"]
    assert max(spatial) <= smallest


@given(volumes())
def test_halving_brings_voxels_nearer_to_cubes(volume):
    axes, shape, voxel, chunk, shard, smallest = volume
    for fine, coarse in itertools.pairwise(pyramid(axes, shape, voxel, chunk, shard, smallest)):
        size = [
            voxel[a] * f
            for a, f, n in zip(axes, fine.factors, fine.shape, strict=True)
            if a in "zyx" and n > 1
        ]
        halved = [
            a for a, f, g in zip(axes, fine.factors, coarse.factors, strict=True) if g == 2 * f
        ]
        assert halved
        for axis in halved:
            factor = dict(zip(axes, fine.factors, strict=True))[axis]
            assert voxel[axis] * factor < 2 * min(size)


@settings(max_examples=60)
@given(volumes(), st.integers(1, 64))
def test_every_shard_has_exactly_one_writer(volume, most):
    levels = pyramid(*volume)
    written = [
        (level.number, box)
        for phase in phases(levels, most)
        for tree in phase
        for level, box in tree.shards(levels)
    ]
    every = [(level.number, box) for level in levels for box in boxes(level.shape, level.shard)]
    assert sorted(written, key=repr) == sorted(every, key=repr)


@settings(max_examples=60)
@given(volumes(), st.integers(1, 64))
def test_a_tree_needs_only_itself_and_earlier_phases(volume, most):
    levels = pyramid(*volume)
    done = [np.zeros(level.shape, bool) for level in levels]
    for phase in phases(levels, most):
        before = [d.copy() for d in done]
        for tree in phase:
            own = [d.copy() for d in before]
            for level, box in tree.shards(levels):
                if level.number:
                    finer = levels[level.number - 1]
                    ratio = tuple(a // b for a, b in zip(level.factors, finer.factors, strict=True))
                    assert own[finer.number][box.refined(ratio).clipped(finer.shape).slices].all()
                own[level.number][box.slices] = True
                done[level.number][box.slices] = True
