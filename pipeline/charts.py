"""Charts: acquisitions of a campaign beside each other, and which of them are not like the rest."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import alarms
from pipeline.alarms import FEWEST, LEVEL, Check

Floats = npt.NDArray[np.float64]
LEAST = 0.1
"""Acquisitions that differ by less, in the logarithm of a feature, are never called out."""
SWAPPED = 4.0
"""How many times nearer channels must be to the others' once they are exchanged."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One feature of acquisitions, in their order.

    Attributes
    ----------
    name: of the feature.
    values: one for each acquisition; None where it has none.
    """

    name: str
    acquisitions: tuple[str, ...]
    values: tuple[float | None, ...]

    @property
    def known(self) -> tuple[list[int], Floats]:
        """Places that have a positive value, and its logarithm."""
        places = [i for i, value in enumerate(self.values) if value is not None and value > 0]
        return places, np.log([float(self.values[i] or 1) for i in places])

    @property
    def limits(self) -> tuple[float, float, float] | None:
        """Centre and control limits: 3 standard deviations, from moving ranges, in logarithms.

        W. A. Shewhart's chart of individual values; None with fewer than FEWEST.
        """
        _, logs = self.known
        if len(logs) < FEWEST:
            return None
        sigma = float(np.median(np.abs(np.diff(logs)))) / 0.954
        centre = float(np.median(logs))
        return tuple(np.exp([centre - 3 * sigma, centre, centre + 3 * sigma]).tolist())


def outliers(charts: Sequence[Chart]) -> Check:
    """Which acquisitions do not belong to the others; all charts together err with LEVEL."""
    name = "acquisitions unlike the others"
    said, told = list[str](), 0
    for chart in charts:
        places, logs = chart.known
        told += len(places) >= FEWEST
        for i in alarms.outlying(logs, LEVEL / len(charts), LEAST):
            times = np.exp(logs[i] - np.median(logs))
            said.append(f"{chart.acquisitions[places[i]]}: {chart.name} is {times:.2g} times usual")
    if said:
        return Check(name, "alarm", "; ".join(said) + ".")
    if not told:
        return Check(name, "off", f"It takes {FEWEST} acquisitions to tell which one differs.")
    return Check(name, "fine", f"{told} features, no acquisition stands out.")


def drift(charts: Sequence[Chart]) -> Check:
    """Whether a feature rises or falls with the order of acquisitions."""
    name = "drift over the campaign"
    said, told = list[str](), 0
    for chart in charts:
        _, logs = chart.known
        if len(logs) < FEWEST:
            continue
        told += 1
        rank, probability = alarms.trend(logs.tolist())
        third = max(1, len(logs) // 3)
        change = float(np.mean(logs[-third:]) - np.mean(logs[:third]))
        if probability < LEVEL / len(charts) and abs(change) > LEAST:
            verb = "rises" if rank > 0 else "falls"
            said.append(f"{chart.name} {verb}, to {np.exp(change):.2g} times")
    if said:
        return Check(
            name, "alarm", "From the first acquisitions to the last " + "; ".join(said) + "."
        )
    if not told:
        return Check(name, "off", f"It takes {FEWEST} acquisitions to tell a drift.")
    return Check(name, "fine", f"{told} features, none rises or falls steadily.")


def swapped(features: Mapping[str, Mapping[str, Sequence[float]]]) -> Check:
    """Whether an acquisition's channels look like each other's elsewhere.

    `features[acquisition][channel]` are comparable numbers, such as logarithms of noise and
    brightness. Distances are in spreads over the other acquisitions with the same channels. An
    exchange must bring channels nearer by SWAPPED times, and to within what is usual.
    """
    name = "swapped channels"
    by_names: dict[tuple[str, ...], list[str]] = {}
    for acquisition, channels in features.items():
        by_names.setdefault(tuple(channels), []).append(acquisition)
    groups = {n: a for n, a in by_names.items() if len(n) > 1 and len(a) >= 4}
    if not groups:
        return Check(name, "off", "It takes 4 acquisitions with the same channels, two or more.")
    said = []
    for names, acquisitions in groups.items():
        table = np.array([[features[a][c] for c in names] for a in acquisitions], np.float64)
        for number, acquisition in enumerate(acquisitions):
            if order := _exchange(table[number], np.delete(table, number, axis=0)):
                pairs = [f"{names[i]} looks like {names[j]}" for i, j in enumerate(order) if i != j]
                said.append(f"{acquisition}: {', '.join(pairs)} elsewhere")
    if said:
        return Check(name, "alarm", "; ".join(said) + ".")
    return Check(name, "fine", "Every channel looks most like itself elsewhere.")


def _exchange(own: Floats, others: Floats) -> tuple[int, ...] | None:
    """The order in which channels `(channels, features)` look like others', if not their own."""
    usual = np.median(others, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(others - usual), axis=0), LEAST)

    def away(order: tuple[int, ...]) -> float:
        return float((((own - usual[list(order)]) / spread[list(order)]) ** 2).mean())

    straight = tuple(range(len(own)))
    best = min(itertools.permutations(straight), key=away) if len(own) <= 5 else straight
    most = max(away_of_others(others), 1.0)
    is_nearer = away(straight) > SWAPPED * max(away(best), 1.0) and away(best) <= 4 * most
    return best if best != straight and is_nearer else None


def away_of_others(others: Floats) -> float:
    """The largest mean squared distance, in spreads, of any of the others."""
    usual = np.median(others, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(others - usual), axis=0), LEAST)
    return float((((others - usual) / spread) ** 2).mean(axis=(1, 2)).max())
