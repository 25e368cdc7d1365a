"""Likeness: how far objects are from those of the shots, and which to look at first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import spatial, stats

Floats = npt.NDArray[np.float64]
RIDGE = 1e-4
"""Added to the variance of each feature, so that none without any is divided by."""
FEWEST = 12
"""Objects of the shots from which on others can be said to differ from them."""


def features(
    table: pd.DataFrame, channel: str, window: tuple[float, float], axes: str
) -> pd.DataFrame:
    """What objects are held against each other by, a row per object of `table`, its index kept.

    Logarithms of diameter, elongation and the distance to the nearest other object of the frame;
    brightness in its channel, where `window` holds the intensities that become 0 and 1; contrast,
    its brightest less its darkest voxel. The last two as asinh: a logarithm that bears 0.
    """
    low, high = window
    bright = (table[f"mean_{channel}"] - low) / (high - low)
    range_of = (table[f"max_{channel}"] - table[f"min_{channel}"]) / (high - low)
    found = {
        "diameter": np.log(table["equivalent_diameter_um"]),
        "elongation": np.log(table["elongation"]),
        "distance": np.log(_nearest(table, axes) / table["equivalent_diameter_um"]),
        "brightness": np.arcsinh(5 * bright),
        "contrast": np.arcsinh(5 * range_of),
    }
    return pd.DataFrame(found, index=table.index)


def _nearest(table: pd.DataFrame, axes: str) -> Floats:
    """Distance in um to the nearest other object of the frame; five diameters where it is alone."""
    places = table[[f"{axis}_um" for axis in axes]].to_numpy(float)
    most = 5 * table["equivalent_diameter_um"].to_numpy(float)
    found = most.copy()
    for frame in np.unique(table["t"]):
        here = np.flatnonzero(table["t"].to_numpy() == frame)
        if len(here) > 1:
            away, _ = spatial.KDTree(places[here]).query(places[here], k=2)
            found[here] = np.clip(np.asarray(away)[:, 1], 1e-3 * most[here], most[here])
    return found


@dataclass(frozen=True, slots=True)
class Known:
    """What objects of the shots are like.

    Attributes
    ----------
    names: of the features.
    centre, inverse: their mean and inverse covariance.
    count: how many objects there were.
    apart: squared distance of each from all the others, sorted.
    """

    names: tuple[str, ...]
    centre: Floats
    inverse: Floats
    count: int
    apart: Floats

    def probability(self, found: pd.DataFrame) -> Floats:
        """Probability that an object of the shots' kind is so far from them, or farther.

        Hotelling's T^2 of one more observation (Annals of Mathematical Statistics 2, 360, 1931):
        exact where features are normal, whatever the shots' number.
        """
        square = self._square(found)
        n, p = self.count, len(self.names)
        ratio = square * n * (n - p) / ((n + 1) * (n - 1) * p)
        return np.asarray(stats.f.sf(ratio, p, n - p))

    def chance(self, found: pd.DataFrame) -> Floats:
        """The same without a word on how features are distributed: a rank among the shots' objects.

        Conformal prediction (V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random
        World, 2005), each of the shots' objects held against the others. Never less than 1 over
        their number plus 1, so that a level of 1 % takes 99.
        """
        farther = self.count - np.searchsorted(self.apart, self._square(found))
        return np.asarray((1 + farther) / (self.count + 1), np.float64)

    def _square(self, found: pd.DataFrame) -> Floats:
        away = found[list(self.names)].to_numpy(float) - self.centre
        return np.einsum("ij,jk,ik->i", away, self.inverse, away)

    def typical(self, found: pd.DataFrame) -> float:
        """How like the shots' objects others are together: mean of log10 of the probability.

        About -0.4 where they are of one kind; no object counts for less than -4.
        """
        if not len(found):
            return -4.0
        return float(np.log10(np.maximum(self.probability(found), 1e-4)).mean())

    def unlike(self, row: "pd.Series[float]") -> str:
        """The feature in which an object is farthest, in words."""
        deviation = 1 / np.sqrt(np.diag(self.inverse))
        away = (np.array([row[name] for name in self.names]) - self.centre) / deviation
        worst = int(np.abs(away).argmax())
        return f"{self.names[worst]} {'above' if away[worst] > 0 else 'below'} the shots'"


def known(found: pd.DataFrame) -> Known:
    """Learn what objects of the shots are like.

    Raises ValueError where there are fewer than FEWEST.
    """
    values = found.to_numpy(float)
    if len(values) < FEWEST:
        raise ValueError(
            f"the shots hold {len(values)} objects, of {FEWEST} that it takes to tell who differs"
        )
    covariance = np.cov(values, rowvar=False) + RIDGE * np.eye(values.shape[1])
    centre, inverse = values.mean(axis=0), _inverse(covariance)
    return Known(tuple(map(str, found)), centre, inverse, len(values), _apart(values))


def _apart(values: Floats) -> Floats:
    """Squared distance of each row from the mean of the others, by their covariance; sorted."""
    n, p = values.shape
    away = values - values.mean(axis=0)
    outer = away[:, :, None] * away[:, None, :]
    others = (away.T @ away - n / (n - 1) * outer) / (n - 2) + RIDGE * np.eye(p)
    step = n / (n - 1) * away
    return np.sort(np.einsum("ij,ij->i", step, np.linalg.solve(others, step[..., None])[..., 0]))


def _inverse(matrix: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def suspicion(signals: pd.DataFrame) -> pd.Series:
    """How suspicious each object is: low values of `signals` are suspicious, unknown ones are not.

    Each signal becomes the share of objects at least as low; Fisher's sum of their logarithms
    orders objects by all of them (Statistical Methods for Research Workers, 1932).
    """
    shares = signals.rank(method="max", pct=True).fillna(1.0)
    return -2 * np.log(shares).sum(axis=1)


def first(signals: pd.DataFrame, most: int) -> list[int]:
    """Places of the most suspicious objects, the worst first."""
    order = np.argsort(-suspicion(signals).to_numpy(), kind="stable")
    return [int(i) for i in order[:most]]


def reason(signals: pd.DataFrame, place: int) -> str:
    """The name of the signal that is lowest for an object, among all objects."""
    shares = signals.rank(method="max", pct=True).fillna(1.0).iloc[place]
    return str(shares.idxmin())


def regions(
    table: pd.DataFrame, axes: str, voxel_size_um: Mapping[str, float], margin_um: float
) -> pd.DataFrame:
    """Boxes around objects, `margin_um` wider on each side, as tables of regions of interest.

    Columns as ngio and Fractal have them; in planar images regions are one voxel deep.
    """
    columns: dict[str, Sequence[float] | Floats] = {}
    for axis in "xyz":
        if axis in axes:
            start = table[f"first_{axis}"] * voxel_size_um[axis] - margin_um
            stop = (table[f"last_{axis}"] + 1) * voxel_size_um[axis] + margin_um
            columns[f"{axis}_micrometer"] = np.maximum(start.to_numpy(float), 0.0)
            columns[f"len_{axis}_micrometer"] = stop.to_numpy(float) - columns[f"{axis}_micrometer"]
        else:
            columns[f"{axis}_micrometer"] = np.zeros(len(table))
            columns[f"len_{axis}_micrometer"] = np.ones(len(table))
    names = [f"{number}_{label}" for number, label in enumerate(table.index, start=1)]
    return pd.DataFrame(columns, index=pd.Index(names, name="FieldIndex"))
