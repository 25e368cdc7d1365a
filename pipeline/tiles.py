"""Boxes of voxels: covers, halos, the levels of a pyramid and who makes which of their shards."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """Voxels from `start` up to, and without, `stop`, along each axis of an array."""

    start: Index
    stop: Index

    @property
    def shape(self) -> Index:
        """Voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """What cuts this box out of the whole array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def within(self, outer: "Box") -> tuple[slice, ...]:
        """What cuts this box out of an array that holds `outer` alone."""
        return tuple(
            slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True)
        )

    def grown(self, halo: Index) -> "Box":
        """The box with `halo` voxels more on either side; it may leave the array."""
        return Box(
            tuple(a - h for a, h in zip(self.start, halo, strict=True)),
            tuple(b + h for b, h in zip(self.stop, halo, strict=True)),
        )

    def clipped(self, shape: Index) -> "Box":
        """The part of this box that lies in an array of this shape."""
        return Box(
            tuple(min(max(a, 0), n) for a, n in zip(self.start, shape, strict=True)),
            tuple(min(max(b, 0), n) for b, n in zip(self.stop, shape, strict=True)),
        )

    def intersection(self, other: "Box") -> "Box":
        """What two boxes share; they must touch."""
        return Box(
            tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True)),
            tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def coarsened(self, factors: Index) -> "Box":
        """The smallest box of `factors`-fold larger voxels that covers this one."""
        return Box(
            tuple(a // f for a, f in zip(self.start, factors, strict=True)),
            tuple(-(-b // f) for b, f in zip(self.stop, factors, strict=True)),
        )

    def refined(self, factors: Index) -> "Box":
        """The box counted in `factors`-fold smaller voxels."""
        return Box(
            tuple(a * f for a, f in zip(self.start, factors, strict=True)),
            tuple(b * f for b, f in zip(self.stop, factors, strict=True)),
        )


def placed(axes: str, space: Box, frame: int, channel: int) -> Box:
    """A spatial box at one time and channel, as a box of an array with these axes."""
    at = {"t": (frame, frame + 1), "c": (channel, channel + 1)}
    at |= dict(
        zip([a for a in axes if a in "zyx"], zip(space.start, space.stop, strict=True), strict=True)
    )
    return Box(tuple(at[axis][0] for axis in axes), tuple(at[axis][1] for axis in axes))


def boxes(shape: Index, side: Index, over: Box | None = None) -> Iterator[Box]:
    """Cut an array into boxes of this side, the last along an axis being what is left.

    With `over`, only those that touch it:

        |-----|-----|-----|--|     shape, side 6
               oooo                over
              |wwwww|              what comes
    """
    over = over or Box((0,) * len(shape), shape)
    spans = (range(a // s, -(-b // s)) for a, b, s in zip(over.start, over.stop, side, strict=True))
    for index in itertools.product(*spans):
        start = tuple(i * s for i, s in zip(index, side, strict=True))
        stop = tuple(min(a + s, n) for a, s, n in zip(start, side, shape, strict=True))
        yield Box(start, stop)


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid. `factors` are relative to level 0; all tuples follow the axes."""

    number: int
    factors: Index
    shape: Index
    chunk: Index
    shard: Index

    @property
    def shards(self) -> int:
        """How many shards the level has."""
        return math.prod(-(-n // side) for n, side in zip(self.shape, self.shard, strict=True))

    def per(self, finer: "Level") -> Index:
        """How many voxels of a finer level one of this level is wide, along each axis."""
        return tuple(a // b for a, b in zip(self.factors, finer.factors, strict=True))


def pyramid(
    axes: str,
    shape: Index,
    voxel_size_um: dict[str, float],
    chunk: Index,
    shard: Index,
    smallest: int,
    frames: int = 1,
) -> tuple[Level, ...]:
    """The levels of a volume, finest first.

    Halves the spatial axes whose voxels are less than twice the finest, so that voxels tend to
    cubes, until no side is longer than `smallest`. `chunk` and `shard` follow the spatial axes;
    a shard of level 0 has as many frames as `frames` says, and one of a coarser level as many more
    as its planes are smaller.
    Odd sides round up: the scale stays an exact power of two.
    """
    space = [axis for axis in axes if axis in "zyx"]
    levels: list[Level] = []
    factors = dict.fromkeys(axes, 1)
    while True:
        now = tuple(-(-n // factors[axis]) for n, axis in zip(shape, axes, strict=True))
        side = dict(zip(axes, now, strict=True))
        inner = {axis: min(c, side[axis]) for axis, c in zip(space, chunk, strict=True)}
        outer = {
            axis: min(s, inner[axis] * math.ceil(side[axis] / inner[axis]))
            for axis, s in zip(space, shard, strict=True)
        }
        outer["t"] = min(frames * math.prod(factors.values()), side.get("t", 1))
        levels.append(
            Level(
                number=len(levels),
                factors=tuple(factors[axis] for axis in axes),
                shape=now,
                chunk=tuple(inner.get(axis, 1) for axis in axes),
                shard=tuple(outer.get(axis, 1) for axis in axes),
            )
        )
        if max(side[axis] for axis in space) <= smallest:
            return tuple(levels)
        size = {axis: voxel_size_um[axis] * factors[axis] for axis in space if side[axis] > 1}
        finest = min(size.values())
        for axis, step in size.items():
            factors[axis] *= 2 if step < 2 * finest else 1


@dataclass(frozen=True, slots=True)
class Tree:
    """A unit of work: one shard of level `last` and all that lies beneath it down to `first`."""

    first: int
    last: int
    box: Box
    """The shard, in voxels of level `last`."""

    @property
    def name(self) -> str:
        """A file name that no other unit of the volume has."""
        return "-".join(str(part) for part in (self.first, self.last, *self.box.start))

    def shards(self, levels: tuple[Level, ...]) -> Iterator[tuple[Level, Box]]:
        """The shards to write, finest level first, each with its box at its own level."""
        top = levels[self.last]
        for level in levels[self.first : self.last + 1]:
            over = self.box.refined(top.per(level)).clipped(level.shape)
            for box in boxes(level.shape, level.shard, over):
                yield level, box


def phases(levels: tuple[Level, ...], most: int) -> list[list[Tree]]:
    """Deal all shards of a pyramid into phases of trees, none with over `most` finest shards.

    Trees of one phase depend on nothing but earlier phases; every shard is in exactly one tree.
    """
    result, first = [], 0
    while first < len(levels):
        last = first
        while last + 1 < len(levels) and _beneath(levels[first], levels[last + 1]) <= most:
            last += 1
        top = levels[last]
        result.append([Tree(first, last, box) for box in boxes(top.shape, top.shard)])
        first = last + 1
    return result


def _beneath(fine: Level, coarse: Level) -> int:
    """Shards of `fine` that lie under one shard of `coarse`."""
    return math.prod(
        math.ceil(min(side * (factor // fine_factor), n) / fine_side)
        for side, factor, fine_factor, n, fine_side in zip(
            coarse.shard, coarse.factors, fine.factors, fine.shape, fine.shard, strict=True
        )
    )
