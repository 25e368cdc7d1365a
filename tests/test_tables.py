"""One table from many parts: the same whatever the units of work, with little kept in mind."""

import itertools
import random

import numpy as np
import pandas as pd
import polars
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import objects, tables
from pipeline.tiles import Box, boxes

VOXEL = {"z": 1.0, "y": 0.5, "x": 0.4}
REACH = 2
SHAPES = {"yx": (37, 41), "tyx": (3, 23, 29), "zyx": (11, 19, 23), "tzyx": (2, 7, 13, 11)}


def scene(shape, space, seed):
    """Labels whose ids are addresses of centres, none reaching further than REACH from its own."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint64)
    for _ in range(np.prod(shape) // 40):
        centre = [int(generator.integers(0, n)) for n in shape]
        sides = generator.integers(0, REACH + 1, (len(shape), 2))
        sides[: len(shape) - space] = 0
        span = [slice(max(c - a, 0), c + b + 1) for c, (a, b) in zip(centre, sides, strict=True)]
        labels[tuple(span)] = 1 + np.ravel_multi_index(centre, shape)
    return labels, generator.normal(0, 1000, shape).astype(np.float32)


def part(labels, image, box, axes):
    """The rows of one shard; a shard holds one frame."""
    space = axes.replace("t", "")
    frames = len(axes) - len(space)
    mine, values = (array[box.slices].reshape(box.shape[frames:]) for array in (labels, image))
    ids = np.unique(labels[labels > 0])
    places = np.stack(np.unravel_index(ids.astype(np.int64) - 1, labels.shape))
    low, high = (np.reshape(ends, (-1, 1)) for ends in (box.start, box.stop))
    certainty = (mine * np.uint64(7919)).astype(np.uint16)
    return objects.parts(
        mine,
        [values],
        certainty,
        certainty % 3 > 0,
        box.start[frames:],
        space,
        ["a"],
        box.start[0] if frames else 0,
        ids[((places >= low) & (places < high)).all(axis=0)],
    )


def measure(axes, shape):
    space = axes.replace("t", "")
    return tables.Measure(space, VOXEL, ["a"], shape, (REACH,) * len(space))


def written(folder, labels, image, axes, shard, per_unit):
    """Parts of all shards on disk, dealt to units of `per_unit` shards along each axis."""
    folder.mkdir()
    groups, pieces = [], []
    for unit in boxes(labels.shape, tuple(n * m for n, m in zip(shard, per_unit, strict=True))):
        paths = []
        for box in boxes(labels.shape, shard, unit):
            pieces.append(part(labels, image, box, axes))
            paths.append(folder / ("-".join(map(str, box.start)) + ".parquet"))
            pieces[-1].to_parquet(paths[-1])
        groups.append(tables.Group(unit.start, unit.stop, paths))
    return groups, pieces


def side(axes, length):
    return tuple(1 if axis == "t" else length + (axis == "x") for axis in axes)


@pytest.mark.parametrize("axes", list(SHAPES))
@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    length=st.integers(5, 20),
    units=st.integers(1, 3),
    shuffled=st.booleans(),
    many=st.sampled_from([0, 10, tables.MANY_ROWS]),
)
def test_the_table_is_that_of_all_parts_at_once_whatever_the_units_and_their_order(
    tmp_path_factory, axes, seed, length, units, shuffled, many
):
    folder = tmp_path_factory.mktemp("streamed")
    shape = SHAPES[axes]
    labels, image = scene(shape, len(axes.replace("t", "")), seed)
    per_unit = tuple(1 + (seed + i) % units for i in range(len(axes)))
    groups, pieces = written(folder / "parts", labels, image, axes, side(axes, length), per_unit)
    target = folder / "table.parquet"
    if shuffled:
        random.Random(seed).shuffle(groups)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "MANY_ROWS", many)
        finished = tables.finish(iter(groups), target, measure(axes, shape))
    found = pd.read_parquet(target)
    rows = objects.combined(pd.concat(pieces, ignore_index=True))
    expected = objects.measured(rows, axes.replace("t", ""), VOXEL, ["a"])
    pd.testing.assert_frame_equal(found.sort_index(), expected, check_exact=True)
    assert finished.objects == len(expected) == len(np.unique(labels[labels > 0]))
    frames = shape[0] if "t" in axes else 1
    assert list(finished.per_frame) == np.bincount(expected["t"], minlength=frames).tolist()
    assert finished.orphans == ()

    # Rows wait where an object may cross a face of its unit, and nowhere else.
    waited = 0
    for group in groups:
        for identity in itertools.chain.from_iterable(
            pd.read_parquet(path)["label"] for path in group.parts
        ):
            centre = np.unravel_index(identity - 1, shape)
            halo = tuple(REACH * (axis != "t") for axis in axes)
            reach = Box(centre, tuple(c + 1 for c in centre)).grown(halo).clipped(shape)
            waited += any(
                a < low or b > high
                for a, b, low, high in zip(
                    reach.start, reach.stop, group.start, group.stop, strict=True
                )
            )
    assert finished.waited <= waited
    assert finished.waited == waited or many < tables.MANY_ROWS


@pytest.mark.parametrize("axes", list(SHAPES))
def test_an_object_settled_in_a_unit_has_no_row_in_another(tmp_path, axes):
    labels, image = scene(SHAPES[axes], len(axes.replace("t", "")), 5)
    per_unit = (1,) * (len(axes) - 1) + (2,)
    groups, _ = written(tmp_path / "parts", labels, image, axes, side(axes, 6), per_unit)
    margin = measure(axes, labels.shape).margin
    rows = [pd.concat(pd.read_parquet(path) for path in group.parts)["label"] for group in groups]
    settled = [
        set(ids[objects.settled(ids.to_numpy(), group.start, group.stop, margin, labels.shape)])
        for ids, group in zip(rows, groups, strict=True)
    ]
    assert any(settled)
    for here, there in itertools.permutations(range(len(groups)), 2):
        assert not settled[here] & set(rows[there])


def test_row_groups_are_sorted_and_those_that_cross_faces_come_last(tmp_path):
    labels, image = scene(SHAPES["yx"], 2, 1)
    groups, _ = written(tmp_path / "parts", labels, image, "yx", (12, 12), (2, 2))
    tables.finish(groups, tmp_path / "table.parquet", measure("yx", labels.shape))
    file = pyarrow.parquet.ParquetFile(tmp_path / "table.parquet")
    assert file.num_row_groups == len(groups) + 1
    for number in range(file.num_row_groups):
        ids = file.read_row_group(number).column("label").to_numpy()
        assert (np.diff(ids) > 0).all()


def test_the_bytes_do_not_depend_on_the_order_of_parts(tmp_path):
    labels, image = scene(SHAPES["zyx"], 3, 2)
    groups, _ = written(tmp_path / "parts", labels, image, "zyx", (4, 6, 7), (2, 1, 3))
    turned = [tables.Group(g.start, g.stop, g.parts[::-1]) for g in groups]
    whole = measure("zyx", labels.shape)
    one = tables.finish(groups, tmp_path / "one.parquet", whole)
    other = tables.finish(turned, tmp_path / "other.parquet", whole)
    assert one == other
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()
    assert len(one.sha256) == 64


def test_frames_wait_for_nothing(tmp_path):
    shape = (40, 9, 10)
    labels, image = scene(shape, 2, 4)
    groups, _ = written(tmp_path / "parts", labels, image, "tyx", (1, 9, 10), (1, 1, 1))
    finished = tables.finish(groups, tmp_path / "table.parquet", measure("tyx", shape))
    assert finished.waited == 0
    assert finished.objects > 40


def test_what_waits_does_not_grow_with_the_length_of_a_volume(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MANY_ROWS", 0)
    once, image = scene((6, 14, 15), 3, 9)
    waited = []
    for count in (10, 20, 40):
        # The same objects again and again, each time under the addresses of where they lie.
        labels = np.tile(once, (count, 1, 1))
        further = np.repeat(np.arange(count, dtype=np.uint64) * np.uint64(once.size), len(once))
        labels[labels > 0] += np.broadcast_to(further[:, None, None], labels.shape)[labels > 0]
        values = np.tile(image, (count, 1, 1))
        folder = tmp_path / f"{count}"
        groups, _ = written(folder, labels, values, "zyx", (5, 7, 8), (1, 1, 1))
        finished = tables.finish(groups, folder / "t.parquet", measure("zyx", labels.shape))
        assert finished.objects == count * len(np.unique(once[once > 0]))
        waited.append(finished.waited)
    assert waited[0] == waited[1] == waited[2] > 0


def test_groups_are_asked_for_one_after_the_other(tmp_path):
    labels, image = scene(SHAPES["yx"], 2, 1)
    groups, _ = written(tmp_path / "parts", labels, image, "yx", (12, 12), (1, 1))

    def vanishing():
        for group in groups:
            yield group
            for path in group.parts:
                path.unlink()

    finished = tables.finish(vanishing(), tmp_path / "table.parquet", measure("yx", labels.shape))
    assert finished.objects == len(np.unique(labels[labels > 0]))


def test_an_object_wider_than_was_said_is_refused_and_not_told_twice(tmp_path):
    labels, image = scene(SHAPES["zyx"], 3, 2)
    groups, _ = written(tmp_path / "parts", labels, image, "zyx", (4, 6, 7), (2, 2, 2))
    whole = measure("zyx", labels.shape)
    narrow = tables.Measure("zyx", VOXEL, ["a"], labels.shape, (REACH, REACH - 1, REACH))
    tables.finish(groups, tmp_path / "table.parquet", whole)
    with pytest.raises(RuntimeError, match="was taken for the most"):
        tables.finish(groups, tmp_path / "narrow.parquet", narrow)
    assert not (tmp_path / "narrow.parquet").exists()


def test_objects_whose_centre_no_box_found_are_named(tmp_path):
    labels, image = scene(SHAPES["yx"], 2, 1)
    groups, _ = written(tmp_path / "parts", labels, image, "yx", (12, 12), (2, 2))
    lost = np.unique(labels[labels > 0])[[2, 7, 11]].astype(int).tolist()
    for group in groups:
        for path in group.parts:
            rows = pd.read_parquet(path)
            rows.loc[rows["label"].isin(lost), "owned"] = 0
            rows.to_parquet(path)
    finished = tables.finish(groups, tmp_path / "table.parquet", measure("yx", labels.shape))
    assert list(finished.orphans) == lost


def test_centres_without_voxels_are_no_objects(tmp_path):
    labels = np.zeros((6, 6), np.uint64)
    none = np.zeros((6, 6), np.uint16)
    owned = np.array([8, 15], np.uint64)
    rows = objects.parts(labels, [none], none, none > 0, (0, 0), "yx", ["a"], 0, owned)
    rows.to_parquet(tmp_path / "part.parquet")
    group = tables.Group((0, 0), (6, 6), [tmp_path / "part.parquet"])
    finished = tables.finish([group], tmp_path / "table.parquet", measure("yx", (6, 6)))
    assert (finished.objects, finished.orphans) == (0, ())


@pytest.mark.parametrize("units", [0, 3])
def test_a_volume_of_nothing_has_a_table_of_no_rows_with_every_column(tmp_path, units):
    labels, image = np.zeros((3, 8, 8), np.uint64), np.zeros((3, 8, 8), np.float32)
    groups, _ = written(tmp_path / "parts", labels, image, "tyx", (1, 8, 8), (1, 1, 1))
    target = tmp_path / "table.parquet"
    finished = tables.finish(groups[:units], target, measure("tyx", (3, 8, 8)))
    assert (finished.objects, finished.per_frame, finished.orphans) == (0, (0, 0, 0), ())
    full, image = scene((3, 8, 8), 2, 0)
    groups, _ = written(tmp_path / "full", full, image, "tyx", (1, 8, 8), (1, 1, 1))
    tables.finish(groups, tmp_path / "full.parquet", measure("tyx", (3, 8, 8)))
    empty, filled = pd.read_parquet(target), pd.read_parquet(tmp_path / "full.parquet")
    assert len(empty) == 0 < len(filled)
    assert empty.dtypes.to_dict() == filled.dtypes.to_dict()
    assert empty.index.name == filled.index.name == "label"


def test_pandas_and_polars_read_the_same_rows(tmp_path):
    labels, image = scene(SHAPES["zyx"], 3, 2)
    groups, _ = written(tmp_path / "parts", labels, image, "zyx", (4, 6, 7), (2, 2, 2))
    target = tmp_path / "table.parquet"
    tables.finish(groups, target, measure("zyx", labels.shape))
    by_pandas = pd.read_parquet(target).reset_index()
    by_polars = polars.read_parquet(target).to_pandas()[list(by_pandas)]
    pd.testing.assert_frame_equal(by_polars, by_pandas)
