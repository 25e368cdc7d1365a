"""The shape of a network: all that can be said of it without its layers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the network is, without its weights.

    Attributes
    ----------
    axes: the spatial axes, "yx" or "zyx".
    group: a key of `GROUPS`.
    channels: image channels that go in.
    fields: regular fields in the finest level; each level below has twice as many.
    pooling: for each level, by how much it halves each axis (1 or 2).
    """

    axes: str
    group: str
    channels: int
    fields: int
    pooling: tuple[tuple[int, ...], ...]

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels per axis by which a shifted image gives an exactly shifted output."""
        stride = [1] * len(self.axes)
        for factors in self.pooling:
            stride = [s * f for s, f in zip(stride, factors, strict=True)]
        return tuple(stride)

    @property
    def outputs(self) -> int:
        """Channels that come out: the foreground and one displacement per axis."""
        return 1 + len(self.axes)


def receptive_field(architecture: Architecture) -> tuple[int, ...]:
    """Radius, in voxels per axis, beyond which no input reaches an output.

    Interval arithmetic over the topology; the largest over all positions within one stride.
    """
    radii = []
    for axis in range(len(architecture.axes)):
        factors = [pooling[axis] for pooling in architecture.pooling]

        def needed(
            low: int, high: int, level: int, factors: list[int] = factors
        ) -> tuple[int, int]:
            if level == len(factors):
                return low - 2, high + 2
            factor = factors[level]
            low, high = low - 2, high + 2
            deep_low, deep_high = needed(low // factor, high // factor, level + 1)
            low = min(low, factor * deep_low)
            high = max(high, factor * deep_high + factor - 1)
            return low - 2, high + 2

        spans = [(p, needed(p, p, 0)) for p in range(architecture.stride[axis])]
        radii.append(max(max(p - low, high - p) for p, (low, high) in spans))
    return tuple(radii)


@dataclass(frozen=True, slots=True)
class Group:
    """Symmetries of the network; in 3-D they act about the optical axis.

    Attributes
    ----------
    rotations: how many in the plane; a square lattice keeps those by quarter turns exactly.
    mirrors: whether mirrors of the plane belong to it.
    horizontal: whether the mirror of z belongs to it.
    """

    rotations: int
    mirrors: bool
    horizontal: bool = False

    @property
    def planar_order(self) -> int:
        """Elements that leave z alone."""
        return self.rotations * (2 if self.mirrors else 1)

    @property
    def order(self) -> int:
        """Elements in all, which is also the number of channels of a regular field."""
        return self.planar_order * (2 if self.horizontal else 1)


GROUPS = {
    "trivial": Group(1, mirrors=False),
    "c4": Group(4, mirrors=False),
    "d4": Group(4, mirrors=True),
    "c8": Group(8, mirrors=False),
    "d8": Group(8, mirrors=True),
    "c4h": Group(4, mirrors=False, horizontal=True),
    "d4h": Group(4, mirrors=True, horizontal=True),
}
"""Groups by name. Those that end in h mirror z as well and are for 3-D networks alone."""


def design(
    axes: str, voxel_size_um: tuple[float, ...], group: str, width: int, levels: int
) -> Architecture:
    """The network for voxels of this shape; `width` feature channels at full resolution.

    Levels halve the axes whose voxels are not yet much coarser than the finest.
    """
    pooling, now = [], list(voxel_size_um)
    for _ in range(levels):
        factors = tuple(2 if size < 2 * min(now) else 1 for size in now)
        pooling.append(factors)
        now = [size * factor for size, factor in zip(now, factors, strict=True)]
    group = "d4" if group == "auto" else group
    fields = max(1, width // GROUPS[group].order)
    return Architecture(axes, group, 1, fields, tuple(pooling))
