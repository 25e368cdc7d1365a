"""Voxels here and there of a volume, held against its source and against each other."""

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import pyramid, volumes
from pipeline.readers import Source
from pipeline.tiles import Box, Index, Level

PLACES, SIDE = 4, 16
"""How many boxes of each level are looked at, and their longest side in voxels."""


def faults(store: Path, levels: Sequence[Level], source: Source) -> list[str]:
    """Where level 0 is not what the source holds, or a level not the mean of the one below.

    The places are drawn at random, the same for the same volume; corners are among them.
    Raises OSError where source or store cannot be read.
    """
    found = [
        f"{store} differs from {source.path} at {box.start} to {box.stop} ({source.axes})"
        for box in _places(levels[0].shape)
        if not np.array_equal(_read(store, levels[0], box), source.read(box))
    ]
    for finer, level in itertools.pairwise(levels):
        step = level.per(finer)
        for box in _places(level.shape):
            below = _read(store, finer, box.refined(step).clipped(finer.shape))
            if not np.array_equal(_read(store, level, box), pyramid.SAMPLES["mean"](below, step)):
                found.append(
                    f"level {level.number} of {store} at {box.start} to {box.stop} is not the mean "
                    f"of level {finer.number}"
                )
    return found


def _places(shape: Index) -> Iterator[Box]:
    """The first and the last voxels of an array, and some between."""
    generator = np.random.default_rng(math.prod(shape))
    side = tuple(min(SIDE, n) for n in shape)
    last = tuple(n - s for n, s in zip(shape, side, strict=True))
    starts = [(0,) * len(shape), last]
    starts += [tuple(int(generator.integers(n + 1)) for n in last) for _ in range(PLACES - 2)]
    for start in dict.fromkeys(starts):
        yield Box(start, tuple(a + s for a, s in zip(start, side, strict=True)))


def _read(store: Path, level: Level, box: Box) -> npt.NDArray[Any]:
    return np.asarray(volumes.open_level(store, level.number)[box.slices])
