"""How well objects agree with a reference: over overlaps, by size, and by kind of error."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import changes
from pipeline.changes import Shared
from pipeline.metrics import Score

OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Of COCO: from this half on, an object has at most one partner, so nothing need be chosen."""
ERRORS = ("split", "merged", "displaced", "missed", "false")
"""Kinds of errors, in this order."""
PARTS = 3
"""Small, middle and large: as many reference objects each."""


@dataclass(frozen=True, slots=True)
class Sized:
    """Scores of the objects whose voxels number at least `least` and less than `below`."""

    least: float
    below: float
    score: Score


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of one frame.

    Attributes
    ----------
    reference, predicted: voxels of each object.
    partner: of each reference object, the largest overlap (intersection over union) that is at
        least a half; else 0. `taken` is the same of each predicted object.
    """

    reference: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    partner: npt.NDArray[np.float64]
    taken: npt.NDArray[np.float64]


def objects(counted: Shared) -> Objects:
    """Sizes and overlaps from shared voxels, `before` being the reference."""
    first, r = np.unique(counted.before, return_inverse=True)
    second, p = np.unique(counted.after, return_inverse=True)
    sizes = [np.zeros(len(ids), np.int64) for ids in (first, second)]
    for size, place in zip(sizes, (r, p), strict=True):
        np.add.at(size, place, counted.voxels)
    both = (counted.before != 0) & (counted.after != 0)
    union = sizes[0][r] + sizes[1][p] - counted.voxels
    overlap = np.where(both, counted.voxels / np.maximum(union, 1), 0)
    overlap[overlap < OVERLAPS[0]] = 0
    best = [np.zeros(len(ids)) for ids in (first, second)]
    for values, place in zip(best, (r, p), strict=True):
        np.maximum.at(values, place, overlap)
    return Objects(
        sizes[0][first != 0], sizes[1][second != 0], best[0][first != 0], best[1][second != 0]
    )


def curve(frames: Sequence[Objects]) -> list[tuple[float, float]]:
    """F1 over the overlap from which objects are the same."""
    found = []
    for overlap in OVERLAPS:
        matched = sum(int((one.partner >= overlap).sum()) for one in frames)
        predicted = sum(len(one.predicted) for one in frames)
        reference = sum(len(one.reference) for one in frames)
        found.append((overlap, Score(matched, predicted - matched, reference - matched).f1))
    return found


def by_size(frames: Sequence[Objects], overlap: float) -> list[Sized]:
    """Scores of small, middle and large objects, a third of the reference each.

    A false object counts where its own size lies. `overlap` is at least a half.
    """
    sizes = np.concatenate([one.reference for one in frames] or [np.zeros(0, np.int64)])
    if len(sizes) < PARTS:
        return []
    inner = np.quantile(sizes, [part / PARTS for part in range(1, PARTS)])
    edges = [0.0, *map(float, inner), np.inf]
    found = []
    for least, below in itertools.pairwise(edges):
        matched = false = missed = 0
        for one in frames:
            here = (one.reference >= least) & (one.reference < below)
            matched += int((one.partner[here] >= overlap).sum())
            missed += int((one.partner[here] < overlap).sum())
            there = (one.predicted >= least) & (one.predicted < below)
            false += int((one.taken[there] < overlap).sum())
        found.append(Sized(least, below, Score(matched, false, missed)))
    return found


@dataclass(frozen=True, slots=True)
class Error:
    """One thing that went wrong, and the ids of the objects that it is about, on either side."""

    kind: str
    reference: tuple[int, ...]
    predicted: tuple[int, ...]


def errors(counted: Shared, overlap: float) -> list[Error]:
    """What went wrong in one frame, kind by kind; `overlap` is that of a found object.

    Reference objects that were split into several, that lie together in one (merged), that were
    found elsewhere or with other outlines (displaced), and that nothing was found of (missed); and
    what was found of nothing (false). An object may be in a split and in a merge.
    """
    told = changes.fates(counted, overlap)
    return [
        *(Error("split", (one,), parts) for one, parts in told.split.items()),
        *(Error("merged", parts, (one,)) for one, parts in told.merged.items()),
        *(Error("displaced", (before,), (after,)) for before, after in told.moved),
        *(Error("missed", (one,), ()) for one in told.lost),
        *(Error("false", (), (one,)) for one in told.gained),
    ]
