"""Tiles of one fixed grid, and what each of them sees.

Tiles lie on a grid of their own, whoever asks: so the same voxel always gets the same answer.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.tiles import Box
from pipeline.topology import Architecture, receptive_field


@dataclass(frozen=True, slots=True)
class Grid:
    """The tiles of an image.

    Attributes
    ----------
    shape: sides of the image.
    tile: sides of what a tile owns, multiples of the stride.
    context: voxels that a tile sees on either side, multiples of the stride that reach over the
        receptive field.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    context: tuple[int, ...]

    def reads(self, tile: Box) -> Box:
        """What the network sees for a tile; all tiles see boxes of one shape."""
        start = tuple(a - c for a, c in zip(tile.start, self.context, strict=True))
        stop = tuple(a + t + c for a, t, c in zip(tile.start, self.tile, self.context, strict=True))
        return Box(start, stop)


def grid(architecture: Architecture, shape: tuple[int, ...], tile: tuple[int, ...]) -> Grid:
    """Tiles of at most `tile` voxels, as many as that takes, and no larger than the image needs."""
    stride, radius = architecture.stride, receptive_field(architecture)
    fitted = tuple(
        s * math.ceil(math.ceil(n / s) / math.ceil(n / max(s, t // s * s)))
        for t, s, n in zip(tile, stride, shape, strict=True)
    )
    return Grid(shape, fitted, tuple(s * -(-r // s) for r, s in zip(radius, stride, strict=True)))


def mirrored(box: Box, shape: tuple[int, ...]) -> tuple[Box, tuple[npt.NDArray[np.intp], ...]]:
    """The part of an image that `box` needs where the image is mirrored beyond its edges.

    Returns that part and, for each axis, which of its voxels stands at each place of `box`.
    The mirror lies on the voxels' faces, as often as needed:  c b a | a b c | c b a
    """
    places = []
    for start, stop, side in zip(box.start, box.stop, shape, strict=True):
        at = np.arange(start, stop) % (2 * side)
        places.append(np.where(at < side, at, 2 * side - 1 - at))
    inner = Box(tuple(int(p.min()) for p in places), tuple(int(p.max()) + 1 for p in places))
    return inner, tuple(p - a for p, a in zip(places, inner.start, strict=True))
