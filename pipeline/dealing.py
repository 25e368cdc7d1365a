"""Dealing units of work to jobs: runs of neighbours, as even as their sizes allow."""

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

Unit = TypeVar("Unit")

MOST_SHARES = 1000  # SLURM takes arrays of up to 1001 jobs unless a site says otherwise
HALVINGS = 60  # of an interval of floats: it is one number then


def shares(
    units: Sequence[Unit],
    jobs: int,
    sizes: Sequence[float] = (),
    budget: float = math.inf,
    most: int = MOST_SHARES,
) -> list[Sequence[Unit]]:
    """Cut `units` into runs, as even as their `sizes` allow; without sizes all count the same.

    There are at least `jobs` runs if there are so many units, and as many as it takes for none to
    exceed `budget` unless by a single unit; but never more than `most`, as an array may have.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}: it must be at least 1.")
    if not units:
        return []
    weights = sizes if any(sizes) else [1.0] * len(units)
    edges = [0.0, *itertools.accumulate(weights)]
    needed = _fewest(edges, budget) if any(sizes) else 1
    count = min(max(jobs, needed), len(units), most)
    cuts = _cuts(edges, count, min(budget, edges[-1]) if needed <= count else edges[-1])
    return [units[low:high] for low, high in itertools.pairwise(cuts)]


def _cuts(edges: Sequence[float], count: int, capacity: float) -> list[int]:
    """Where to cut into `count` runs, the largest as small as can be, the others near the mean.

    `edges` are the sums of sizes up to each place; runs of at most `capacity` are known to do.
    """
    too_small = 0.0
    for _ in range(HALVINGS):
        middle = (too_small + capacity) / 2
        if _fewest(edges, middle) <= count:
            capacity = middle
        else:
            too_small = middle
    last = len(edges) - 1
    needed = [0] * len(edges)
    for place in reversed(range(last)):
        needed[place] = 1 + needed[_reach(edges, place, capacity)]
    cuts = [0]
    for after in reversed(range(count)):
        start = cuts[-1]
        mean = edges[start] + (edges[-1] - edges[start]) / (after + 1)
        nearest = min(bisect.bisect_left(edges, mean), last)
        if mean - edges[nearest - 1] < edges[nearest] - mean:
            nearest -= 1
        # what follows must fit into the runs that are left, and give each of them a unit
        first = bisect.bisect_left(needed, -after, key=lambda runs: -runs)
        lowest = max(first, start + 1)
        highest = min(_reach(edges, start, capacity), last - after)
        cuts.append(min(max(nearest, lowest), highest))
    return cuts


def _fewest(edges: Sequence[float], capacity: float) -> int:
    """The least number of runs of at most `capacity`, or of one unit."""
    place, count = 0, 0
    while place < len(edges) - 1:
        place, count = _reach(edges, place, capacity), count + 1
    return count


def _reach(edges: Sequence[float], start: int, capacity: float) -> int:
    """The end of the longest run of at most `capacity`, or of one unit."""
    return max(start + 1, bisect.bisect_right(edges, edges[start] + capacity) - 1)
