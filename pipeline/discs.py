"""Discs: what is drawn around points, so that labels show them."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline import instances
from pipeline.labelling import CERTAIN, Labels
from pipeline.tiles import Box

Floats = npt.NDArray[np.float64]


def drawn(
    box: Box,
    ids: npt.NDArray[np.uint64],
    bins: npt.NDArray[np.int64],
    places: Floats,
    scores: Floats,
    radii: Sequence[float],
) -> Labels:
    """Labels of a planar box: each voxel belongs to the nearest place within its disc.

    All in voxels of the box: `bins` `(n, 2)`, the voxel of each object that no other takes away,
    its place `(n, 2)`, and `radii` along y and x. Of equally near places the lower id's counts.
    """
    labels = Labels.empty(box.shape)
    nearest = np.full(box.shape, math.inf)
    for number in np.argsort(ids, kind="stable"):
        around = Box(
            tuple(math.floor(p - r) for p, r in zip(places[number], radii, strict=True)),
            tuple(math.ceil(p + r) + 1 for p, r in zip(places[number], radii, strict=True)),
        ).intersection(box)
        if min(around.shape) <= 0:
            continue
        y, x = (
            (np.arange(a, b) - p) / r
            for a, b, p, r in zip(around.start, around.stop, places[number], radii, strict=True)
        )
        far = y[:, None] ** 2 + x**2
        inside = around.within(box)
        closer = (far <= 1) & (far < nearest[inside])
        nearest[inside][closer] = far[closer]
        labels.ids[inside][closer] = ids[number]
        labels.certainty[inside][closer] = round(float(scores[number]) * CERTAIN)
    mine = instances.inside_of(bins.T, box)
    own = tuple((bins[mine] - box.start).T)
    labels.ids[own] = ids[mine]
    labels.certainty[own] = np.rint(scores[mine] * CERTAIN)
    labels.agrees[labels.ids > 0] = True
    return labels
