"""Laws of alarms: they name what is harmed, and keep silent where nothing is."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline import alarms, charts, planes, seams, stitching
from pipeline.charts import Chart
from pipeline.seams import Objects

SIDE, DIAMETER, SEAMS = 1024, 12, {"x": [256, 512, 768]}
STEP, WIDTH = {"x": 1.0}, {"x": float(DIAMETER)}


def scattered(seed, cut=None, lost=None, count=600):
    """Objects along x; those that lie across `cut` end there, those in `lost` are not there."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0, SIDE, count)
    half = generator.uniform(0.35, 0.65, count) * DIAMETER
    if lost is not None:
        kept = (centre < lost[0]) | (centre >= lost[1])
        centre, half = centre[kept], half[kept]
    first = np.clip(np.floor(centre - half), 0, SIDE - 1).astype(np.int64)
    last = np.clip(np.floor(centre + half), 0, SIDE - 1).astype(np.int64)
    if cut is not None:
        across = (first < cut) & (last >= cut)
        last[across & (centre < cut)] = cut - 1
        first[across & (centre >= cut)] = cut
    return {"x": Objects(first, last, (first + last) / 2, (last - first + 1.0) ** 2)}


def stack(seed, count=24):
    """Planes of one scene of blurred spots, each with shot noise of its own."""
    generator = np.random.default_rng(seed)
    spots = ndimage.gaussian_filter((generator.random((192, 192)) > 0.995) * 3000.0, 4)
    return [generator.poisson(20 + spots).astype(np.uint16) for _ in range(count)]


def of_planes(shown):
    means = [float(plane.mean()) for plane in shown]
    return planes.checks(means, planes.measure(shown, range(len(shown))), "plane")


def red(checks):
    return {check.name for check in checks if check.state == "alarm"}


def test_of_normal_values_any_is_called_outlying_about_as_often_as_stated():
    generator = np.random.default_rng(0)
    found = [bool(alarms.outlying(generator.normal(size=30), 0.01)) for _ in range(3000)]
    assert 0.005 <= np.mean(found) <= 0.02


def test_outliers_do_not_hide_each_other():
    values = np.random.default_rng(1).normal(size=40)
    values[[3, 17, 30]] += [9, 10, -9]
    assert alarms.outlying(values, 1e-3) == [3, 17, 30]
    assert alarms.outlying(values, 1e-3, least=100) == []


def test_a_series_that_drifts_does_not_leap():
    values = np.linspace(0, 50, 60) + np.random.default_rng(2).normal(size=60)
    assert alarms.leaping(values.tolist(), 1e-3) == []
    values[20] += 12
    assert alarms.leaping(values.tolist(), 1e-3) == [20]


def test_unharmed_seams_stay_green_over_twenty_seeds():
    for seed in range(20):
        objects = scattered(seed)
        found = [seams.straight(objects, SEAMS, STEP), seams.density(objects, SEAMS, WIDTH)]
        assert not red(found), found


def test_objects_cut_at_a_seam_turn_it_red_and_it_is_named():
    check = seams.straight(scattered(3, cut=512), SEAMS, STEP)
    assert check.state == "alarm"
    assert "x = 512" in check.said
    assert "x = 256" not in check.said


def test_a_cut_beside_a_seam_is_no_fault_of_the_seam():
    assert seams.straight(scattered(3, cut=500), SEAMS, STEP).state == "fine"


def test_objects_doubled_around_every_seam_are_told_by_their_density():
    one, more = scattered(4)["x"], scattered(5, count=3000)["x"]
    near = np.abs(more.centre[:, None] - SEAMS["x"]).min(axis=1) < DIAMETER / 2
    parts = zip(
        (one.first, one.last, one.centre, one.size),
        (more.first, more.last, more.centre, more.size),
        strict=True,
    )
    both = Objects(*(np.concatenate([a, b[near]]) for a, b in parts))
    assert seams.density({"x": both}, SEAMS, WIDTH).state == "alarm"


