"""Calibration: from what is seen without labels to the F1 to expect, with an interval."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]
COVERED = 0.9
"""Share of images whose F1 lies in the interval, as measured on domains left out."""
RIDGE = 1e-3
"""Weight of the squared coefficients, against the mean squared error of F1."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A frozen line, seen through a logistic function.

    Attributes
    ----------
    features: names of what goes in.
    centre, scale: of each feature in what it was made from.
    weights, intercept: of the standardised features.
    error: absolute error that COVERED of images keep to, in domains left out of the fit.
    made_from: what it was made from, in words and numbers.
    """

    features: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    error: float
    made_from: dict[str, Any]

    def expected(self, seen: Mapping[str, float]) -> tuple[float, float, float]:
        """Expected F1, and the ends of its interval."""
        row = np.array([[seen[name] for name in self.features]], np.float64)
        f1 = float(self.of(row)[0])
        return f1, max(0.0, f1 - self.error), min(1.0, f1 + self.error)

    def of(self, rows: Floats) -> Floats:
        """Expected F1 of rows of features."""
        standard = (rows - np.array(self.centre)) / np.array(self.scale)
        return np.asarray(special.expit(standard @ np.array(self.weights) + self.intercept))

    def document(self) -> dict[str, Any]:
        """As it is shipped."""
        return asdict(self)

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """From what `document` gave."""
        lists = {k: tuple(v) for k, v in said.items() if isinstance(v, list)}
        return cls(**{**said, **lists})


def fitted(
    names: Sequence[str],
    rows: Floats,
    f1: Floats,
    domains: Sequence[str],
    made_from: Mapping[str, Any],
) -> Calibrator:
    """Fit to images `(images, features)` with known F1; each domain weighs the same.

    The error is that of fits that leave out each domain in turn.
    """
    away = np.abs(apart(names, rows, f1, domains) - f1)
    order = np.argsort(away)
    share = np.cumsum(_weights(domains)[order])
    error = away[order][np.searchsorted(share, COVERED * share[-1])]
    return _fit(names, rows, f1, domains, float(error), made_from)


def apart(names: Sequence[str], rows: Floats, f1: Floats, domains: Sequence[str]) -> Floats:
    """F1 expected of each image by a calibrator that never saw an image of its domain.

    Raises ValueError where there are fewer than three domains.
    """
    kinds = np.asarray(domains)
    if len(np.unique(kinds)) < 3:
        raise ValueError(f"{len(np.unique(kinds))} domains: it takes three to leave one out.")
    expected = np.zeros(len(f1))
    for kind in np.unique(kinds):
        mine = kinds == kind
        one = _fit(names, rows[~mine], f1[~mine], kinds[~mine].tolist(), 1.0, {})
        expected[mine] = one.of(rows[mine])
    return expected


def _weights(domains: Sequence[str]) -> Floats:
    _, number, counts = np.unique(domains, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[number], np.float64)


def _fit(
    names: Sequence[str],
    rows: Floats,
    f1: Floats,
    domains: Sequence[str],
    error: float,
    made_from: Mapping[str, Any],
) -> Calibrator:
    weight = _weights(domains)
    centre = np.average(rows, axis=0, weights=weight)
    scale = np.sqrt(np.average((rows - centre) ** 2, axis=0, weights=weight)) + 1e-9
    standard = (rows - centre) / scale

    def loss(parameters: Floats) -> float:
        away = special.expit(standard @ parameters[:-1] + parameters[-1]) - f1
        ridge = RIDGE * float((parameters[:-1] ** 2).sum())
        return float(np.average(away**2, weights=weight)) + ridge

    best = optimize.minimize(loss, np.zeros(rows.shape[1] + 1), method="BFGS").x
    return Calibrator(
        features=tuple(names),
        centre=tuple(centre.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(best[:-1].tolist()),
        intercept=float(best[-1]),
        error=error,
        made_from=dict(made_from),
    )
