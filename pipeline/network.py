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
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.topology import GROUPS, Architecture


def compressed(image: Tensor) -> Tensor:
    """The normalised image as the network sees it: 0 and 1 stay, what is dim gains contrast.

    The square root makes shot noise as strong in what is bright as in what is dim (F. J. Anscombe,
    Biometrika 35, 246, 1948); a small dark level keeps it from blowing up the camera's own.
    """
    dark = 0.01
    lifted = torch.sqrt(image.clamp(min=-dark) + dark)
    return (lifted - math.sqrt(dark)) / (math.sqrt(1 + dark) - math.sqrt(dark))


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
