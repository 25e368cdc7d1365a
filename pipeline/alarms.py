"""Alarms: checks that go red on what is harmed, and how seldom they do on what is not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

State = Literal["fine", "alarm", "off"]
LEVEL = 1e-3
"""Probability that a check goes red where nothing is harmed, all of its tests together."""
FEWEST = 8
"""Values from which on an outlier among them can be told."""
NAMED = 8
"""Places that a sentence names at most."""
SIDE = 2
"""Neighbours on either side whose median is what a value of a series is expected to be."""


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes
    ----------
    name: of the check, the same in every report.
    state: fine; alarm, where something is harmed; or off, where the check does not apply.
    said: what was found and where, or why nothing can be told.
    """

    name: str
    state: State
    said: str


def outlying(values: npt.ArrayLike, level: float, least: float = 0.0) -> list[int]:
    """Places of values that do not belong to the others, up to a quarter of them.

    Rosner's generalised extreme Studentised deviate (Technometrics 25, 165, 1983): of values that
    all come from one normal distribution it names any with probability `level`. What differs from
    the others' mean by no more than `least` is never named. None are with fewer than FEWEST.
    """
    series = np.asarray(values, np.float64)
    left, removed, last = list(range(len(series))), list[int](), 0
    if len(series) < FEWEST:
        return []
    for number in range(1, len(series) // 4 + 1):
        here = series[left]
        deviation = float(here.std(ddof=1))
        if deviation <= 1e-12 * max(1.0, float(np.abs(here).max())):
            break
        away = np.abs(here - here.mean())
        worst = int(away.argmax())
        removed.append(left.pop(worst))
        rest = float(np.mean(series[left]))
        if away[worst] / deviation > _critical(len(here), level) and (
            abs(series[removed[-1]] - rest) > least
        ):
            last = number
    return sorted(removed[:last])


def _critical(count: int, level: float) -> float:
    """What the largest Studentised deviate of `count` normal values exceeds with `level`."""
    t = float(stats.t.ppf(1 - level / (2 * count), count - 2))
    return (count - 1) * t / math.sqrt((count - 2 + t**2) * count)


def leaping(series: Sequence[float], level: float, least: float = 0.0) -> list[int]:
    """Places where a series leaps away from its neighbours and back, however it drifts."""
    values = np.asarray(series, np.float64)
    return outlying(values - expected(values), level, least) if len(values) >= FEWEST else []


def expected(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of each value of a series, the median of the neighbours, itself left out."""
    padded = np.pad(np.asarray(values, np.float64), SIDE, mode="reflect")
    shifts = [s for s in range(2 * SIDE + 1) if s != SIDE]
    around = np.stack([padded[s : s + len(values)] for s in shifts])
    return np.asarray(np.median(around, axis=0))


def more_than_elsewhere(here: int, elsewhere: Sequence[int]) -> float:
    """Probability of as many or more here, if things lie here as often as in each place elsewhere.

    Given the sum, the count here is binomial (J. Przyborowski, H. Wilenski, Biometrika 31, 313,
    1940).
    """
    total = here + sum(elsewhere)
    if not total or not len(elsewhere):
        return 1.0
    return float(stats.binom.sf(here - 1, total, 1 / (1 + len(elsewhere))))


def trend(values: Sequence[float]) -> tuple[float, float]:
    """Kendall's rank correlation of a series with its order, and its two-sided probability."""
    if len(values) < FEWEST or np.ptp(values) == 0:
        return 0.0, 1.0
    found = stats.kendalltau(np.arange(len(values)), values)
    return float(found.statistic), float(found.pvalue)
