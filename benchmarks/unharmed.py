"""Faults put into stacks, campaigns and seams, and whether their checks, and no others, go red."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.measurement import Figure, Target
from pipeline import charts, labelling, objects, planes, seams, stitching
from pipeline.alarms import Check
from pipeline.charts import Chart
from pipeline.intensities import Channel, measure
from pipeline.seams import Objects
from pipeline.simulate import Optics, ellipsoids, fluorescence

OPTICS = Optics(0.8, 0.52, 1.0, photons=60, background=5, gain=2, offset=100, read_noise=1.5)
VOXEL = (0.5, 0.5)
SIDES, CELL_UM, CELLS, SEAMS = (512, 512), 6.0, 640, (128, 256, 384)
ACQUISITIONS, PLANES = 12, 24
SEEN, GREEN = Target(">=", 0.95), Target("<=", 0.05)
World = TypeVar("World")
Image = npt.NDArray[np.uint16]
Labels = npt.NDArray[np.int64]


def figures(seeds: Sequence[int]) -> list[Figure]:
    """Share of seeds in which each fault is seen, and in which an unharmed one goes red."""
    return [
        *_figures("stack", [_stack(seed) for seed in seeds], _stack_checks, PLANE_FAULTS),
        *_figures("campaign", [_campaign(s) for s in seeds], _campaign_checks, CAMPAIGN_FAULTS),
        *_figures("labels", [_labels(seed) for seed in seeds], _label_checks, LABEL_FAULTS),
    ]


def _figures(
    what: str,
    worlds: Sequence[World],
    checks: Callable[[World], list[Check]],
    faults: Mapping[str, tuple[Callable[[World], World], str]],
) -> Iterator[Figure]:
    red = [bool(_red(checks(world))) for world in worlds]
    yield Figure.of(f"{what}, unharmed: false alarms", [float(np.mean(red))], "", GREEN)
    for name, (harm, check) in faults.items():
        seen = [float(check in _red(checks(harm(world)))) for world in worlds]
        yield Figure.of(f"{what}, {name}: seen", [float(np.mean(seen))], "", SEEN)


def _red(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if check.state == "alarm"}


def _stack(seed: int) -> list[Image]:
    """Planes through one scene, which moves out of focus towards both ends."""
    generator = np.random.default_rng(seed)
    labels = ellipsoids((192, 192), VOXEL, CELL_UM, 60, generator)
    sharp = np.where(labels > 0, 60.0, 0.0)
    shown = []
    for number in range(PLANES):
        blur = 1 + 0.1 * abs(number - PLANES / 2)
        mean = ndimage.gaussian_filter(sharp, blur) + 5
        shown.append(np.rint(2 * generator.poisson(mean) + 100).astype(np.uint16))
    return shown


def _stack_checks(shown: list[Image]) -> list[Check]:
    means = [float(plane.mean()) for plane in shown]
    middle = stitching.check(shown[PLANES // 2], "the middle", (1, 1))
    return [*planes.checks(means, planes.measure(shown, range(len(shown))), "plane"), middle]


def _plane(
    number: int, change: Callable[[Image], npt.NDArray[np.generic]]
) -> Callable[[list[Image]], list[Image]]:
    def harm(shown: list[Image]) -> list[Image]:
        return [
            np.asarray(change(plane), np.uint16) if i == number else plane
            for i, plane in enumerate(shown)
        ]

    return harm


PLANE_FAULTS: dict[str, tuple[Callable[[list[Image]], list[Image]], str]] = {
    "one empty plane": (_plane(9, np.zeros_like), "empty planes"),
    "one plane a third dimmer": (_plane(9, lambda p: p * 0.67), "brightness of planes"),
    "one plane out of focus": (
        _plane(9, lambda p: ndimage.gaussian_filter(p, 6)),
        "focus of planes",
    ),
    "one plane shifted by 5 pixels": (
        _plane(9, lambda p: np.roll(p, 5, axis=1)),
        "place of planes",
    ),
    "one saturated plane": (
        _plane(9, lambda p: np.where(p > 160, 65535, p)),
        "saturated planes",
    ),
    "a jump of brightness along a line": (
        _plane(PLANES // 2, lambda p: p + 30 * (np.arange(p.shape[1]) >= 70)),
        "stitching",
    ),
}


def _campaign(seed: int) -> list[dict[str, Image]]:
    """Acquisitions of two channels, fields of cells that differ in number and brightness."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(ACQUISITIONS):
        count = int(generator.integers(50, 90))
        labels = ellipsoids((192, 192), VOXEL, CELL_UM, count, generator)
        nuclei = fluorescence(labels, VOXEL, OPTICS, generator)
        wide = ndimage.grey_dilation(labels, (9, 9))
        cells = fluorescence(wide, VOXEL, OPTICS, generator).astype(float) * 2
        made.append({"nuclei": nuclei, "cells": cells.astype(np.uint16)})
    return made


