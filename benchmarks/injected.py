"""Errors put into labels, in simulated and in real images, and whether they are seen."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage, stats
from torch import Tensor

from benchmarks.datasets import Example
from benchmarks.expectation import objects_of
from benchmarks.measurement import Figure, Target
from pipeline import explanation, likeness, noise, optics
from pipeline.intensities import sharpness
from pipeline.noise import Noise
from pipeline.optics import Optics

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SCOPE, PIXEL_UM = Optics("widefield", 0.8, 0.52, 1.0), (0.1, 0.1)
SIGMA = SCOPE.sigma_um("yx")[0] / PIXEL_UM[0]
BACKGROUND = 10.0
CAMERA = Noise(1.0, 0.0, 1e-3)
"""Counts are photons."""
HALF = 0.5
"""Of the photons, what errors are looked for in; the rest is for whoever finds objects."""
DIAMETER, LIGHT = 12, 60.0
"""Of simulated cells, in pixels, and their photons per pixel in the half that is tested."""
PAIR, APART = 500.0, (0.5, 1.0, 2.0, 3.0)
"""Photons of two spots that are taken for one, and how far apart they are, in sigma."""
SPOTS, CELLS = 144, 100
DEVIATES, GAPS = (2.0, 3.0, 4.0, 6.0), (0.5, 1.0, 2.0, 3.0)
SEEN, RESOLVED = Target(">=", 0.97), Target(">=", 0.75)


def auc(wrong: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """How often a wrong object has the larger value than a right one; ties count half."""
    a, b = np.asarray(wrong, np.float64), np.asarray(right, np.float64)
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    return float(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))


def simulated(seeds: Sequence[int]) -> Iterator[Figure]:
    """Spots, false and missed, against the ideal observer; cells shifted, merged and split."""
    kernel = optics.psf(SCOPE, PIXEL_UM)
    for deviate in DEVIATES:
        photons = deviate * 2 * SIGMA * math.sqrt(math.pi * BACKGROUND)
        tests = [_spots(photons, seed) for seed in seeds]
        ideal = float(stats.norm.cdf(deviate / math.sqrt(2)))
        target = SEEN if deviate >= 4 else None
        false = [auc(-e[~real], -e[real]) for e, real in tests]
        yield Figure.of(f"spots of d' {deviate:g}: false ones, AUC", false, "", target)
        missed = [auc(e[real], e[~real]) for e, real in (_spots(photons, s + 1000) for s in seeds)]
        yield Figure.of(f"spots of d' {deviate:g}: missed ones, AUC", missed, "", target)
        yield Figure.of(f"spots of d' {deviate:g}: AUC of the ideal observer", [ideal], "")
        yield Figure.of(
            f"spots of d' {deviate:g}: false ones, AUC over the ideal",
            [f / ideal for f in false],
            "",
        )
    for apart in APART:
        values = [auc(_pairs(apart, s)["dip"], _pairs(0.0, s + 1000)["dip"]) for s in seeds]
        target = RESOLVED if apart > 2 else None
        yield Figure.of(f"spots {apart:g} sigma apart, merged: AUC", values, "", target)
    yield from _simulated_cells(seeds, kernel)


def _simulated_cells(seeds: Sequence[int], kernel: Tensor) -> Iterator[Figure]:
    plain = [_cells(seed, 0.0) for seed in seeds]
    right = [explanation.explained(labels, image, kernel, CAMERA) for labels, image in plain]
    for pixels in (1, 2):
        moved = [
            explanation.explained(np.roll(labels, pixels, axis=1), image, kernel, CAMERA)
            for labels, image in plain
        ]
        values = [auc(m["displaced"], r["displaced"]) for m, r in zip(moved, right, strict=True)]
        yield Figure.of(f"cells shifted by {pixels} pixels: AUC", values, "", RESOLVED)
    alarms = [float((r["displaced"] > stats.norm.isf(0.01)).mean()) for r in right]
    yield Figure.of(
        "right cells called shifted, at nominal 1 %", [100 * float(np.mean(alarms))], "%"
    )
    halves = [_halved(labels) for labels, _ in plain]
    split = [
        explanation.explained(cut, image, kernel, CAMERA)
        for cut, (_, image) in zip(halves, plain, strict=True)
    ]
    for gap in GAPS:
        target = RESOLVED if gap > 2 else None
        two = [_cells(seed, gap * SIGMA) for seed in seeds]
        as_two = [
            explanation.explained(_abutting(labels), image, kernel, CAMERA) for labels, image in two
        ]
        as_one = [
            explanation.explained(_joined(labels), image, kernel, CAMERA) for labels, image in two
        ]
        merged = [auc(m["dip"], r["dip"]) for m, r in zip(as_one, right, strict=True)]
        yield Figure.of(f"cells {gap:g} sigma apart, merged: AUC", merged, "", target)
        parted = [auc(_low(s), _low(r)) for s, r in zip(split, as_two, strict=True)]
        yield Figure.of(f"cells split, against two {gap:g} sigma apart: AUC", parted, "", target)


def _pairs(apart: float, seed: int) -> pd.DataFrame:
    """What explanation says of spots, each under a label 5 pixels wide.

    With `apart`, in sigma, each is two of half its light.
    """
    generator, kernel = np.random.default_rng(seed), optics.psf(SCOPE, PIXEL_UM)
    pitch, count = 24, 10
    labels = np.zeros((pitch * count, pitch * count), np.int64)
    light = np.zeros(labels.shape)
    y, x = np.indices(labels.shape)
    for number in range(count**2):
        middle = np.array(divmod(number, count)) * pitch + pitch // 2
        labels[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= 6] = number + 1
        for shift in (-apart / 2, apart / 2):
            low = math.floor(shift * SIGMA)
            share = shift * SIGMA - low
            at = (middle[0], middle[1] + low)
            light[at] += PAIR / 2 * (1 - share)
            light[at[0], at[1] + 1] += PAIR / 2 * share
    mean = explanation.seen(light, kernel) + BACKGROUND
    return explanation.explained(labels, generator.poisson(mean).astype(float), kernel, CAMERA)


def _spots(photons: float, seed: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Certainty of candidates, and which of them are real: half. Tested on half of the photons."""
    generator, kernel = np.random.default_rng(seed), optics.psf(SCOPE, PIXEL_UM)
    side, step = 256, 20
    places = [(y, x) for y in range(12, side - 12, step) for x in range(12, side - 12, step)]
    places = [places[i] for i in generator.permutation(len(places))[:SPOTS]]
    labels, light = np.zeros((side, side), np.int64), np.zeros((side, side))
    real = np.arange(len(places)) % 2 == 0
    for number, (place, is_real) in enumerate(zip(places, real, strict=True), start=1):
        labels[place] = number
        light[place] = photons * is_real
    # twice the light, of which half is tested: d' is that of the half
    mean = (explanation.seen(light, kernel) + BACKGROUND) / HALF
    _, tested = explanation.thinned(generator.poisson(mean).astype(float), 1 - HALF, generator)
    found = explanation.explained(labels, tested, kernel, CAMERA)
    return found.loc[1:, "certainty"].to_numpy(float), real


