"""Explanation: whether each object's light, seen through the optics, is what the image shows.

Each object is a flat mask, blurred by the point-spread function. Beside its neighbours and an even
slope of background, its amplitude is the weighted least squares solution, in closed form; what
more a displacement, a dip in its middle or a gap to its neighbour would explain is read from the
same fit. Nothing finer than the optics resolve can be told.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage, stats
from torch import Tensor

from pipeline.noise import Noise
from pipeline.optics import blur

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]
MOST_NEIGHBOURS = 12
"""Of the objects around one, the largest in its surroundings; more would fit anything."""


def thinned(
    electrons: Floats, share: float, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Part photons at random in two images, of `share` and of the rest.

    Of Poisson images both are Poisson, and independent: what was found in one can be tested on
    the other. What is negative by read noise counts as 0.
    """
    whole = np.maximum(np.rint(electrons), 0).astype(np.int64)
    one = generator.binomial(whole, share)
    return one.astype(np.float64), (whole - one).astype(np.float64)


def explained(labels: Labels, image: Floats, kernel: Tensor, noise: Noise) -> pd.DataFrame:
    """Test each object, a row by label, on an image in the units that `noise` has.

    certainty: amplitude in standard errors; about 0 where nothing is, as in a false object.
    displaced: what a shift explains, as the standard normal deviate of its probability.
    dip: in standard errors, how much darker the middle is than the ends of the longest axis; large
    where two objects are taken for one. None where it has fewer than 5 voxels.
    gap: in standard errors, how much darker the voxels are that touch another object; low where
    one object is taken for two. None where it touches none.
    """
    compact = np.searchsorted(ids := np.unique(labels), labels)
    rows = []
    for number, found in enumerate(ndimage.find_objects(compact), start=int(ids[0] != 0)):
        own = number + int(ids[0] == 0)
        if found is None:
            continue
        around = tuple(
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n, k in zip(found, labels.shape, kernel.shape, strict=True)
            for margin in [k // 2 + math.ceil((s.stop - s.start) / 2) + 1]
        )
        tested = _tested(compact[around], own, image[around], kernel, noise)
        rows.append({"label": int(ids[own - int(ids[0] != 0)]), **tested})
    columns = ("label", "certainty", "displaced", "dip", "gap")
    return pd.DataFrame(rows, columns=columns).set_index("label")


def _tested(
    compact: Labels, own: int, image: Floats, kernel: Tensor, noise: Noise
) -> dict[str, float | None]:
    mask = compact == own
    light = seen(mask, kernel)
    others, counts = np.unique(compact[(compact != 0) & ~mask], return_counts=True)
    kept = others[np.argsort(-counts, kind="stable")[:MOST_NEIGHBOURS]]
    columns = [light, *(seen(compact == other, kernel) for other in kept), *_slopes(mask.shape)]
    expected = blur(torch.as_tensor(image), kernel)
    weight = noise.variance(expected).rsqrt().numpy().ravel()
    plain = _fit(columns, image, weight)
    tilts = [np.gradient(light, axis=axis) for axis in range(mask.ndim) if mask.shape[axis] > 2]
    moved = _fit([*columns, *tilts], image, weight)
    gain = plain.chi_square - moved.chi_square
    probability = float(stats.chi2.sf(max(gain, 0.0), len(tilts)))
    result: dict[str, float | None] = {
        "certainty": plain.coefficients[0] / plain.errors[0],
        "displaced": float(stats.norm.isf(min(max(probability, 1e-300), 1 - 1e-16))),
        "dip": None,
        "gap": None,
    }
    if mask.sum() >= 5:
        bent = _fit([*columns, seen(_along(mask), kernel)], image, weight)
        result["dip"] = bent.coefficients[-1] / bent.errors[-1]
    touching = mask & ndimage.binary_dilation((compact != 0) & ~mask)
    if touching.any() and (mask & ~touching).any():
        parted = _fit([*columns, seen(touching, kernel)], image, weight)
        result["gap"] = -parted.coefficients[-1] / parted.errors[-1]
    return result


def _along(mask: npt.NDArray[np.bool_]) -> Floats:
    """Squared place along the longest axis of a mask, its mean taken off; 0 outside."""
    places = np.argwhere(mask).astype(np.float64)
    places -= places.mean(axis=0)
    _, axes = np.linalg.eigh(places.T @ places)
    square = (places @ axes[:, -1]) ** 2
    result = np.zeros(mask.shape)
    result[mask] = (square - square.mean()) / max(float(square.max()), 1e-9)
    return result


def seen(light: npt.NDArray[Any], kernel: Tensor) -> Floats:
    """Light, or a mask, through the optics."""
    return np.asarray(blur(torch.as_tensor(np.asarray(light, np.float64)), kernel))


def _slopes(shape: tuple[int, ...]) -> Iterator[Floats]:
    """An even background, and its slope along each axis."""
    yield np.ones(shape)
    for axis, side in enumerate(shape):
        if side > 1:
            line = np.linspace(-1, 1, side)
            yield np.broadcast_to(
                np.expand_dims(line, [a for a in range(len(shape)) if a != axis]), shape
            )


class _Fit:
    """A weighted least squares fit: coefficients, their standard errors, what is left."""

    def __init__(self, coefficients: Floats, errors: Floats, chi_square: float) -> None:
        self.coefficients, self.errors, self.chi_square = coefficients, errors, chi_square


def _fit(columns: list[Floats], image: Floats, weight: Floats) -> _Fit:
    design = np.stack([column.ravel() for column in columns], axis=1) * weight[:, None]
    target = image.ravel() * weight
    normal = design.T @ design
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    inverse = np.linalg.pinv(normal / np.outer(scale, scale), hermitian=True) / np.outer(
        scale, scale
    )
    found = inverse @ (design.T @ target)
    left = target - design @ found
    errors = np.sqrt(np.maximum(np.diag(inverse), 1e-300))
    return _Fit(found, errors, float(left @ left))