def _features(image: Image) -> dict[str, float]:
    channel = Channel()
    channel.add(measure(image[None]), [(0, 0)], image.size)
    said = channel.summary()
    return {key: said[key] or 0.0 for key in ("mean", "noise", "signal_to_noise", "focus")}


def _campaign_checks(made: list[dict[str, Image]]) -> list[Check]:
    said = [{name: _features(image) for name, image in one.items()} for one in made]
    names = tuple(f"acquisition_{i}" for i in range(len(made)))
    drawn = [
        Chart(key, names, tuple(one["nuclei"][key] for one in said)) for key in said[0]["nuclei"]
    ]
    by_channel = {
        name: {c: [float(np.log(max(v[k], 1e-6))) for k in ("mean", "noise", "signal_to_noise")]
               for c, v in one.items()}
        for name, one in zip(names, said, strict=True)
    }  # fmt: skip
    return [charts.outliers(drawn), charts.drift(drawn), charts.swapped(by_channel)]


Made = list[dict[str, Image]]


def _one(
    change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> Callable[[Made], Made]:
    def harm(made: Made) -> Made:
        image = np.asarray(np.clip(change(made[5]["nuclei"].astype(float)), 0, 65535), np.uint16)
        return [*made[:5], made[5] | {"nuclei": image}, *made[6:]]

    return harm


def _swap(made: Made) -> Made:
    one = made[5]
    return [*made[:5], {"nuclei": one["cells"], "cells": one["nuclei"]}, *made[6:]]


def _fade(made: Made) -> Made:
    return [
        one | {"nuclei": (100 + (one["nuclei"] - 100.0) * 0.9**i).clip(0).astype(np.uint16)}
        for i, one in enumerate(made)
    ]


UNLIKE = "acquisitions unlike the others"
CAMPAIGN_FAULTS: dict[str, tuple[Callable[[Made], Made], str]] = {
    "one of twice the intensity": (_one(lambda i: 2 * i), UNLIKE),
    "one blurred by 3 pixels": (_one(lambda i: ndimage.gaussian_filter(i, 3)), UNLIKE),
    "one of three times the noise": (
        _one(lambda i: i + np.random.default_rng(0).normal(0, 40, i.shape)),
        UNLIKE,
    ),
    "light that fades by a tenth each time": (_fade, "drift over the campaign"),
    "one with its channels swapped": (_swap, "swapped channels"),
}


def _labels(seed: int) -> Labels:
    generator = np.random.default_rng(seed)
    return ellipsoids(SIDES, VOXEL, CELL_UM, CELLS, generator).astype(np.int64)


def _label_checks(labels: Labels) -> list[Check]:
    found = np.maximum(labels, 0)
    ids = np.unique(found[found > 0]).astype(np.uint64)
    certain = np.full(found.shape, labelling.CERTAIN, np.uint16)
    parts = objects.parts(
        found.astype(np.uint64), [found], certain, found > 0, (0, 0), "yx", ["none"], 0, ids
    )
    table = objects.measured(objects.combined(parts), "yx", {"y": 0.5, "x": 0.5}, ["none"])
    along = {
        axis: Objects(
            table[f"first_{axis}"].to_numpy(np.int64),
            table[f"last_{axis}"].to_numpy(np.int64),
            table[axis].to_numpy(float),
            table["voxels"].to_numpy(float),
        )
        for axis in "yx"
    }
    places = {"y": SEAMS, "x": SEAMS}
    width = dict.fromkeys("yx", CELL_UM / VOXEL[0])
    shards = [
        (f"0/c/{y}/{x}", (slice(128 * y, 128 * y + 128), slice(128 * x, 128 * x + 128)))
        for y in range(4)
        for x in range(4)
    ]
    bright = labels != 0
    typical = float(np.pi / 4 * width["x"] ** 2)
    return [
        seams.straight(along, places, {"y": 1.0, "x": 1.0}),
        seams.density(along, places, width),
        seams.unlabelled(bright, found > 0, shards, typical),
    ]


def _cut(labels: Labels) -> Labels:
    """Objects across one seam become two."""
    cut = labels.copy()
    right = cut[:, SEAMS[1] :]
    across = np.intersect1d(labels[:, SEAMS[1] - 1], labels[:, SEAMS[1]])
    right[np.isin(right, across[across > 0])] += labels.max()
    return cut


def _lost(labels: Labels) -> Labels:
    """Objects of one shard are not there, though the image shows them: their ids are negative."""
    lost = labels.copy()
    lost[128:256, 256:384] *= -1
    return lost


LABEL_FAULTS: dict[str, tuple[Callable[[Labels], Labels], str]] = {
    "cut at one seam": (_cut, "borders at seams"),
    "one shard without its objects": (_lost, "shards without objects"),
}
