"""Whether the image's light bears out objects, on photons that they were not found in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import changes, explanation, optics, physics, report_windows, trials, weights
from pipeline.noise import Camera, Noise
from pipeline.report_checks import statistics
from pipeline.report_prediction import Prediction
from pipeline.report_windows import Window
from pipeline.view import View

Floats = npt.NDArray[np.float64]
EXPLAINED = (0.5, 2.0)
"""Reduced chi-square within which the forward model counts as one that explains the image."""
SHARE, SAME = 0.5, 0.5
"""Of the photons, in which objects are looked for again; and overlap from which they are found."""


@dataclass(frozen=True, slots=True)
class Light:
    """What turns a normalised image at the network's level into electrons.

    Attributes
    ----------
    scale, offset: electrons are `scale * image + offset`.
    read_noise: standard deviation in electrons, of as many voxels as are one here.
    """

    scale: float
    offset: float
    read_noise: float

    def electrons(self, image: npt.NDArray[Any]) -> Floats:
        """Electrons of a normalised image."""
        return self.scale * image.astype(np.float64) + self.offset

    def normalised(self, electrons: Floats) -> npt.NDArray[np.float32]:
        """The normalised image of as many electrons."""
        return np.asarray((electrons - self.offset) / self.scale, np.float32)

    def noise(self, share: float) -> Noise:
        """Noise of a share of the photons, in electrons."""
        read = share * self.read_noise**2
        return Noise(1.0, read, max(read, 1 / 12))


def explained(
    p: Prediction, view: View, bundle: Path, seen: Sequence[Window]
) -> list[pd.DataFrame] | str:
    """Test each window's objects on their light where the optics are known; else say why not.

    The photons are parted at random: objects are looked for again in one half, and tested on the
    other, which has no part in what was found. An object that is not found again has a certainty
    of 0. A model that learned from these very voxels has still seen them whole.
    """
    what = "Explanation by the optics"
    if p.card.optics is None:
        return f"{what}: the model's optics are unknown."
    scope = optics.Optics(**p.card.optics)
    camera = statistics(p).get(p.card.channel, {}).get("camera", {"unknown": "no statistics"})
    if not scope.has_forward_model:
        return f"{what}: {scope.modality} has no forward model."
    if "unknown" in camera:
        return f"{what}: the camera is unknown: {camera['unknown']}"
    if view.resampled:
        return f"{what}: the image is interpolated to the model's voxels, its noise unknown."
    kernel = optics.psf(scope, p.card.voxel_size_um)
    light = _light(p, view, camera)
    formation = physics.Formation(
        kernel, tuple(2 * d for d in p.card.diameter_voxels), light.noise(1.0)
    )
    network, _ = weights.load(bundle)
    reading, tested = report_windows.reading(p), []
    for number, w in enumerate(seen):
        whole, electrons = np.ones(w.labels.shape, bool), light.electrons(w.image)
        try:
            left = physics.reduced_chi_square(w.labels, whole, electrons, formation)
        except ValueError as fault:
            return f"{what}: {fault}"
        if not EXPLAINED[0] <= left <= EXPLAINED[1]:
            return (
                f"{what}: flat objects, seen through these optics, do not explain the image "
                f"(reduced chi-square {left:.1f})."
            )
        generator = np.random.default_rng(number)
        one, other = explanation.thinned(electrons, SHARE, generator, light.read_noise)
        once = (1,) * whole.ndim
        again = trials.segmented(network, light.normalised(one / SHARE), once, reading)
        found = explanation.explained(again, other, kernel, light.noise(1 - SHARE))
        tested.append(paired(w.labels, w.stable.ids, again, found))
    return tested


def paired(
    labels: npt.NDArray[Any], ids: npt.NDArray[Any], again: npt.NDArray[Any], found: pd.DataFrame
) -> pd.DataFrame:
    """What was `found` of objects that were seen `again`, a row for each of these ids of `labels`.

    Of one that was not seen again the certainty is 0, and nothing else is known.
    """
    pairs = dict(changes.fates(changes.shared(labels, again), SAME).same)
    rows = found.reindex([pairs.get(int(one), -1) for one in ids]).set_axis(ids)
    return rows.assign(certainty=rows["certainty"].fillna(0.0))


def _light(p: Prediction, view: View, camera: Mapping[str, float]) -> Light:
    """A voxel of a coarser level is a mean of independent ones: it has the light of all of them."""
    low, high = p.volume.windows[view.channel]
    lens = Camera(
        camera["gain_counts_per_electron"],
        camera["offset_counts"],
        camera["read_noise_electrons"],
    )
    voxels = math.prod(p.volume.spatial(view.level.factors))
    return Light(
        voxels * (high - low) / lens.gain,
        voxels * (low - lens.offset) / lens.gain,
        math.sqrt(voxels) * lens.read_noise,
    )
