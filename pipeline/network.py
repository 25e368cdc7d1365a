"""The equivariant U-Net: trained with steerable filters, exported to plain torch layers.

One topology serves both. A block is a 3-wide convolution, a batch normalisation and a ReLU;
levels are joined by 2-wide max pooling and nearest upsampling, the only pair that keeps the
lattice symmetry exact when sides are multiples of the stride.

Channels that come out, in this order: the foreground's logit, then the displacement from each
voxel to its object's centre, one channel per axis (`z, y, x` or `y, x`), in a unit that the
model's card gives.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def compressed(image: Tensor) -> Tensor:
    """The normalised image as the network sees it: 0 and 1 stay, what is dim gains contrast.

    The square root makes shot noise as strong in what is bright as in what is dim (F. J. Anscombe,
    Biometrika 35, 246, 1948); a small dark level keeps it from blowing up the camera's own.
    """
    dark = 0.01
    lifted = torch.sqrt(image.clamp(min=-dark) + dark)
    return (lifted - math.sqrt(dark)) / (math.sqrt(1 + dark) - math.sqrt(dark))


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


class UNet(nn.Module):
    """The topology. `block(in_fields, out_fields)` and `head()` decide what the layers are."""

    def __init__(
        self,
        architecture: Architecture,
        block: Callable[[int | None, int], nn.Module],
        head: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.architecture = architecture
        widths = [architecture.fields * 2**level for level in range(len(architecture.pooling) + 1)]
        before = [None, *widths]
        self.down = nn.ModuleList(
            nn.Sequential(block(into, out), block(out, out))
            for into, out in zip(before, widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(block(skip + below, skip), block(skip, skip))
            for skip, below in itertools.pairwise(widths)
        )
        self.head = head(widths[0])

    def forward(self, image: Tensor) -> Tensor:
        """Map `(batch, channels, *axes)` to `(batch, outputs, *axes)`.

        Raises ValueError where a side is no multiple of the stride: the symmetry would break.
        """
        sides = tuple(image.shape[2:])
        stride = self.architecture.stride
        if any(side % step for side, step in zip(sides, stride, strict=True)):
            raise ValueError(f"image sides {sides} must be multiples of the stride {stride}.")
        return self.head(self._level(compressed(image), 0))

    def _level(self, features: Tensor, level: int) -> Tensor:
        features = self.down[level](features)
        if level == len(self.architecture.pooling):
            return features
        factors = self.architecture.pooling[level]
        pool = functional.max_pool2d if len(factors) == 2 else functional.max_pool3d
        below = self._level(pool(features, factors), level + 1)
        for axis, factor in enumerate(factors, start=2):
            below = below.repeat_interleave(factor, dim=axis) if factor > 1 else below
        return self.up[level](torch.cat([features, below], dim=1))


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


def layer(weight: Tensor, bias: Tensor, *after: nn.Module) -> nn.Sequential:
    """A plain convolution of filters `(out, in, *kernel)` and biases, and what follows it."""
    kind: Any = nn.Conv2d if weight.ndim == 4 else nn.Conv3d
    convolution = kind(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), padding="same")
    convolution.weight.data = weight.detach().clone()
    convolution.bias.data = bias.detach().clone()
    return nn.Sequential(convolution, *after)


def plain(architecture: Architecture) -> UNet:
    """The network that predicts: the same topology from plain layers, weights to be loaded."""
    order = GROUPS[architecture.group].order
    spatial = len(architecture.axes)

    def block(into: int | None, fields: int) -> nn.Module:
        channels = architecture.channels if into is None else into * order
        return layer(
            torch.zeros(fields * order, channels, *(3,) * spatial),
            torch.zeros(fields * order),
            nn.ReLU(),
        )

    def head(fields: int) -> nn.Module:
        weight = torch.zeros(architecture.outputs, fields * order, *(1,) * spatial)
        return layer(weight, torch.zeros(architecture.outputs))

    return UNet(architecture, block, head).eval()
