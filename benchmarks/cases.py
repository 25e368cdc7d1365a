"""Random cases: a simulated image, and a way to cut it into tiles, shards, units and jobs."""

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import staging
from pipeline.cluster import shares
from pipeline.simulate import ellipsoids, fluorescence

AXES = ("yx", "zyx", "tyx", "tzyx")
SIDES = {
    "yx": ((31, 37, 61, 64, 75, 83, 97, 101, 105, 113, 128), (29, 41, 59, 80, 89, 95, 103, 107)),
    "zyx": ((5, 7, 9, 13, 16, 17), (23, 29, 33, 41, 47, 51), (19, 31, 37, 43, 53, 64)),
}
"""Sides to draw from: primes, odd and even ones, some smaller than most tiles."""
TYPES: tuple[tuple[str, float, float], ...] = (
    ("uint8", 0.6, -50.0),
    ("uint16", 1.0, 0.0),
    ("int16", 1.0, -150.0),
    ("float32", 0.37, -31.7),
)
"""Types of voxels, with the factor and the offset that bring a camera's counts into them."""
SCALES = (1.0, 1.0, 1.0, 0.8, 0.7, 0.55)
"""Sizes of a volume's voxels, in those of the volume that the model learnt from."""
MOST_SHARDS, MOST_TILES, MOST_READ = 20, 40, 200_000
"""Bounds to the cost of a case, over all its frames; the last is of voxels that tiles read."""
CONTEXT = (6, 10, 10)
"""Voxels along z, y and x that a small model's tile reads on either side."""


@dataclass(frozen=True, slots=True)
class Case:
    """One image and one way to cut it.

    Attributes
    ----------
    shape: of the image, along `axes`.
    scale: one of `SCALES`.
    tile, chunk, shard: sides along the spatial axes; tiles in voxels of the model's size.
    jobs: that units are dealt to; `order` is the seed of the order they come in.
    workers, memory_mb: what each job has.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    count: int
    tile: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    jobs: int
    order: int
    workers: int
    memory_mb: int

    @property
    def space(self) -> str:
        """The spatial axes."""
        return self.axes.removeprefix("t")

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of one frame."""
        return self.shape[-len(self.space) :]

    def image(self, generator: np.random.Generator) -> npt.NDArray[Any]:
        """Objects at random places, and some over the corners where shards or tiles meet."""
        frames = self.shape[0] if "t" in self.axes else 1
        return np.stack([self._frame(generator) for _ in range(frames)]).reshape(self.shape)

    def _frame(self, generator: np.random.Generator) -> npt.NDArray[Any]:
        size = tuple(staging.VOXEL_UM[axis] * self.scale for axis in self.space)
        labels = ellipsoids(self.sides, size, staging.DIAMETER_UM, self.count, generator)
        for number in range(4):
            cut = self.tile if number > 1 else self.shard
            corners = [range(s, n, s) for s, n in zip(cut, self.sides, strict=True)]
            where = [
                generator.choice(c) if len(c) else n / 2
                for c, n in zip(corners, self.sides, strict=True)
            ]
            paint(labels, where, size, self.count + number + 1)
            if number % 2:
                where[-1] += staging.DIAMETER_UM / size[-1]
                paint(labels, where, size, self.count + number + 11)
        counts = fluorescence(labels, size, staging.OPTICS, generator)
        factor, offset = next((f, o) for name, f, o in TYPES if name == self.dtype)
        values = counts * factor + offset
        if self.dtype == "float32":
            return values.astype(np.float32)
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(self.dtype)

    def run(self) -> Callable[[Any], None]:
        """How this case's jobs complete work: units and jobs in a random order."""
        generator = np.random.default_rng(self.order)

        def run(work: Any) -> None:
            missing: Sequence[Any] = work.missing()
            dealt = shares([missing[i] for i in generator.permutation(len(missing))], self.jobs)
            for share in [dealt[i] for i in generator.permutation(len(dealt))]:
                pickle.loads(pickle.dumps(work))(share)

        return run


def paint(
    labels: npt.NDArray[np.uint16], where: Sequence[float], size: Sequence[float], number: int
) -> None:
    """Put a ball with its middle at the voxel `where`, over whatever lies there."""
    places: tuple[npt.NDArray[Any], ...] = np.indices(labels.shape, sparse=True)
    away = sum(
        ((place - middle) * side) ** 2
        for place, middle, side in zip(places, where, size, strict=True)
    )
    labels[away <= (staging.DIAMETER_UM / 2) ** 2] = number


def drawn(generator: np.random.Generator, number: int) -> Case:
    """The case of this number: axes and types of voxels take turns, all else is random."""
    axes = AXES[number % len(AXES)]
    space = axes.removeprefix("t")
    sides = tuple(int(generator.choice(some)) for some in SIDES[space])
    if len(sides) == 2 and generator.random() < 0.5:
        sides = (sides[1], sides[0])
    scale = float(generator.choice(SCALES))
    frames = 2 if "t" in axes else 1
    chunk, shard = _shards(sides, frames, generator)
    return Case(
        axes=axes,
        shape=(frames, *sides) if "t" in axes else sides,
        dtype=TYPES[number // len(AXES) % len(TYPES)][0],
        scale=scale,
        count=int(generator.integers(0, 30 if len(sides) == 2 else 14)),
        tile=_tile(sides, frames, scale, generator),
        chunk=chunk,
        shard=shard,
        jobs=int(generator.integers(1, 5)),
        order=int(generator.integers(2**31)),
        workers=int(generator.integers(1, 4)),
        memory_mb=int(generator.choice([700, 4000])),
    )


def _shards(
    sides: tuple[int, ...], frames: int, generator: np.random.Generator
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunks and shards, not too many."""
    while True:
        chunk = tuple(_side(4, n + 9, generator) for n in sides)
        shard = tuple(c * int(generator.integers(1, 4)) for c in chunk)
        if frames * _count(sides, shard) <= MOST_SHARDS:
            return chunk, shard


def _tile(
    sides: tuple[int, ...], frames: int, scale: float, generator: np.random.Generator
) -> tuple[int, ...]:
    """A tile of any size up to more than the image, that does not cost too much."""
    seen = tuple(max(1, round(n * scale)) for n in sides)
    while True:
        tile = tuple(_side(4, n + 17, generator) for n in seen)
        # The network halves the plane once.
        tile = (*tile[:-2], *(n - n % 2 for n in tile[-2:]))
        count = frames * _count(seen, tile)
        read = math.prod(t + 2 * c for t, c in zip(tile, CONTEXT[-len(tile) :], strict=True))
        if count == frames or (count <= MOST_TILES and count * read <= MOST_READ):
            return tile


def _count(sides: tuple[int, ...], box: tuple[int, ...]) -> int:
    """Boxes that it takes to cover an array."""
    return math.prod(-(-n // b) for n, b in zip(sides, box, strict=True))


def _side(least: int, most: int, generator: np.random.Generator) -> int:
    """A number from `least` to `most`, small ones as often as large ones."""
    return round(math.exp(generator.uniform(math.log(least), math.log(most))))
