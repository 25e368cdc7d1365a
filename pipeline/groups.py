"""Groups: acquisitions by plate, well, position or day, and which groups are unlike the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.alarms import FEWEST, LEVEL, Check
from pipeline.charts import LEAST, Chart

Floats = npt.NDArray[np.float64]
FEWEST_ALIKE = 3
"""Wells, or acquisitions where there are none, from which on a group is held against others."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Acquisitions by something that several have in common, such as their plate.

    Attributes
    ----------
    kind: what it is.
    names: of the group of each acquisition; None where it is not known.
    wells: of each acquisition; those of one well are alike in what the specimen does to them. An
        acquisition without a well is one of its own: None.
    inside: whether acquisitions of one well belong to several groups, as its positions do.
    """

    kind: str
    names: tuple[str | None, ...]
    wells: tuple[str | None, ...]
    inside: bool

    def medians(self, charts: Sequence[Chart]) -> list[tuple[str, int, list[float | None]]]:
        """Of each group its name, how many acquisitions it has, and their median in each chart."""
        found = []
        for name in sorted({one for one in self.names if one is not None}, key=_order):
            members = [i for i, one in enumerate(self.names) if one == name]
            known = [[c.values[i] for i in members if c.values[i] is not None] for c in charts]
            middles = [float(np.median(np.array(k, float))) if k else None for k in known]
            found.append((name, len(members), middles))
        return found


def _order(name: str) -> tuple[str, int, str]:
    """Of names such as A2 and A10, so that numbers count."""
    letters = name.rstrip("0123456789")
    number = name[len(letters) :]
    return (letters, int(number) if number else -1, name)


def unlike(charts: Sequence[Chart], grouping: Grouping) -> Check:
    """Whether groups differ in a feature; all charts together err with LEVEL.

    An analysis of variance of the logarithms. Acquisitions of one well are no independent evidence:
    groups are compared by means of wells, and groups inside of wells by differences within these.
    """
    name = f"{grouping.kind}s unlike the others"
    said, told = list[str](), 0
    for chart in charts:
        values, groups, wells = _comparable(chart, grouping)
        if len(np.unique(groups)) < 2 or len(values) < FEWEST:
            continue
        told += 1
        chance, away = _variance(values, groups, wells)
        worst = max(away, key=lambda group: abs(away[group]))
        if chance < LEVEL / len(charts) and abs(away[worst]) > LEAST:
            said.append(f"{chart.name} of {worst} is {np.exp(away[worst]):.2g} times usual")
    if said:
        return Check(name, "alarm", "; ".join(said) + ".")
    if not told:
        return Check(
            name,
            "off",
            f"It takes two {grouping.kind}s with {FEWEST_ALIKE} wells, or acquisitions without.",
        )
    return Check(name, "fine", f"{told} features, no {grouping.kind} stands out.")


def _comparable(
    chart: Chart, grouping: Grouping
) -> tuple[Floats, npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Logarithms, groups and wells of what is compared, from groups that are large enough."""
    places, logs = chart.known
    rows: dict[tuple[str, str], list[float]] = {}
    for place, value in zip(places, logs, strict=True):
        group, well = grouping.names[place], grouping.wells[place]
        if group is not None:
            one = f"acquisition {place}" if well is None else f"well {well}"
            rows.setdefault((group, one), []).append(float(value))
    count: dict[str, int] = {}
    for group, _ in rows:
        count[group] = count.get(group, 0) + 1
    large = {key: v for key, v in rows.items() if count[key[0]] >= FEWEST_ALIKE}
    wells = [well if grouping.inside else "" for _, well in large]
    means = np.array([np.mean(values) for values in large.values()])
    return means, np.array([group for group, _ in large], str), np.array(wells, str)


def _variance(
    values: Floats, groups: npt.NDArray[np.str_], wells: npt.NDArray[np.str_]
) -> tuple[float, dict[str, float]]:
    """Probability of such differences of groups by chance, and how far each is from the rest."""
    names, group = np.unique(groups, return_inverse=True)
    well = np.unique(wells, return_inverse=True)[1]
    plain = np.eye(well.max() + 1)[well]
    full = np.hstack([plain, np.eye(len(names))[group]])
    left = [values - design @ np.linalg.lstsq(design, values)[0] for design in (plain, full)]
    before, after = (float(one @ one) for one in left)
    ranks = [int(np.linalg.matrix_rank(design)) for design in (plain, full)]
    more, free = ranks[1] - ranks[0], len(values) - ranks[1]
    away = {str(n): float(left[0][group == i].mean()) for i, n in enumerate(names)}
    if more < 1 or free < 1 or after <= 1e-12 * max(before, 1e-300):
        return (1.0 if before <= 1e-24 or free < 1 or more < 1 else 0.0), away
    ratio = (before - after) / more / (after / free)
    return float(stats.f.sf(ratio, more, free)), away
