"""Sums over boxes: the same from any boxes in any order, and right against the voxels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import objects
from pipeline.tiles import Box, boxes

VOXEL = {"z": 1.0, "y": 0.5, "x": 0.4}
SHAPES = {"yx": (23, 29), "zyx": (9, 14, 17)}


def scene(axes, seed, dtype):
    """Random objects, some of one voxel, whose ids are 1 + the addresses of their centres."""
    generator = np.random.default_rng(seed)
    shape = SHAPES[axes]
    labels = np.zeros(shape, np.uint64)
    for _ in range(30):
        centre = [int(generator.integers(0, n)) for n in shape]
        sides = generator.integers(0, 3, (len(shape), 2))
        span = [slice(max(c - a, 0), c + b + 1) for c, (a, b) in zip(centre, sides, strict=True)]
        labels[tuple(span)] = 1 + np.ravel_multi_index(centre, shape)
    intensities = [generator.normal(0, 1000, shape).astype(dtype) for _ in range(2)]
    certainty = generator.integers(0, 1 << 16, shape).astype(np.uint16)
    return labels, intensities, certainty, generator.random(shape) < 0.7


def parts_of(found, axes, box, frame=0):
    labels, intensities, certainty, agrees = found
    low, high = (np.reshape(ends, (-1, 1)) for ends in (box.start, box.stop))
    ids = np.unique(labels[labels > 0])
    places = np.stack(np.unravel_index(ids.astype(np.int64) - 1, labels.shape))
    owned = ids[((places >= low) & (places < high)).all(axis=0)]
    cut = (labels, *intensities, certainty, agrees)
    mine, first, second, sure, agreeing = (values[box.slices] for values in cut)
    return objects.parts(
        mine, [first, second], sure, agreeing, box.start, axes, ["a", "b"], frame, owned
    )


def whole(axes):
    return Box((0,) * len(axes), SHAPES[axes])


@pytest.mark.parametrize("axes", list(SHAPES))
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@given(seed=st.integers(0, 10**6), side=st.integers(3, 20))
def test_any_boxes_in_any_order_add_up_to_the_whole(axes, dtype, seed, side):
    found = scene(axes, seed, dtype)
    sides = (side, side + 2, side + 1)[: len(axes)]
    pieces = [parts_of(found, axes, box) for box in boxes(SHAPES[axes], sides)]
    added = objects.combined(pd.concat(pieces, ignore_index=True))
    turned = objects.combined(pd.concat(pieces[::-1], ignore_index=True))
    pd.testing.assert_frame_equal(added, turned, check_exact=True)
    # Floating-point sums of other pieces round otherwise; integers do not.
    exact = dtype is np.int16
    expected = parts_of(found, axes, whole(axes))
    pd.testing.assert_frame_equal(added, expected, check_exact=exact)
    assert (added["owned"] == 1).all()


@pytest.mark.parametrize("axes", list(SHAPES))
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_measurements_are_those_of_the_voxels(axes, dtype):
    found = scene(axes, 3, dtype)
    labels, intensities, certainty, agrees = found
    table = objects.measured(parts_of(found, axes, whole(axes), 4), axes, VOXEL, ["a", "b"])
    assert table.index.tolist() == np.unique(labels[labels > 0]).tolist()
    assert table.index.dtype == np.int64
    unit = np.array([VOXEL[axis] for axis in axes])
    for identity, row in table.iterrows():
        mine = labels == identity
        places = np.argwhere(mine)
        assert row["t"] == 4
        assert row["voxels"] == len(places)
        size = row["area_um2" if axes == "yx" else "volume_um3"]
        assert size == pytest.approx(len(places) * unit.prod())
        assert row[list(axes)].to_numpy() == pytest.approx(places.mean(axis=0))
        assert row[[f"{a}_um" for a in axes]].to_numpy() == pytest.approx(
            places.mean(axis=0) * unit
        )
        assert [row[f"first_{a}"] for a in axes] == places.min(axis=0).tolist()
        assert [row[f"last_{a}"] for a in axes] == places.max(axis=0).tolist()
        assert row["score"] == pytest.approx(certainty[mine].mean() / 65535)
        assert row["quality"] == pytest.approx(agrees[mine].mean())
        for channel, image in zip("ab", intensities, strict=True):
            assert row[f"mean_{channel}"] == pytest.approx(image[mine].mean())
            assert row[f"min_{channel}"] == image[mine].min()
            assert row[f"max_{channel}"] == image[mine].max()
        covariance = np.cov((places * unit).T, bias=True) + np.diag(unit**2 / 12)
        full = 2 * np.sqrt((len(axes) + 2) * np.linalg.eigvalsh(covariance))
        assert [row["minor_um"], row["major_um"]] == pytest.approx([full[0], full[-1]])
        assert row["elongation"] == pytest.approx(full[-1] / full[0])
        if axes == "zyx":
            assert row["middle_um"] == pytest.approx(full[1])


@pytest.mark.parametrize(
    ("axes", "radii_um", "names"),
    [
        ("yx", (12.0, 20.0), ["minor_um", "major_um"]),
        ("zyx", (9.0, 12.0, 16.0), ["minor_um", "middle_um", "major_um"]),
    ],
)
def test_an_ellipse_and_an_ellipsoid_have_their_own_axes(axes, radii_um, names):
    unit = [VOXEL[axis] for axis in axes]
    shape = tuple(int(2 * r / u) + 5 for r, u in zip(radii_um, unit, strict=True))
    away = [
        ((place - (n - 1) / 2) * u / r) ** 2
        for place, n, u, r in zip(np.indices(shape), shape, unit, radii_um, strict=True)
    ]
    labels = (sum(away) <= 1).astype(np.uint64)
    none = np.zeros(shape, np.uint16)
    rows = objects.parts(
        labels, [], none, none > 0, (0,) * len(axes), axes, [], 0, np.zeros(0, np.uint64)
    )
    row = objects.measured(rows, axes, VOXEL, []).loc[1]
    # Voxels at the rim are in or out: half a voxel of 24 is what that can cost.
    assert row[names].to_numpy() == pytest.approx(2 * np.array(radii_um), rel=0.02)
    ball = 2 * np.prod(radii_um) ** (1 / len(axes))
    assert row["equivalent_diameter_um"] == pytest.approx(ball, rel=0.02)


def test_the_shape_of_an_object_is_the_same_bits_wherever_it_lies():
    labels = np.zeros((5, 6, 7), np.uint64)
    labels[1:4, 2:5, 1:6] = 1
    labels[2, 2, 1:3] = 0
    none = np.zeros(labels.shape, np.uint16)

    def measured(start):
        rows = objects.parts(
            labels, [], none, none > 0, start, "zyx", [], 0, np.zeros(0, np.uint64)
        )
        return objects.measured(rows, "zyx", VOXEL, [])

    shape = ["major_um", "middle_um", "minor_um", "elongation"]
    near, far = measured((0, 0, 0)), measured((10**5, 3 * 10**9, 10**5 + 7))
    pd.testing.assert_frame_equal(near[shape], far[shape], check_exact=True)


def test_neighbours_in_memory_are_not_one_run_across_the_end_of_a_line():
    labels = np.zeros((2, 4), np.uint64)
    labels[0, 3] = labels[1, 0] = 7
    none = np.zeros(labels.shape, np.uint16)
    rows = objects.parts(labels, [], none, none > 0, (0, 0), "yx", [], 0, np.zeros(0, np.uint64))
    assert rows.loc[0, ["voxels", "first_x", "last_x", "sum_y"]].tolist() == [2, 0, 3, 1]


def test_a_centre_without_voxels_has_a_row_and_is_no_object():
    labels = np.zeros((4, 4), np.uint64)
    labels[0, 0] = 3
    none = np.zeros(labels.shape, np.uint16)
    for image in (none, none.astype(np.float32)):
        rows = objects.parts(
            labels, [image], none, none > 0, (0, 0), "yx", ["a"], 0, np.array([9], np.uint64)
        )
        assert rows[["label", "owned", "voxels"]].to_numpy().tolist() == [[3, 0, 1], [9, 1, 0]]
        assert objects.measured(rows, "yx", VOXEL, ["a"]).index.tolist() == [3]


def test_no_object_gives_a_table_of_no_rows_with_every_column():
    none = np.zeros((4, 4), np.uint16)
    given_nothing = (none.astype(np.uint64), [none], none, none > 0, (0, 0), "yx", ["a"], 0)
    rows = objects.parts(*given_nothing, np.zeros(0, np.uint64))
    one = objects.parts(*given_nothing, np.array([1], np.uint64))
    assert rows.dtypes.to_dict() == one.dtypes.to_dict()
    empty = objects.measured(objects.combined(rows), "yx", VOXEL, ["a"])
    assert len(empty) == 0
    assert {"score", "quality", "major_um", "mean_a", "min_a", "max_a"} <= set(empty)


def test_channels_may_be_named_as_our_own_columns_are():
    labels = np.ones((3, 3), np.uint64)
    none = np.zeros(labels.shape, np.uint16)
    names = ["x", "xx", "certainty", "voxels"]
    images = [none + 5] * len(names)
    nobody = np.zeros(0, np.uint64)
    rows = objects.parts(labels, images, none, none > 0, (0, 0), "yx", names, 0, nobody)
    row = objects.measured(rows, "yx", VOXEL, names).loc[1]
    assert row[[f"mean_{name}" for name in names]].tolist() == [5] * 4
    assert row[["x", "voxels", "score"]].tolist() == [1, 9, 0]


@given(seed=st.integers(0, 10**6))
def test_an_object_is_settled_exactly_when_all_that_it_may_reach_lies_in_the_box(seed):
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 12, 4).tolist())
    margin = tuple(generator.integers(0, 4, 3).tolist())
    ends = np.sort(np.stack([generator.integers(0, n + 1, 2) for n in shape], axis=1), axis=0)
    start, stop = (tuple(end.tolist()) for end in ends)
    labels = 1 + np.arange(np.prod(shape)).astype(np.uint64)
    inside = np.zeros(shape, bool)
    inside[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    expected = []
    for centre in np.ndindex(shape):
        reach = [slice(centre[0], centre[0] + 1)] + [
            slice(max(c - m, 0), c + m + 1) for c, m in zip(centre[1:], margin, strict=True)
        ]
        expected.append(bool(inside[tuple(reach)].all()))
    assert objects.settled(labels, start, stop, margin, shape).tolist() == expected


@given(seed=st.integers(0, 10**6), side=st.integers(1, 6))
def test_an_object_is_settled_when_boxes_together_hold_all_that_it_may_reach(seed, side):
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 12, 3).tolist())
    margin = tuple(generator.integers(0, 4, 3).tolist())
    labels = 1 + np.arange(np.prod(shape)).astype(np.uint64)
    chosen = [box for box in boxes(shape, (side, side + 1, side)) if generator.random() < 0.7]
    inside = np.zeros(shape, bool)
    for box in chosen:
        inside[box.slices] = True
    expected = [
        bool(
            inside[
                tuple(slice(max(c - m, 0), c + m + 1) for c, m in zip(centre, margin, strict=True))
            ].all()
        )
        for centre in np.ndindex(shape)
    ]
    found = objects.settled_in([(b.start, b.stop) for b in chosen], labels, margin, shape)
    assert found.tolist() == expected
