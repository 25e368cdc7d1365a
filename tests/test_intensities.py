"""What is said of a volume's intensities: measured shard by shard, true of the whole."""

import json

import numpy as np
import pytest
import scenes
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline import ingest, intensities

RANDOM = np.random.default_rng(0)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50))
def test_bins_grow_with_values_and_are_a_thirty_second_wide(values):
    ordered = np.sort(np.array(values, np.float32))
    bins = intensities._bins(ordered)
    assert (np.diff(bins) >= 0).all()
    edges = intensities.edges(bins)
    wide = np.abs(ordered.astype(np.float64))
    normal = wide >= np.finfo(np.float32).tiny
    assert (np.abs(edges) <= wide).all()
    assert (np.abs(edges - ordered)[normal] <= wide[normal] / 32).all()


def test_whole_numbers_up_to_64_have_bins_of_their_own():
    numbers = np.arange(-64, 65)
    assert intensities.edges(intensities._bins(numbers)).tolist() == numbers.tolist()


@pytest.mark.parametrize("noise", [2.0, 10.0])
def test_noise_is_measured_beside_structures(noise):
    smooth = ndimage.gaussian_filter(RANDOM.random((256, 256)), 6) * 5000
    found, ratio, _ = intensities.sharpness(smooth + RANDOM.normal(0, noise, smooth.shape))
    assert found == pytest.approx(noise, rel=0.03)
    assert ratio == pytest.approx(smooth.std() / noise, rel=0.1)


def test_focus_falls_with_blur_whatever_brightness_and_contrast():
    spots = ndimage.gaussian_filter((RANDOM.random((256, 256)) > 0.99).astype(float), 1) * 1e4

    def focus(sigma, gain=1.0, offset=0.0):
        blurred = ndimage.gaussian_filter(spots, sigma) * gain + offset
        return intensities.sharpness(blurred + RANDOM.normal(0, 1, spots.shape))[2]

    sharp, blurred, more = focus(0), focus(1), focus(2)
    assert sharp > 1.5 * blurred > 2 * more
    assert focus(1, gain=3, offset=500) == pytest.approx(blurred, rel=0.02)


def test_focus_is_not_told_of_noise_alone():
    assert intensities.sharpness(RANDOM.normal(100, 5, (256, 256)))[2] is None
    assert intensities.sharpness(np.full((256, 256), 7))[2] is None


def described(folder, stack, axes):
    task = scenes.ingest_task(scenes.write(folder / "a.tif", stack, axes))
    ingest.ingest(folder / "made" / "a.json", task, scenes.here)
    said = json.loads((folder / "made" / "a.statistics.json").read_text())
    return list(said["channels"].values())


def test_a_volume_s_statistics_are_those_of_its_voxels(tmp_path):
    stack = RANDOM.integers(5, 60, (2, 2, 11, 45, 50), np.uint16)
    stack[1, 0, 3, 2, 7:9] = 61  # the highest, twice
    said = described(tmp_path, stack, "tczyx")
    for found, channel in zip(said, np.moveaxis(stack, 1, 0), strict=True):
        assert (found["minimum"], found["maximum"]) == (channel.min(), channel.max())
        assert found["mean"] == pytest.approx(channel.mean(), rel=1e-12)
        share = (channel == channel.max()).mean()
        assert found["fraction_at_maximum"] == pytest.approx(share, rel=1e-12)
        assert found["plane_means"] == pytest.approx(channel.mean(axis=(2, 3)).ravel().tolist())
        values, counts = np.unique(channel, return_counts=True)
        assert found["histogram"] == {"values": values.tolist(), "counts": counts.tolist()}


def test_the_camera_is_told_from_the_volume(tmp_path):
    light = ndimage.gaussian_filter(RANDOM.random((6, 128, 128)), (1, 8, 8)) * 4000 - 1500
    electrons = RANDOM.poisson(np.clip(light, 5, None)) + RANDOM.normal(0, 1.5, light.shape)
    stack = np.clip(electrons * 2.0 + 100, 0, 65535).round().astype(np.uint16)
    [said] = described(tmp_path, stack, "zyx")
    assert said["camera"]["gain_counts_per_electron"] == pytest.approx(2.0, rel=0.15)


def test_where_the_camera_cannot_be_told_the_reason_stands(tmp_path):
    stack = np.full((6, 64, 64), 9, np.uint16)
    [said] = described(tmp_path, stack, "zyx")
    assert "constant image" in said["camera"]["unknown"]
