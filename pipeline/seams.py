"""Seams: whether objects differ where tiles or shards meet from what they are elsewhere."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline import alarms
from pipeline.alarms import LEVEL, Check

ELSEWHERE = 8
"""Places on either side of a seam that it is compared with."""
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Objects:
    """Where objects lie along one axis, in voxels.

    Attributes
    ----------
    first, last: of the bounding boxes, both ends included.
    centre: of the voxels.
    size: in any unit.
    """

    first: Ints
    last: Ints
    centre: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]


def positions(side: int, step: float, tile: int) -> list[int]:
    """Where tiles of `tile` steps begin along an axis of `side` voxels, without the first."""
    found = (round(i * tile * step) for i in range(1, int(side / (tile * step)) + 2))
    return [place for place in found if place < side]


def straight(
    objects: Mapping[str, Objects], seams: Mapping[str, Sequence[int]], step: Mapping[str, float]
) -> Check:
    """Whether borders of objects lie on a seam more often than beside it.

    A tile that does not know its neighbours cuts objects along a straight line. Borders on each
    seam are counted, of the objects that end before and of those that begin behind, and compared
    with ELSEWHERE places on either side, whole `step`s away: where the network works on coarser
    voxels, all borders prefer some. All tests together go red by chance with LEVEL.
    """
    name = "borders at seams"
    tests = [(axis, place) for axis, places in seams.items() for place in places]
    if not tests:
        return Check(name, "off", "There is one tile and one shard: no seam.")
    found, counted = list[str](), 0
    for axis, place in tests:
        counts = _borders(objects[axis], place, seams[axis], max(1, round(step[axis])))
        counted += counts[0]
        if alarms.more_than_elsewhere(counts[0], counts[1:]) < LEVEL / len(tests):
            usual = np.mean(counts[1:])
            found.append(
                f"{counts[0]} borders lie on the seam at {axis} = {place}, {usual:.1f} on lines "
                "beside it: objects are cut there"
            )
    if found:
        return Check(name, "alarm", "; ".join(found) + ".")
    return Check(name, "fine", f"{len(tests)} seams, {counted} borders on them: as many as beside.")


def _borders(objects: Objects, seam: int, others: Sequence[int], step: int) -> list[int]:
    """Borders on a seam, then on each of the places beside it that are no seam themselves."""
    shifts = [0] + [s * k for k in range(1, ELSEWHERE + 1) for s in (-step, step)]
    places = [seam + shift for shift in shifts if shift == 0 or seam + shift not in others]
    begin = np.bincount(objects.first[objects.first > 0], minlength=1)
    end = np.bincount(objects.last + 1, minlength=1)
    end[-1] = 0  # where the volume may end
    return [int(sum(counts[p] for counts in (begin, end) if 0 <= p < len(counts))) for p in places]


def density(
    objects: Mapping[str, Objects], seams: Mapping[str, Sequence[int]], width: Mapping[str, float]
) -> Check:
    """Whether objects are as many, and as large, around seams as between them.

    Counts in bands `width` wide around seams against those of bands between them, whose spread
    says how much counts differ anyway; mean logarithms of sizes likewise, object by object.
    """
    name = "density and size at seams"
    tested, found = 0, list[str]()
    for axis, places in seams.items():
        around, between = _bands(objects[axis], places, width[axis])
        if not len(around) or len(between) < alarms.FEWEST:
            continue
        tested += 1
        for what, p, one, other in (
            ("objects in a band", _as_others(around, between), around, between),
            ("voxels in an object", *_sizes(objects[axis], places, width[axis])),
        ):
            if p < LEVEL / (2 * len(seams)):
                found.append(
                    f"{np.mean(one):.1f} {what} around seams across {axis}, {np.mean(other):.1f} "
                    "elsewhere"
                )
    if found:
        return Check(name, "alarm", "; ".join(found) + ".")
    if not tested:
        return Check(name, "off", "There are too few seams, or too little between them.")
    return Check(name, "fine", "Around seams as elsewhere.")


def _bands(objects: Objects, seams: Sequence[int], width: float) -> tuple[Ints, Ints]:
    """Objects in each band around a seam, and in bands that lie between seams."""
    if not len(objects.centre) or not len(seams):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = [0.0, *map(float, seams), float(objects.last.max() + 1)]
    around = np.array(
        [
            ((objects.centre >= s - width / 2) & (objects.centre < s + width / 2)).sum()
            for s in seams
        ]
    )
    between = list[int]()
    for start, stop in itertools.pairwise(ends):
        bands = int((stop - start) / width - 1)
        edges = start + width * (np.arange(bands + 1) + 0.5)
        if bands > 0:
            between += np.histogram(objects.centre, edges)[0].tolist()
    return around, np.array(between, np.int64)


def _as_others(around: Ints, between: Ints) -> float:
    """Probability of so different a mean.

    The larger of two: from the spread between bands of the second kind, for objects cluster, and
    from Poisson's, for few counts are skewed.
    """
    spread = float(between.std(ddof=1)) or float(np.sqrt(max(between.mean(), 1)))
    error = spread * np.sqrt(1 / len(around) + 1 / len(between))
    t = abs(float(around.mean() - between.mean())) / error
    share = len(around) / (len(around) + len(between))
    total = int(around.sum() + between.sum())
    by_counts = stats.binomtest(int(around.sum()), total, share).pvalue if total else 1.0
    return float(max(2 * stats.t.sf(t, len(between) - 1), by_counts))


def _sizes(objects: Objects, seams: Sequence[int], width: float) -> tuple[float, Any, Any]:
    """Probability that objects on seams are as large as others, and the sizes of both.

    Objects count as on a seam whose centre is nearer than half a width, so that whole ones do not
    weigh more for reaching further.
    """
    away = np.abs(objects.centre[:, None] - np.asarray(seams)[None]).min(axis=1)
    one, other = objects.size[away < width / 2], objects.size[away >= width / 2]
    if min(len(one), len(other)) < alarms.FEWEST:
        return 1.0, one, other
    tested = stats.mannwhitneyu(one, other)
    return float(tested.pvalue), one, other


def unlabelled(
    bright: npt.NDArray[np.bool_],
    labelled: npt.NDArray[np.bool_],
    shards: Sequence[tuple[str, tuple[slice, ...]]],
    object_voxels: float,
) -> Check:
    """Whether a shard has no object although it is as bright as objects are elsewhere.

    `bright` and `labelled` are masks of one shape; `shards` are named parts of it. Nothing can be
    told where most of what is bright holds no object anyway.
    """
    name = "shards without objects"
    share = float(labelled[bright].mean()) if bright.any() else 0.0
    if share < 0.5:
        return Check(name, "off", f"{share:.0%} of what is bright is labelled: too little to tell.")
    found = [
        shard
        for shard, part in shards
        if not labelled[part].any() and share * bright[part].sum() > 3 * object_voxels
    ]
    if found:
        said = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
        return Check(
            name, "alarm", f"{said}: bright as objects are elsewhere, and no object in it."
        )
    return Check(name, "fine", f"{len(shards)} shards: none is bright and without objects.")
