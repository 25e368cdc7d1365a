"""Decisions: from what brightness on a detection is an object, from an image's own detections.

Every image has detections that are no objects: noise and texture that happen to look alike. How
bright these are differs between images. So the brightnesses of all that was detected, in units of
the crop's object, are taken for a mixture: of others, whose number falls exponentially, and of
objects, of which the logarithm is normal. What either is like before an image was seen is told
below, in numbers that hold for all images.
"""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FAINTEST = 0.03
"""Brightness, of the crop's object, below which nothing is looked at."""
OBJECTS = (0.7, 0.4, 0.5)
"""Of objects: the expected median; the standard deviations of its logarithm, and of objects'."""
OTHERS = 0.05
"""Of all else: the expected mean above `FAINTEST`."""
WEIGHT = 20.0
"""Detections that these expectations count for."""
ROUNDS = 200
TRIED = np.linspace(0.05, 0.8, 301)
"""Brightnesses that may separate the two."""


def least_brightness(everything: Floats) -> float:
    """The brightness above which a detection is more likely an object than not.

    `everything` is the brightness of all detections in images of the kind, in units of the crop's
    object. The most likely mixture, given what is expected, by expectation and maximisation.
    """
    seen = np.sort(everything[everything > FAINTEST])
    logarithm = np.log(seen)
    expected, doubt, usual = math.log(OBJECTS[0]), OBJECTS[1], OBJECTS[2]
    middle, spread, share, mean = expected, usual, 0.3, OTHERS
    for _ in range(ROUNDS):
        objects = share * _normal(logarithm, middle, spread)
        others = (1 - share) * _exponential(seen, mean)
        likely = objects / np.maximum(objects + others, 1e-300)
        count, rest = float(likely.sum()), float((1 - likely).sum())
        share = (count + 1) / (len(seen) + 4)
        pull = (spread / doubt) ** 2
        middle = (float((likely * logarithm).sum()) + pull * expected) / (count + pull)
        square = float((likely * (logarithm - middle) ** 2).sum())
        spread = math.sqrt((square + WEIGHT * usual**2) / (count + WEIGHT))
        above = float(((1 - likely) * (seen - FAINTEST)).sum())
        mean = (above + WEIGHT * OTHERS) / (rest + WEIGHT)
    tried = TRIED[math.exp(middle) > TRIED]
    objects = share * _normal(np.log(tried), middle, spread)
    fewer = np.flatnonzero(objects < (1 - share) * _exponential(tried, mean))
    return float(tried[fewer[-1]] if len(fewer) else TRIED[0])


def _normal(logarithm: Floats, middle: float, spread: float) -> Floats:
    """Density, per brightness, of what has a normal logarithm."""
    scaled = np.exp(-(((logarithm - middle) / spread) ** 2) / 2) / np.exp(logarithm)
    return np.asarray(scaled / (spread * math.sqrt(2 * math.pi)))


def _exponential(seen: Floats, mean: float) -> Floats:
    return np.asarray(np.exp(-(seen - FAINTEST) / mean) / mean)