def _cells(seed: int, gap: float) -> tuple[Labels, Floats]:
    """Flat discs, or with a gap pairs of them whose borders lie so far apart, each of a label."""
    generator, kernel = np.random.default_rng(seed), optics.psf(SCOPE, PIXEL_UM)
    pitch, count = 4 * DIAMETER, round(math.sqrt(CELLS))
    labels = np.zeros((pitch * count, pitch * count), np.int64)
    light = np.zeros(labels.shape)
    y, x = np.indices(labels.shape)
    for number in range(count**2):
        middle = np.array(divmod(number, count)) * pitch + pitch / 2 + generator.uniform(-2, 2, 2)
        shifts = (0.0,) if not gap else ((DIAMETER + gap) / 2, -(DIAMETER + gap) / 2)
        for which, shift in enumerate(shifts):
            inside = (y - middle[0]) ** 2 + (x - middle[1] - shift) ** 2 <= (DIAMETER / 2) ** 2
            labels[inside] = 2 * number + 1 + which
            light[inside] = LIGHT * generator.uniform(0.7, 1.3)
    mean = (explanation.seen(light, kernel) + BACKGROUND) / HALF
    _, tested = explanation.thinned(generator.poisson(mean).astype(float), 1 - HALF, generator)
    return labels, tested


