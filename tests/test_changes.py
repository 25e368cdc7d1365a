"""Laws of what becomes of objects between two segmentations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import changes


def told(before, after, overlap=0.5):
    return changes.fates(changes.shared(np.array(before), np.array(after)), overlap)


def test_nothing_changes_where_ids_are_others_but_places_are_not():
    found = told([0, 1, 1, 0, 2, 2], [0, 7, 7, 0, 9, 9])
    assert found.same == ((1, 7), (2, 9))
    assert found.counts() == dict.fromkeys(("moved", "split", "merged", "lost", "gained"), 0) | {
        "same": 2
    }


@pytest.mark.parametrize(
    ("before", "after", "kind", "value"),
    [
        ([1, 1, 0, 0], [0, 0, 0, 0], "lost", (1,)),
        ([0, 0, 0, 0], [0, 5, 5, 0], "gained", (5,)),
        ([1, 1, 1, 1, 0], [2, 2, 3, 3, 0], "split", {1: (2, 3)}),
        ([2, 2, 3, 3, 0], [1, 1, 1, 1, 0], "merged", {1: (2, 3)}),
        ([1, 1, 1, 0, 0], [0, 0, 4, 4, 4], "moved", ((1, 4),)),
        ([1, 1, 1, 1, 1, 1], [2, 2, 2, 2, 2, 3], "split", {1: (2, 3)}),
    ],
)
def test_each_fate_is_recognised(before, after, kind, value):
    found = told(before, after)
    assert getattr(found, kind) == value
    assert sum(found.counts().values()) == 1


def test_a_neighbour_that_only_touches_is_no_split():
    found = told([1, 1, 1, 1, 2, 2, 2, 2], [5, 5, 5, 6, 6, 6, 6, 6])
    assert set(found.same) == {(1, 5), (2, 6)}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_every_object_has_one_fate_and_time_turned_back_turns_it_round(pairs):
    before, after = np.array(pairs).T
    found, back = told(before, after), told(after, before)
    gone = [o for o, _ in (*found.same, *found.moved)]
    gone += [*found.split, *(o for many in found.merged.values() for o in many), *found.lost]
    assert set(gone) == set(before[before != 0].tolist())
    assert len(found.same) == len(back.same)
    assert (set(found.lost), set(found.gained)) == (set(back.gained), set(back.lost))
    assert found.split == back.merged


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40),
    st.integers(1, 39),
)
def test_pieces_tell_the_same_as_the_whole(pairs, cut):
    before, after = np.array(pairs).T
    pieces = [changes.shared(before[part], after[part]) for part in (slice(cut), slice(cut, None))]
    whole, parted = changes.shared(before, after), changes.joined(pieces)
    assert changes.fates(whole, 0.5) == changes.fates(parted, 0.5)
