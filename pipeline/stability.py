"""Stability: whether a model finds the same objects again when the image is changed a little.

An exactly equivariant network gives the same for every turned image, so its group tells nothing.
Shifts by less than its stride, another exposure, noise and blur do: where two readings of one
image differ, at least one of them is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.intensities import sharpness

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer[Any]]
Find = Callable[[Floats], Labels]
"""Finds instances in a normalised image."""


@dataclass(frozen=True, slots=True)
class Disguise:
    """A change of a normalised image that leaves its objects in place.

    Attributes
    ----------
    shift: voxels left out where each axis begins: the network's lattice lies elsewhere.
    gain: what intensities are multiplied by.
    noise: added, in standard deviations of the image's own.
    blur: standard deviation of a Gaussian, in voxels.
    """

    name: str
    shift: int = 0
    gain: float = 1.0
    noise: float = 0.0
    blur: float = 0.0

    def __call__(self, image: Floats) -> Floats:
        """The image in this disguise; the same each time."""
        seen = image[(slice(self.shift, None),) * image.ndim] * np.float32(self.gain)
        if self.blur:
            seen = ndimage.gaussian_filter(seen, self.blur)
        if self.noise:
            own = float(np.median([sharpness(plane)[0] for plane in _planes(image)]))
            drawn = np.random.default_rng(0).standard_normal(seen.shape)
            seen = seen + self.noise * own * drawn
        return np.ascontiguousarray(seen, np.float32)


DISGUISES = (
    Disguise("shifted by 1", shift=1),
    Disguise("shifted by 2", shift=2),
    Disguise("dimmer", gain=0.7),
    Disguise("brighter", gain=1.4),
    Disguise("noisier", noise=1.0),
    Disguise("blurred", blur=0.7),
)


def _planes(image: Floats) -> Floats:
    return image.reshape(-1, *image.shape[-2:])


@dataclass(frozen=True, slots=True)
class Stability:
    """How well readings of one image agree.

    Attributes
    ----------
    ids: of the objects found in the image as it is.
    overlap: of each, its intersection over union with the object of a disguised image that it
        shares most with; a row for each disguise.
    f1: of each disguise, how many objects agree at an overlap of a half, as an F1.
    """

    ids: npt.NDArray[np.int64]
    overlap: npt.NDArray[np.float64]
    f1: tuple[float, ...]


def stability(
    image: Floats, labels: Labels, find: Find, disguises: Sequence[Disguise] = DISGUISES
) -> Stability:
    """Compare `labels`, found in a normalised `image`, with what `find` finds in disguises."""
    ids = np.unique(labels[labels > 0]).astype(np.int64)
    rows, scores = [], []
    for disguise in disguises:
        inside = (slice(disguise.shift, None),) * image.ndim
        other = find(disguise(image))
        overlap, f1 = agreement(labels[inside], other, ids)
        rows.append(overlap)
        scores.append(f1)
    return Stability(ids, np.reshape(rows, (len(disguises), len(ids))), tuple(scores))


def agreement(
    one: Labels, other: Labels, ids: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.float64], float]:
    """Best overlap of each of `ids` in `one` with any object of `other`, and F1 at a half.

    Above a half no two objects match the same one. An object that is not there overlaps nothing.
    """
    known = np.concatenate([[0], ids])
    p = np.searchsorted(known, one.ravel())
    found, q = np.unique(other, return_inverse=True)
    pairs = np.bincount(p * len(found) + q.ravel(), minlength=len(known) * len(found))
    shared = pairs.reshape(len(known), len(found)).astype(np.float64)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    overlap = (shared / np.maximum(union, 1))[1:, found != 0]
    best = overlap.max(axis=1, initial=0.0)
    here, there = int((shared[1:].sum(axis=1) > 0).sum()), int((found != 0).sum())
    f1 = 2 * int((best > 0.5).sum()) / (here + there) if here + there else 1.0
    return best, f1


SEEN = ("agreement", "least agreement", "overlap", "members", "certainty", "doubt")
"""What is seen of an image without labels, by name; `seen` gives them."""


def seen(
    found: Sequence[Stability],
    members: Sequence[Sequence[float]],
    probabilities: Sequence[Floats],
    labels: Sequence[Labels],
) -> dict[str, float]:
    """What tells how good labels are, of one image or of several windows of one, by SEEN.

    agreement: mean F1 between the image and its disguises; least agreement: of the worst of them.
    overlap: mean of the objects' best overlaps. members: of the F1 between the model and other
    models of each window, `members`, the mean of the two best. certainty: mean probability of the
    foreground in objects. doubt: how much of what may be foreground is as likely as not, from 0 to
    1. Objects weigh the same in whichever window; windows without any count as one object.
    `probabilities` are those of the foreground.
    """
    weight = np.array([max(len(one.ids), 1) for one in found], np.float64)
    by_disguise = np.average([one.f1 for one in found], axis=0, weights=weight)
    overlaps = np.concatenate([one.overlap.mean(axis=0) for one in found])
    inside = np.concatenate([p[one > 0] for p, one in zip(probabilities, labels, strict=True)])
    every = np.concatenate([p.ravel() for p in probabilities]).astype(np.float64)
    return {
        "agreement": float(by_disguise.mean()),
        "least agreement": float(by_disguise.min()),
        "overlap": float(overlaps.mean()) if len(overlaps) else 0.0,
        "members": float(np.sort(np.average(members, axis=0, weights=weight))[-2:].mean()),
        "certainty": float(inside.mean()) if len(inside) else 0.0,
        "doubt": float((2 * every * (1 - every)).sum() / max(every.sum(), 1e-9)),
    }
