"""Trials: what a network finds in images that lie in memory, and how well it agrees with labels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import fields, grids, labelling, metrics, tiles
from pipeline.distances import Geometry
from pipeline.labelling import Lattice
from pipeline.network import UNet

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]
OVERLAPS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Intersections over union at which a trial counts what was found."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a network's output is read as objects.

    Attributes
    ----------
    geometry: distances for the objects looked for, in voxels of the network's level.
    foreground: probability above which a voxel belongs to an object.
    tile: voxels that the network sees at once, besides its context.
    """

    geometry: Geometry
    foreground: float
    tile: tuple[int, ...]


def output(network: UNet, image: Floats, tile: tuple[int, ...]) -> Floats:
    """The network's output `(outputs, *axes)` for a whole image `(*axes)`, tile by tile."""
    grid = grids.grid(network.architecture, image.shape, tile)
    ready = fields.prepared(network, grid)
    whole = np.empty((network.architecture.outputs, *image.shape), np.float32)
    for box in tiles.boxes(grid.shape, grid.tile):
        inner, places = grids.mirrored(grid.reads(box), image.shape)
        seen = image[inner.slices][np.ix_(*places)]
        values = fields.forward(ready, [seen])[0]
        every = (slice(None),)
        whole[every + box.slices] = values[every + box.within(box)]
    return whole


def segmented(network: UNet, image: Floats, factors: tuple[int, ...], reading: Reading) -> Labels:
    """Instances in an image at the network's level, at `factors` times its resolution."""
    return found(output(network, image, reading.tile), factors, reading)


def found(values: Floats, factors: tuple[int, ...], reading: Reading) -> Labels:
    """Instances that a network's `output` tells of, at `factors` times its resolution."""
    coarse = values.shape[1:]
    fine = tuple(side * factor for side, factor in zip(coarse, factors, strict=True))
    lattice = Lattice(tuple(map(float, factors)), coarse, fine)
    labels = labelling.whole(values, lattice, reading.geometry, reading.foreground)
    ids = np.unique(labels[labels > 0])
    return np.where(labels > 0, 1 + np.searchsorted(ids, labels), 0)


def score(predicted: Labels, labels: Labels, known: npt.NDArray[np.bool_]) -> float:
    """Average precision TP / (TP + FP + FN), mean over `OVERLAPS`, where `known`.

    What was found for the most part where nothing is known, and not on an object where it is, does
    not count.
    """
    spoken = np.where(known, predicted, 0)
    whole = np.bincount(predicted.ravel())
    seen = np.bincount(spoken.ravel(), minlength=len(whole))
    on_object = np.bincount(spoken[known & (labels > 0)].ravel(), minlength=len(whole))
    elsewhere = np.flatnonzero((2 * seen < whole) & (2 * on_object < seen))
    spoken = np.where(np.isin(spoken, elsewhere), 0, spoken)
    scores = [metrics.match(spoken, np.where(known, labels, 0), overlap) for overlap in OVERLAPS]
    return float(np.mean([one.average_precision for one in scores]))
