"""Detections: where the votes of a network gather, and how well that tells an object's place.

A voxel votes for the place that its displacement points to, with a weight: what it knows of that
place, in inverse variances. Votes are counted in whole numbers, so that their sums have no order,
and all is a function of a neighbourhood, with ties broken by address: a piece of the image that
holds the neighbourhood gives what the whole image gives.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pipeline.gathering import Gathering
from pipeline.tiles import Box

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
FRACTIONS = 256
"""Steps that a voxel is divided into where votes are counted."""
WEIGHTS = 1024
"""Steps that a weight of 1 / voxel^2 is divided into."""
HEAVIEST = 1e5
"""Weight of one vote, in 1 / voxel^2, above which it counts no more."""


def weight(logit: Tensor) -> Tensor:
    """What a vote knows, from the network's first output.

    A square: knowledge of a place grows as the square of the gradient of the square root of the
    light, which is what the network sees.
    """
    return functional.softplus(logit).square().clamp(max=HEAVIEST)


@dataclass(frozen=True, slots=True)
class Detections:
    """What was detected in a box, in the order of `bins`.

    Attributes
    ----------
    bins: the voxel where most votes gather, `(n, 2)`: no two detections share one.
    places: where the objects are, `(n, 2)`, in voxels; whole numbers are the voxels' middles.
    information: what their votes know together of a place along one axis, 1 / voxel^2.
    spread: root mean square distance of the votes from the place, in voxels.
    """

    bins: Numbers
    places: npt.NDArray[np.float64]
    information: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes of voxels: `places` in fractions of a voxel `(n, 2)`, and `weights`, whole numbers."""

    places: Numbers
    weights: Numbers

    @property
    def bins(self) -> Numbers:
        """The voxels that the votes are for."""
        return np.floor_divide(self.places + FRACTIONS // 2, FRACTIONS)


def votes(output: Floats, box: Box, how: Gathering) -> Votes:
    """The votes of the voxels of a box; `output` is the network's, `(3, *box)`."""
    known = weight(torch.from_numpy(np.ascontiguousarray(output[0]))).numpy()
    counted = np.rint(known.astype(np.float64) * WEIGHTS).astype(np.int64)
    moves = output[1:].astype(np.float64) * how.unit
    valid = (counted > 0) & (np.abs(moves) <= how.reach).all(axis=0)
    own = np.argwhere(valid)
    moved = np.rint(moves[:, valid].T * FRACTIONS).astype(np.int64)
    return Votes((own + np.array(box.start)) * FRACTIONS + moved, counted[valid])


def detect(cast: Votes, box: Box, how: Gathering, least: float) -> Detections:
    """What is detected in `box` by votes that include all those of the voxels in its halo.

    `least` is the information, 1 / voxel^2, below which nothing is.
    """
    around = box.grown((2 * (how.apart + 1) + math.ceil(how.catch),) * 2)
    peaks = _peaks(cast, around, how)
    if not len(peaks):
        return _none()
    # Each vote counts for the nearest peak, and then for the mean of the votes near that.
    near = _nearest(cast, peaks, around, how.catch + 1)
    means: npt.NDArray[np.float64] = peaks.astype(np.float64) * FRACTIONS
    chosen = np.zeros(len(near), bool)
    for _ in range(2):
        off = cast.places - means[near]
        chosen = (near >= 0) & (np.hypot(*off.T) <= how.catch * FRACTIONS)
        means = _means(cast, near, chosen, peaks)
    total = _summed(cast.weights[chosen], near[chosen], len(peaks))
    around_mean = (cast.places - np.rint(means[near]).astype(np.int64))[chosen]
    squares = _summed(cast.weights[chosen] * (around_mean**2).sum(axis=1), near[chosen], len(peaks))
    kept = (total >= least * WEIGHTS) & (total > 0) & _inside(peaks, box)
    return Detections(
        bins=peaks[kept],
        places=means[kept] / FRACTIONS,
        information=total[kept] / WEIGHTS,
        spread=np.sqrt(squares[kept] / total[kept]) / FRACTIONS,
    )


def _none() -> Detections:
    return Detections(np.zeros((0, 2), np.int64), np.zeros((0, 2)), np.zeros(0), np.zeros(0))


def _inside(places: Numbers, box: Box) -> npt.NDArray[np.bool_]:
    return np.asarray(((places >= box.start) & (places < box.stop)).all(axis=1))


def _peaks(cast: Votes, box: Box, how: Gathering) -> Numbers:
    """Voxels of a box where more is known of a place than within `apart` of it."""
    grown = box.grown((how.apart + 1,) * 2)
    bins = cast.bins
    here = _inside(bins, grown)
    flat = np.ravel_multi_index(tuple((bins[here] - grown.start).T), grown.shape)
    light = np.bincount(flat, cast.weights[here], int(np.prod(grown.shape)))
    known = light.astype(np.int64).reshape(grown.shape)
    for axis in range(2):
        known = ndimage.correlate1d(known, [1, 2, 1], axis, mode="constant")
    # Of equal neighbours the first in address order stands.
    side = 2 * how.apart + 1
    earlier = np.zeros((side, side), bool)
    earlier.reshape(-1)[: side * side // 2] = True
    later = np.zeros((side, side), bool)
    later.reshape(-1)[side * side // 2 + 1 :] = True
    above = ndimage.maximum_filter(known, footprint=earlier, mode="constant")
    below = ndimage.maximum_filter(known, footprint=later, mode="constant")
    found = np.argwhere((known > above) & (known >= below) & (known > 0)) + grown.start
    return found[_inside(found, box)]


def _nearest(cast: Votes, peaks: Numbers, box: Box, radius: float) -> Numbers:
    """Which peak is the nearest to each vote's voxel, -1 where none is within `radius`.

    Of equally near ones, that at the first offset in address order.
    """
    margin = math.floor(radius)
    grown = box.grown((margin,) * 2)
    owner = np.full(grown.shape, -1)
    steps = range(-margin, margin + 1)
    offsets = [(y, x) for y in steps for x in steps if math.hypot(y, x) <= radius]
    # The last to be written stays: the nearest comes last.
    for offset in sorted(offsets, key=lambda o: (o[0] ** 2 + o[1] ** 2, o), reverse=True):
        owner[tuple((peaks - offset - grown.start).T)] = np.arange(len(peaks))
    bins = cast.bins
    here = _inside(bins, grown)
    near = np.full(len(bins), -1)
    near[here] = owner[tuple((bins[here] - grown.start).T)]
    return near


def _means(
    cast: Votes, near: Numbers, chosen: npt.NDArray[np.bool_], peaks: Numbers
) -> npt.NDArray[np.float64]:
    """The weighted mean of the votes for each peak, in fractions; the peak where there are none."""
    mine, weights = near[chosen], cast.weights[chosen]
    total = np.maximum(_summed(weights, mine, len(peaks)), 1)
    off = cast.places[chosen] - peaks[mine] * FRACTIONS
    sums = [_summed(weights * part, mine, len(peaks)) for part in off.T]
    return peaks * FRACTIONS + np.stack(sums, axis=1) / total[:, None]


def _summed(values: Numbers, groups: Numbers, count: int) -> Numbers:
    """Sums of whole numbers by group: exact, whatever their order."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, groups, values)
    return sums
