"""Windows of a prediction that are read again: in disguises, by other models, on their light."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage, spatial, special

from pipeline import (
    bases,
    cards,
    distances,
    explanation,
    optics,
    physics,
    stability,
    steerable,
    trials,
    weights,
)
from pipeline.network import UNet
from pipeline.noise import Camera, Noise
from pipeline.report_checks import statistics
from pipeline.report_prediction import Prediction
from pipeline.stability import Stability
from pipeline.tiles import Box
from pipeline.topology import Architecture
from pipeline.trials import Reading
from pipeline.view import View

Rows = npt.NDArray[np.int64]
WINDOW_VOXELS = {"yx": (192, 192), "zyx": (16, 64, 64)}
"""Sides of a window, in the network's voxels, at most."""
EXPLAINED = (0.5, 2.0)
"""Reduced chi-square within which the forward model counts as one that explains the image."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of one frame that was read again, in the network's voxels.

    Attributes
    ----------
    image, labels, probability: normalised, what was found, and that of the foreground.
    rows: of the table, for each id that was found; -1 where there is none.
    """

    box: Box
    frame: int
    image: stability.Floats
    labels: stability.Labels
    probability: stability.Floats
    stable: Stability
    members: tuple[float, ...]
    rows: Rows


def windows(p: Prediction, view: View, bundle: Path, count: int) -> list[Window]:
    """Read windows around objects, spread evenly over the table, again and in disguises."""
    torch.set_num_threads(1)  # the order of sums decides the last digits of what is said
    network, card = weights.load(bundle)
    smallest = float(p.made["recipe"]["settings"]["predict"]["smallest_object"])
    foreground = float(p.made["recipe"]["settings"]["predict"]["foreground"])
    reading = Reading(
        distances.geometry_for(card, smallest),
        foreground,
        WINDOW_VOXELS[p.volume.space],
    )
    others = list(_members(card))
    rows = np.unique(np.linspace(0, len(p.table) - 1, count + 2).round().astype(int)[1:-1])
    return [_window(p, view, int(row), network, others, reading) for row in rows]


def _members(card: cards.Card) -> Sequence[UNet]:
    """Base models of this network, as they are, but for the one that it is."""
    found = []
    for name in bases.fitting("auto", card.network, float(min(card.unit_voxels))):
        if card.origin == "base" and name == card.base:
            continue
        found.append(_exported(name, card.network))
    return found


@cache
def _exported(base: str, architecture: Architecture) -> UNet:
    """A base model as it is; it takes a second to build, and is the same for all acquisitions."""
    network = steerable.build(architecture)
    steerable.restore(network, bases.learned(base))
    return steerable.export(network.eval())


def _window(
    p: Prediction, view: View, row: int, network: UNet, others: Sequence[UNet], reading: Reading
) -> Window:
    step, shape = view.lattice.step, view.shape
    sides = tuple(min(n, s) for n, s in zip(shape, WINDOW_VOXELS[p.volume.space], strict=True))
    middle = [p.table[axis].iloc[row] / s for axis, s in zip(p.volume.space, step, strict=True)]
    start = tuple(
        int(min(max(0, m - side // 2), n - side))
        for m, side, n in zip(middle, sides, shape, strict=True)
    )
    box = Box(start, tuple(a + side for a, side in zip(start, sides, strict=True)))
    frame = int(p.table["t"].iloc[row])
    image = view.read(box, frame)
    once = (1,) * image.ndim
    output = trials.output(network, image, reading.tile)
    labels = trials.found(output, once, reading)
    stable = stability.stability(
        image, labels, lambda other: trials.segmented(network, other, once, reading)
    )
    members = tuple(
        stability.agreement(labels, trials.segmented(o, image, once, reading), stable.ids)[1]
        for o in others
    )
    probability = np.asarray(special.expit(output[0]), np.float32)
    rows = _rows(p, labels, stable, box, step, frame)
    return Window(box, frame, image, labels, probability, stable, members, rows)


def _rows(
    p: Prediction,
    labels: stability.Labels,
    stable: Stability,
    box: Box,
    step: tuple[float, ...],
    frame: int,
) -> Rows:
    """Which object of the table each one found in a window is; those it cuts are none."""
    here = np.flatnonzero(p.table["t"].to_numpy() == frame)
    if not len(stable.ids) or not len(here):
        return np.full(len(stable.ids), -1)
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, stable.ids))
    fine = (centres + np.array(box.start) + 0.5) * np.array(step) - 0.5
    tree = spatial.KDTree(p.table[list(p.volume.space)].to_numpy(float)[here])
    near = p.card.diameter_um / 4 / min(p.volume.voxel_size_um[a] for a in p.volume.space)
    away, which = tree.query(fine)
    return np.where(away <= near, here[np.minimum(which, len(here) - 1)], -1)


def explained(p: Prediction, view: View, seen: Sequence[Window]) -> list[pd.DataFrame] | str:
    """Test each window's objects on their light where the optics are known; else say why not."""
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
    noise = _noise(p, view, camera)
    formation = physics.Formation(kernel, tuple(2 * d for d in p.card.diameter_voxels), noise)
    tested = []
    for w in seen:
        whole = np.ones(w.labels.shape, bool)
        try:
            left = physics.reduced_chi_square(w.labels, whole, w.image, formation)
        except ValueError as fault:
            return f"{what}: {fault}"
        if not EXPLAINED[0] <= left <= EXPLAINED[1]:
            return (
                f"{what}: flat objects, seen through these optics, do not explain the image "
                f"(reduced chi-square {left:.1f})."
            )
        image = w.image.astype(np.float64)
        tested.append(explanation.explained(w.labels, image, kernel, noise).loc[w.stable.ids])
    return tested


def _noise(p: Prediction, view: View, camera: dict[str, float]) -> Noise:
    """Noise of the normalised image; a coarser level is a mean of independent voxels."""
    low, high = p.volume.windows[view.channel]
    whole = Camera(
        camera["gain_counts_per_electron"],
        camera["offset_counts"],
        camera["read_noise_electrons"],
    ).noise.normalised(low, high)
    voxels = math.prod(p.volume.spatial(view.level.factors))
    return Noise(whole.slope / voxels, whole.intercept / voxels, whole.floor / voxels)
