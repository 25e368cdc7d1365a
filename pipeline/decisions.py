"""Decisions: from what brightness on a detection is an object, from an image's own detections.

Every image has detections that are no objects: noise and texture that happen to look alike, and
often things of another kind. How bright these are differs between images. So the brightnesses of
all that was detected, in units of the crop's object, are taken for a mixture: of others, whose
number falls exponentially, and of objects, of which the logarithm is normal; of two such kinds
where that explains them better. The brighter kind is then the crop's. What each is like before an
image was seen is told below, in numbers that hold for all images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FAINTEST = 0.03
"""Brightness, of the crop's object, below which nothing is looked at."""
OTHERS = 0.05
"""Of what is of no kind: the expected mean above `FAINTEST`."""
WEIGHT = 20.0
"""Detections that these expectations count for."""
ROUNDS = 200
TRIED = np.linspace(0.05, 0.8, 301)
"""Brightnesses that may separate objects from all else."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is expected of one kind of things.

    Attributes
    ----------
    median: of their brightness; `doubt` is the standard deviation of its logarithm.
    spread: usual standard deviation of the logarithm of their brightness.
    """

    median: float
    doubt: float
    spread: float


OBJECTS = (Kind(0.7, 0.4, 0.5),)
TWO_KINDS = (Kind(0.3, 0.6, 0.3), Kind(0.7, 0.4, 0.3))
"""Each of the two is narrower than one that must hold both; objects come last."""
BEGUN = ((0.2, 0.8), (0.4, 1.0))
"""Medians from which the mixture of two kinds is sought."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Kinds, the last of which is the crop's, and all else.

    Attributes
    ----------
    shares, middles, spreads: of each kind: of all detections; of the logarithm of brightness.
    mean: of all else, above `FAINTEST`.
    plausible: logarithm of how likely it makes what was seen, times what is expected of medians.
    """

    shares: Floats
    middles: Floats
    spreads: Floats
    mean: float
    plausible: float

    def densities(self, seen: Floats) -> tuple[Floats, Floats]:
        """Of each kind `(kinds, n)`, and of all else `(n,)`, at each brightness."""
        away = (np.log(seen) - self.middles[:, None]) / self.spreads[:, None]
        height = self.shares / (self.spreads * math.sqrt(2 * math.pi))
        kinds = height[:, None] * np.exp(-(away**2) / 2) / seen
        rest = (1 - self.shares.sum()) * np.exp(-(seen - FAINTEST) / self.mean) / self.mean
        return kinds, rest

    def least(self) -> float:
        """The brightness above which a detection is more likely an object than not."""
        tried = TRIED[math.exp(self.middles[-1]) > TRIED]
        kinds, rest = self.densities(tried)
        fewer = np.flatnonzero(kinds[-1] < kinds[:-1].sum(axis=0) + rest)
        return float(tried[fewer[-1]] if len(fewer) else TRIED[0])


def least_brightness(everything: Floats) -> float:
    """The brightness above which a detection is more likely an object than not.

    `everything` is the brightness of all detections in images of the kind, in units of the crop's
    object. By the most likely mixture, given what is expected; two kinds must pay for their three
    further numbers (G. Schwarz, Annals of Statistics 6, 461, 1978).
    """
    seen = np.sort(everything[everything > FAINTEST])
    one = fitted(seen, OBJECTS, [kind.median for kind in OBJECTS])
    two = max((fitted(seen, TWO_KINDS, begun) for begun in BEGUN), key=lambda it: it.plausible)
    price = 1.5 * math.log(max(1, len(seen)))
    return (two if two.plausible - one.plausible > price else one).least()


def fitted(seen: Floats, kinds: Sequence[Kind], begun: Sequence[float]) -> Mixture:
    """The mixture that explains brightnesses best, by expectation and maximisation.

    `begun` are the medians to begin with.
    """
    logarithm, count = np.log(seen), len(seen)
    expected = np.log([kind.median for kind in kinds])
    doubt = np.array([kind.doubt for kind in kinds])
    usual = np.array([kind.spread for kind in kinds])
    found = Mixture(np.full(len(kinds), 0.3 / len(kinds)), np.log(begun), usual, OTHERS, -math.inf)
    for _ in range(ROUNDS):
        each, rest = found.densities(seen)
        total = np.maximum(each.sum(axis=0) + rest, 1e-300)
        likely, others = each / total, rest / total
        weights = likely.sum(axis=1)
        pull = (found.spreads / doubt) ** 2
        middles = (likely @ logarithm + pull * expected) / (weights + pull)
        squares = (likely * (logarithm - middles[:, None]) ** 2).sum(axis=1)
        above = float((others * (seen - FAINTEST)).sum())
        found = Mixture(
            (weights + 1) / (count + 2 + 2 * len(kinds)),
            middles,
            np.sqrt((squares + WEIGHT * usual**2) / (weights + WEIGHT)),
            (above + WEIGHT * OTHERS) / (float(others.sum()) + WEIGHT),
            float(np.log(total).sum() - (((found.middles - expected) / doubt) ** 2).sum() / 2),
        )
    return found