def test_a_shard_without_objects_that_is_bright_is_named_and_a_dark_one_is_not():
    generator = np.random.default_rng(6)
    bright = ndimage.binary_dilation(generator.random((128, 128)) > 0.99, iterations=2)
    shards = [
        (f"0/c/{y}/{x}", (slice(64 * y, 64 * y + 64), slice(64 * x, 64 * x + 64)))
        for y in range(2)
        for x in range(2)
    ]
    bright[:64, 64:] = False
    assert seams.unlabelled(bright, bright, shards, 20).state == "fine"
    labelled = bright.copy()
    labelled[64:, :64] = False
    check = seams.unlabelled(bright, labelled, shards, 20)
    assert check.state == "alarm"
    assert check.said.startswith("0/c/1/0:")


def test_unharmed_planes_stay_green_over_twenty_seeds():
    for seed in range(20):
        shown = stack(seed)
        assert not red(of_planes(shown))
        assert stitching.check(shown[0], "plane 0", (1, 1)).state == "fine"


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        (np.zeros_like, "empty planes"),
        (lambda plane: (1.5 * plane).astype(plane.dtype), "brightness of planes"),
        (lambda plane: ndimage.gaussian_filter(plane, 6), "focus of planes"),
        (lambda plane: np.roll(plane, 9, axis=1), "place of planes"),
        (lambda plane: np.where(plane > 40, 65535, plane).astype(np.uint16), "saturated planes"),
    ],
)
def test_one_bad_plane_turns_its_check_red_and_is_named(harm, name):
    shown = stack(7)
    shown[11] = harm(shown[11])
    [check] = [check for check in of_planes(shown) if check.name == name]
    assert check.state == "alarm"
    assert "plane 11" in check.said


def test_a_movie_whose_stage_creeps_drifts():
    scene = np.pad(stack(8, 1)[0], 40, mode="wrap").astype(float)
    generator = np.random.default_rng(8)
    shown = [
        generator.poisson(scene[2 * t : 2 * t + 192, 40:232]).astype(np.uint16) for t in range(16)
    ]
    [check] = [check for check in of_planes(shown) if check.name == "place of planes"]
    assert (check.state, "2 pixels" in check.said) == ("alarm", True)


def test_shifts_are_measured_to_the_pixel_and_unlike_planes_have_none():
    [one], other = stack(9, 1), stack(10, 1)[0]
    assert planes.shift(one, np.roll(one, (5, -7), axis=(0, 1))) == (5, -7)
    assert planes.shift(one, other) is None


def test_a_jump_along_a_whole_line_is_found_where_it_is():
    plane = stack(11, 1)[0]
    plane[100:] += 10
    check = stitching.check(plane, "plane 0", (2, 2))
    assert check.state == "alarm"
    assert "y = 200" in check.said


def campaign(seed, count=12):
    """Charts of acquisitions that differ by chance alone."""
    generator = np.random.default_rng(seed)
    names = tuple(f"day_{i}" for i in range(count))
    return [
        Chart(name, names, tuple(np.exp(generator.normal(2, 0.2, count)).tolist()))
        for name in ("noise", "focus", "density")
    ]


def test_an_unharmed_campaign_stays_green_over_twenty_seeds():
    for seed in range(20):
        drawn = campaign(seed)
        assert not red([charts.outliers(drawn), charts.drift(drawn)])


def test_an_acquisition_unlike_the_others_and_a_drift_are_named():
    drawn = campaign(0)
    noise = list(drawn[0].values)
    noise[4] *= 5
    check = charts.outliers([Chart("noise", drawn[0].acquisitions, tuple(noise)), *drawn[1:]])
    assert "day_4: noise" in check.said
    falling = tuple(v * 0.8**i for i, v in enumerate(drawn[1].values))
    check = charts.drift([drawn[0], Chart("focus", drawn[1].acquisitions, falling)])
    assert "focus falls" in check.said


def test_few_acquisitions_tell_nothing():
    drawn = campaign(0, count=5)
    assert charts.outliers(drawn).state == "off"
    assert drawn[0].limits is None


def test_swapped_channels_are_told_and_channels_that_vary_are_not():
    for seed in range(20):
        generator = np.random.default_rng(seed)
        features = {
            f"well_{i}": {
                "DNA": generator.normal([5, 2, 1], 0.3).tolist(),
                "actin": generator.normal([7, 3, 0], 0.3).tolist(),
            }
            for i in range(8)
        }
        assert charts.swapped(features).state == "fine"
        well = features["well_3"]
        features["well_3"] = {"DNA": well["actin"], "actin": well["DNA"]}
        check = charts.swapped(features)
        assert check.state == "alarm"
        assert "well_3: DNA looks like actin" in check.said
