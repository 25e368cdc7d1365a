"""In napari objects lie where they were put: seen in pictures of a real viewer, not in metadata."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scenes
import tifffile
from scipy import ndimage

from pipeline import volumes

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-peers" / "napari" / "bin" / "python"
SCREEN = ["xvfb-run", "--auto-servernum", "--server-args", "-screen 0 1280x1024x24"]
SIDES_UM = {"y": 0.5, "x": 0.25}
PLACE_UM = {"y": -7.25, "x": 130.0}
"""In the file. This version of napari-ome-zarr passes over places, of images and labels alike."""
CENTRES = {
    "DNA": [[(20, 40), (45, 100)], [(30, 150), (60, 60), (20, 40)]],
    "actin": [[(70, 30)], [(70, 200)]],
}
"""Of the objects, in voxels of y and x, for each channel and frame."""
SHAPE = (2, 2, 90, 240)
RADIUS_UM = 2.75
JOB = {"center_um": [22.0, 28.0], "pixels_per_um": 9.0, "frame": 1}
CLOSE = 1.5
"""Pixels of the screen between where an object is and where it should be."""


def movie():
    """Discs, blurred a little, in two channels of a movie whose pixels are no squares."""
    image = np.zeros(SHAPE)
    y, x = np.mgrid[: SHAPE[2], : SHAPE[3]]
    for channel, frames in enumerate(CENTRES.values()):
        for frame, centres in enumerate(frames):
            for at_y, at_x in centres:
                far_um = np.hypot((y - at_y) * SIDES_UM["y"], (x - at_x) * SIDES_UM["x"])
                image[frame, channel] += 900 / (1 + np.exp((far_um - RADIUS_UM) / 0.2))
    return (image + np.random.default_rng(0).normal(100, 5, SHAPE)).astype(np.uint16)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The volume, napari's layers, and what each of them looks like alone."""
    if not PYTHON.is_file():
        pytest.skip("napari is not installed: make peers")
    screen = [] if os.environ.get("DISPLAY") else SCREEN
    if screen and shutil.which(screen[0]) is None:
        pytest.skip("there is no screen, and no xvfb-run in its stead")
    folder = tmp_path_factory.mktemp("napari")
    planes = SHAPE[0] * SHAPE[1]
    told = {
        "axes": "TCYX",
        "Channel": {"Name": list(CENTRES), "Color": [0x00FF00FF, 0xFF00FFFF - 2**32]},
        "TimeIncrement": 30.0,
        "Plane": {f"Position{a.upper()}": [PLACE_UM[a]] * planes for a in "yx"}
        | {f"Position{a.upper()}Unit": ["µm"] * planes for a in "yx"},
        **{f"PhysicalSize{a.upper()}": SIDES_UM[a] for a in "yx"},
    }
    tifffile.imwrite(folder / "a.ome.tif", movie(), photometric="minisblack", metadata=told)
    volume = scenes.predicted(folder, scenes.acquisition(folder / "a.ome.tif"), "nuclei_2d")
    job = folder / "job.json"
    job.write_text(json.dumps(JOB | {"store": str(volume.store), "out": str(folder)}))
    script = ROOT / "benchmarks" / "peers" / "napari_peer.py"
    done = subprocess.run(
        [*screen, str(PYTHON), str(script), str(job)],
        capture_output=True,
        text=True,
        timeout=200,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    layers = json.loads((folder / "layers.json").read_text())
    return volume, {
        layer["name"].removeprefix("sample: "): (
            layer,
            np.load(folder / f"{number}.npy")[..., :3].astype(float),
        )
        for number, layer in enumerate(layers)
    }


def on_screen(centres, picture):
    """Where on the screen voxels of y and x lie, by what was written into the file alone."""
    um = np.array(centres) * [SIDES_UM[axis] for axis in "yx"]
    # The middle of the picture shows the centre; a pixel's own middle lies half a pixel inside.
    middle = np.array(picture.shape[:2]) / 2 - 0.5
    return (um - JOB["center_um"]) * JOB["pixels_per_um"] + middle


def spots(seen):
    """Middles of the connected regions of a picture that are larger than an edge's few pixels."""
    regions, count = ndimage.label(seen)
    sizes = ndimage.sum_labels(seen, regions, range(1, count + 1))
    large = [number + 1 for number, size in enumerate(sizes) if size > 50]
    return np.array(ndimage.center_of_mass(seen, regions, large))


def assert_same_places(found, expected):
    assert len(found) == len(expected)
    far = np.linalg.norm(found[:, None] - expected[None], axis=-1)
    assert far.min(axis=0).max() < CLOSE
    assert far.min(axis=1).max() < CLOSE


@pytest.mark.parametrize("channel", CENTRES)
def test_objects_of_the_image_lie_where_they_were_drawn(shown, channel):
    _, layers = shown
    _, picture = layers[channel]
    bright = picture.sum(axis=-1)
    expected = on_screen(CENTRES[channel][JOB["frame"]], picture)
    assert_same_places(spots(bright > bright.max() / 2), expected)


def test_a_shift_of_one_voxel_would_be_seen(shown):
    _, layers = shown
    _, picture = layers["DNA"]
    bright = picture.sum(axis=-1)
    beside = [(y, x + 1) for y, x in CENTRES["DNA"][JOB["frame"]]]
    with pytest.raises(AssertionError):
        assert_same_places(spots(bright > bright.max() / 2), on_screen(beside, picture))


def test_channels_have_the_colours_of_the_file(shown):
    _, layers = shown
    for name, colour in (("DNA", (0, 1, 0)), ("actin", (1, 0, 1))):
        layer, picture = layers[name]
        assert layer["brightest"][:3] == pytest.approx(colour)
        y, x = np.rint(on_screen(CENTRES[name][JOB["frame"]], picture)[0]).astype(int)
        assert picture[y, x] == pytest.approx(np.array(colour) * 255, abs=12)


def test_labels_lie_on_their_objects(shown):
    volume, layers = shown
    [picture] = [picture for layer, picture in layers.values() if layer["kind"] == "Labels"]
    labels = np.asarray(volumes.open_level(volume.store / "labels" / "nuclei", 0)[JOB["frame"]])
    numbers = np.unique(labels[labels > 0])
    middles = ndimage.center_of_mass(labels > 0, labels, numbers)
    coloured = picture.max(axis=-1) > 40
    assert_same_places(spots(coloured), on_screen(middles, picture))
    # The model found what was drawn: a picture of labels elsewhere would not pass for theirs.
    assert_same_places(spots(coloured), on_screen(CENTRES["DNA"][JOB["frame"]], picture))


def test_napari_reads_sizes_units_and_limits(shown):
    volume, layers = shown
    for name, (layer, _) in layers.items():
        assert layer["scale"] == [30.0, SIDES_UM["y"], SIDES_UM["x"]]
        assert layer["translate"] == [0.0, 0.0, 0.0]
        assert layer["units"] == ["second", "micrometer", "micrometer"]
        assert layer["levels"] == len(volume.levels)
        if layer["kind"] == "Image":
            window = volume.windows[volume.channel(name)]
            assert layer["contrast_limits"] == pytest.approx(window)
