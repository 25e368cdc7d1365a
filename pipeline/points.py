"""Points: which detections are objects, where they are, and how well that is known."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import optimize, spatial

from pipeline.crops import Images
from pipeline.detections import Detections
from pipeline.forward import Forward, Refined
from pipeline.gathering import Gathering
from pipeline.templates import Template

Floats = npt.NDArray[np.float64]
FAINTEST = 0.1
"""Fraction of a detector's threshold, below which no brightness makes an object of a detection."""
DIMMED = 0.3
"""Exponent of that fraction: between these, what votes hardly agree on counts for less bright."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a detector on fresh scenes.

    Attributes
    ----------
    threshold: information, 1 / voxel^2, from which on a detection is firm.
    correction: factor and exponent that make standard deviations, in voxels, of information.
    f1: of what is detected with that threshold.
    template: what an object looks like.
    least: strength from which on a detection is an object; 0 where nothing is known of images,
        and whatever is firm is one.
    """

    threshold: float
    correction: tuple[float, float]
    f1: float
    template: Template
    least: float = 0.0

    @property
    def faintest(self) -> float:
        """Information below which no detection is an object."""
        return self.threshold * (FAINTEST if self.least else 1)

    def strengths(self, information: Floats, brightness: Floats) -> Floats:
        """Brightness in units of the template, dimmed where a detection is not firm."""
        firm = np.minimum(information / self.threshold, 1.0)
        return np.asarray(np.maximum(brightness, 0) * firm**DIMMED)


@dataclass(frozen=True, slots=True)
class Points:
    """Objects that were found.

    Attributes
    ----------
    bins: a voxel for each that no other shares, `(n, 2)`.
    places: in voxels, `(n, 2)`.
    deviations: standard deviations of the places along one axis, in voxels.
    scores: from 0 to 1; an object has 0.5 or more.
    """

    bins: npt.NDArray[np.int64]
    places: Floats
    deviations: Floats
    scores: Floats


def margin(trial: Trial, how: Gathering) -> int:
    """Voxels beside a box that tell how bright what is detected in it is."""
    return trial.template.radius + math.ceil(how.catch) + 3


def calibrated(said: Detections, trial: Trial, image: Images, start: tuple[int, ...]) -> Points:
    """The objects among detections, with their standard deviations and scores.

    `image` begins at `start` and holds the `margin` beside the box that they were detected in.
    """
    scores = said.information / (said.information + trial.faintest)
    if trial.least:
        bright = trial.template.brightness(image, start, said.places)
        strong = trial.strengths(said.information, bright)
        scores = np.minimum(scores, strong / (strong + trial.least))
    kept = scores >= 0.5
    factor, exponent = trial.correction
    return Points(
        bins=said.bins[kept],
        places=said.places[kept],
        deviations=factor * np.maximum(said.information[kept], 1e-9) ** exponent,
        scores=scores[kept],
    )


def refined(
    found: Points, forward: Forward, image: Images, start: tuple[int, ...]
) -> tuple[Points, Refined]:
    """The same with places of maximum likelihood and their deviations; and what was refined.

    `image` and `start` are those of `Forward.bounds`.
    """
    best = forward.refined(image, start, found.places)
    deviations = np.where(best.taken, best.deviations, found.deviations)
    return replace(found, places=best.places, deviations=deviations), best


def matched(
    found: Floats, wanted: Floats, within: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs, one to one, of points no further apart than `within`: most pairs, least distance."""
    if not len(found) or not len(wanted):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance = spatial.distance.cdist(found, wanted)
    own, theirs = optimize.linear_sum_assignment(np.minimum(distance, within * (1 + 1e-6)))
    near = distance[own, theirs] <= within
    return own[near], theirs[near]