def _halved(labels: Labels) -> Labels:
    """Each cell cut in two along y, the halves touching."""
    cut = labels.copy()
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is not None:
            right = cut[found[0], (found[1].start + found[1].stop) // 2 : found[1].stop]
            right[right == number] = number + 1
    return cut


def _low(found: pd.DataFrame) -> Floats:
    return -found["gap"].to_numpy(float)


def _joined(labels: Labels) -> Labels:
    """Pairs as one, what lies between them included."""
    one = np.where(labels > 0, (labels - 1) // 2 * 2 + 1, 0)
    joined = one.copy()
    for number, found in enumerate(ndimage.find_objects(one), start=1):
        if found is not None:
            filled = ndimage.binary_closing(
                np.pad(one[found] == number, DIAMETER), iterations=DIAMETER // 2
            )
            inner = filled[(slice(DIAMETER, -DIAMETER),) * 2]
            joined[found] = np.where(inner, number, joined[found])
    return joined


def _abutting(labels: Labels) -> Labels:
    """Pairs whose labels touch: what lies between goes to the nearer."""
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    return np.where(_joined(labels) > 0, labels[tuple(nearest)], 0)


KINDS = ("false", "shifted", "merged", "split", "dilated")


def real(examples: Sequence[Example], reference: Example, kind: str) -> tuple[float, float] | None:
    """AUC of errors of a kind in real labels: by explanation and by likeness to the reference.

    Every sixth object is made wrong. None where there are too few.
    """
    kernel = optics.psf(SCOPE, PIXEL_UM)
    known = likeness.known(objects_of(reference.labels, reference.image.voxels))
    light, unlike = ({True: list[Floats](), False: list[Floats]()} for _ in range(2))
    for number, example in enumerate(examples):
        image = example.image.voxels.astype(np.float64)
        labels, wrong = harmed(example.labels.astype(np.int64), kind, number)
        if not wrong:
            continue
        found = explanation.explained(labels, image, kernel, _noise(image))
        scores = SCORES[kind](found)
        features = objects_of(labels, example.image.voxels)
        chance = pd.Series(-np.log(np.maximum(known.probability(features), 1e-300)), features.index)
        is_wrong = found.index.isin(wrong)
        for flag in (True, False):
            light[flag].append(scores[is_wrong == flag])
            unlike[flag].append(chance.loc[found.index[is_wrong == flag]].to_numpy())
    if not light[True]:
        return None
    by_light, by_likeness = (
        auc(np.concatenate(one[True]), np.concatenate(one[False])) for one in (light, unlike)
    )
    return by_light, by_likeness


def _noise(image: Floats) -> Noise:
    """That of the image, or where it cannot be told, an even one."""
    try:
        return noise.estimate_noise(image)
    except ValueError:
        return Noise(0.0, max(sharpness(image)[0] ** 2, 1e-8), 1e-8)


def _column(name: str, sign: float) -> Callable[[pd.DataFrame], Floats]:
    return lambda found: sign * found[name].to_numpy(float)


SCORES: dict[str, Callable[[pd.DataFrame], Floats]] = {
    "false": _column("certainty", -1.0),
    "shifted": _column("displaced", 1.0),
    "merged": _column("dip", 1.0),
    "split": _column("gap", -1.0),
    "dilated": _column("displaced", 1.0),
}


def harmed(labels: Labels, kind: str, seed: int) -> tuple[Labels, list[int]]:
    """Labels with errors of a kind in every sixth object, and which ids are wrong."""
    generator, wrong = np.random.default_rng(seed), list[int]()
    labels = labels.copy()
    ids = [int(i) for i in np.unique(labels) if i]
    new = max(ids, default=0) + 1
    for number in generator.permutation(ids)[: max(1, len(ids) // 6)]:
        mask = labels == number
        if not mask.any():
            continue
        if kind == "false":
            shift = tuple(int(generator.integers(n)) for n in labels.shape)
            moved = np.roll(mask, shift, axis=(0, 1))
            if not labels[ndimage.binary_dilation(moved, iterations=2)].any():
                labels[moved] = new
                wrong.append(new)
                new += 1
        elif kind == "split":
            places = np.argwhere(mask)
            axis = int(np.ptp(places, axis=0).argmax())
            upper = places[places[:, axis] > np.median(places[:, axis])]
            labels[tuple(upper.T)] = new
            wrong += [int(number), new]
            new += 1
        elif kind == "merged":
            beside = np.unique(labels[ndimage.binary_dilation(mask, iterations=3) & ~mask])
            if near := [int(b) for b in beside if b and b not in wrong]:
                labels[labels == near[0]] = number
                wrong.append(int(number))
        else:
            pixels = max(1, round(0.15 * math.sqrt(mask.sum())))
            grown = (
                np.roll(mask, pixels, axis=1)
                if kind == "shifted"
                else ndimage.binary_dilation(mask, iterations=pixels)
            )
            labels[mask] = 0
            labels[grown & (labels == 0)] = number
            wrong.append(int(number))
    return labels, wrong


def unlike(tests: Sequence[Example], shots: Sequence[Example], level: float) -> float:
    """Share of right objects of other images whose chance under the shots is at most `level`."""
    learned = pd.concat([objects_of(shot.labels, shot.image.voxels) for shot in shots[:5]])
    known = likeness.known(learned)
    found = [known.chance(objects_of(t.labels, t.image.voxels)) for t in tests]
    return float((np.concatenate(found) <= level).mean())
