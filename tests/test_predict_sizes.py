"""More voxels than any disk holds: ids stay exact, by arithmetic alone."""

import numpy as np
import pandas as pd
import pytest

from pipeline import labelling, objects, sampling, tables, volumes
from pipeline.labelling import Lattice
from pipeline.tiles import Box, Level

GIANT = (2**20, 2**21, 2**21 - 1)
"""Sides of a frame of nearly 2^62 voxels: two have ids up to nearly 2^63."""
FAR = np.array([[side - back] for side, back in zip(GIANT, (2, 4, 6), strict=True)])
NEXT = FAR + np.array([[0], [0], [1]])


def lattice(fine, step=1):
    return Lattice((float(step),) * len(fine), tuple(-(-n // step) for n in fine), fine)


def exact(place, fine, frame):
    """An id by whole numbers without end."""
    address = frame
    for at, side in zip(place, fine, strict=True):
        address = address * side + at
    return 1 + address


@pytest.mark.parametrize("frame", [0, 1])
def test_an_id_is_exact_where_no_float_would_hold_it(frame):
    [identity] = lattice(GIANT).ids(FAR, frame).tolist()
    assert identity == exact(FAR[:, 0].tolist(), GIANT, frame)
    assert identity > 2**61
    assert identity != int(float(identity))


def test_ids_of_neighbours_differ_beyond_what_a_float_can_tell():
    places = np.concatenate([FAR, NEXT], axis=1)
    first, second = lattice(GIANT).ids(places, 1).tolist()
    assert second == first + 1
    assert float(second) == float(first)


def test_a_coarse_centre_of_a_giant_has_the_address_of_its_middle():
    [identity] = lattice(GIANT, 4).ids(FAR // 4, 0).tolist()
    assert identity == exact([4 * int(at // 4) + 2 for at in FAR[:, 0]], GIANT, 0)


def test_a_frame_of_more_voxels_than_signed_ids_can_count_is_refused():
    with pytest.raises(ValueError, match="larger than the maximum possible size"):
        lattice((2**21, 2**21, 2**21)).ids(FAR, 0)


def twins():
    """Labels of two objects of neighbouring ids in a box at the far corner of the last frame."""
    places = np.concatenate([FAR, NEXT], axis=1)
    ids = lattice(GIANT).ids(places, 1)
    labels = np.zeros((4, 4, 8), np.uint64)
    labels[1:, 2:, 2], labels[1:, 2:, 3] = ids
    return labels, ids


def test_giant_ids_survive_a_store_and_its_levels(tmp_path):
    labels, ids = twins()
    level = Level(0, (1, 1, 1), (4, 4, 8), (4, 4, 4), (4, 4, 8))
    volumes.create(tmp_path / "labels", [level], "zyx", np.uint64, "labels")
    volumes.write_shard(tmp_path / "labels", level, Box((0, 0, 0), level.shape), labels)
    read = volumes.open_level(tmp_path / "labels", 0)[:]
    assert read.dtype == np.uint64
    assert (read == labels).all()
    coarse = sampling.every(read[1:], (1, 2, 1))
    assert set(np.unique(coarse).tolist()) == {0, *ids.tolist()}


def test_giant_ids_survive_the_table(tmp_path):
    labels, ids = twins()
    start = tuple(side - n for side, n in zip(GIANT, labels.shape, strict=True))
    halves = []
    for first in (0, 2):
        here = labels[first : first + 2]
        owned = ids if first == 2 else ids[:0]
        rows = objects.parts(
            here,
            [np.ones(here.shape, np.uint16)],
            (here > 0).astype(np.uint16) * labelling.CERTAIN,
            here > 0,
            (start[0] + first, *start[1:]),
            "zyx",
            ["a"],
            1,
            owned,
        )
        halves.append(tmp_path / f"{first}.parquet")
        rows.to_parquet(halves[-1])
    measure = tables.Measure("zyx", dict.fromkeys("zyx", 1.0), ["a"], (2, *GIANT), (8, 8, 8))
    begin = (1, *start)
    group = tables.Group(begin, (2, *GIANT), halves)
    finished = tables.finish([group], tmp_path / "table.parquet", measure)
    table = pd.read_parquet(tmp_path / "table.parquet")
    assert table.index.dtype == np.int64
    assert table.index.tolist() == ids.tolist()
    assert table["voxels"].tolist() == [6, 6]
    assert table["last_x"].tolist() == [GIANT[2] - 6, GIANT[2] - 5]
    assert finished.objects == 2
    assert finished.orphans == ()
    assert np.isfinite(table.to_numpy(float)).all()
