"""Between lattices of different voxels: constants and ramps stay, and pieces equal the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import resample
from pipeline.tiles import Box

STEPS = st.floats(0.5, 4)


def at(start, stop, step):
    return (resample.centres_in_fine(start, stop, step),)


@given(step=STEPS, side=st.integers(1, 50), level=st.floats(-5, 5))
def test_constants_stay(step, side, level):
    values = np.full(side, level, np.float32)
    places = at(0, resample.coarse_shape((side,), (step,))[0], step)
    found = resample.interpolated(values, Box((0,), (side,)), places, (side,))
    assert np.allclose(found, np.float32(level))


@given(step=STEPS, side=st.integers(10, 50))
def test_ramps_stay_but_at_the_edges(step, side):
    values = np.arange(side, dtype=np.float32)
    places = at(0, resample.coarse_shape((side,), (step,))[0], step)
    found = resample.interpolated(values, Box((0,), (side,)), places, (side,))
    inside = (places[0] >= 0) & (places[0] <= side - 1)
    assert np.allclose(found[inside], places[0][inside], atol=1e-4)


@given(step=STEPS, side=st.integers(8, 60), seed=st.integers(0, 1000), data=st.data())
def test_a_piece_gets_what_the_whole_gets(step, side, seed, data):
    values = np.random.default_rng(seed).random((side, 3), np.float32)
    coarse = resample.coarse_shape((side,), (step,))[0]
    start = data.draw(st.integers(0, coarse - 1))
    stop = data.draw(st.integers(start + 1, coarse))
    across = np.arange(3.0)
    shape, all_of_it = (side, 3), Box((0, 0), (side, 3))
    whole = resample.interpolated(values, all_of_it, (*at(0, coarse, step), across), shape)
    places = (*at(start, stop, step), across)
    around = resample.needed(places, shape)
    piece = resample.interpolated(values[around.slices], around, places, shape)
    assert (piece == whole[start:stop]).all()


def test_halving_and_enlarging_put_centres_where_they_lie():
    assert resample.centres_in_fine(0, 3, 2).tolist() == [0.5, 2.5, 4.5]
    assert resample.centres_in_coarse(0, 4, 2).tolist() == [-0.25, 0.25, 0.75, 1.25]


@pytest.mark.parametrize(("side", "step", "expected"), [(10, 2, 5), (11, 2, 6), (3, 0.1, 30)])
def test_the_coarser_lattice_covers_the_finer(side, step, expected):
    assert resample.coarse_shape((side,), (step,)) == (expected,)
