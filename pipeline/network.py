"""The equivariant U-Net: trained with steerable filters, exported to plain torch layers.

One topology serves both. A block is a 3-wide convolution, a batch normalisation and a ReLU;
levels are joined by 2-wide max pooling and nearest upsampling, the only pair that keeps the
lattice symmetry exact when sides are multiples of the stride.

Channels that come out, in this order: the foreground's logit, then the displacement from each
voxel to its object's centre, one channel per axis (`z, y, x` or `y, x`), in object diameters.
"""

import itertools
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _import_escnn() -> tuple[Any, Any]:
    """Import escnn without lie_learn.

    lie_learn needs numpy < 2 and serves one SO(3) function that no group of this module calls.
    A stand-in that refuses to work takes its place.
    """

    def wigner_D_matrix(*_: object) -> None:  # noqa: N802 (the name that escnn imports)
        raise RuntimeError("SO(3) representations are not available: lie_learn is not installed.")

    name = "lie_learn"
    for part in ("", ".representations", ".SO3", ".wigner_d"):
        name += part
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules[name].__dict__.setdefault("wigner_D_matrix", wigner_D_matrix)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*py3nj.*")
        from escnn import gspaces
        from escnn import nn as steerable_nn
    return gspaces, steerable_nn


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
        return self.head(self._level(image, 0))

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


GROUPS: dict[str, tuple[int, bool]] = {
    "trivial": (1, False),
    "c4": (4, False),
    "d4": (4, True),
    "c8": (8, False),
    "d8": (8, True),
}
"""Rotations in the plane and whether mirrors belong to the group. In 3-D they act about z."""


def _space(group: str) -> Any:
    gspaces, _ = _import_escnn()
    rotations, mirrors = GROUPS[group]
    if group == "trivial":
        return gspaces.trivialOnR2()
    return (gspaces.flipRot2dOnR2 if mirrors else gspaces.rot2dOnR2)(rotations)


class _Steered(nn.Module):
    """A convolution whose filters are steerable in the plane; plain tensors in and out.

    A 3-D filter is a stack of planar ones, one for each offset along z: rotations about the
    optical axis leave z alone, so this is the whole space of equivariant filters.
    """

    def __init__(self, space: Any, into: list[Any], out: list[Any], depth: int, width: int) -> None:
        super().__init__()
        _, steerable = _import_escnn()
        self.depth, self.into = depth, sum(field.size for field in into)
        self.planar = steerable.R2Conv(
            steerable.FieldType(space, into * (depth or 1)),
            steerable.FieldType(space, out),
            width,
            padding=width // 2,
            initialize=False,
        )
        steerable.init.generalized_he_init(self.planar.weights.data, self.planar.basisexpansion)

    def filters(self) -> tuple[Tensor, Tensor]:
        """Filters `(out, in, *kernel)` and biases `(out,)` as a plain convolution takes them."""
        weight, bias = self.planar.expand_parameters()
        if self.depth:
            weight = weight.unflatten(1, (self.depth, self.into)).transpose(1, 2)
        return weight, bias

    def forward(self, features: Tensor) -> Tensor:
        return _convolve(features, *self.filters())


class _SteeredBlock(nn.Module):
    """Steerable convolution, batch normalisation with one statistic per field, ReLU."""

    def __init__(self, space: Any, into: list[Any], fields: int, depth: int) -> None:
        super().__init__()
        self.fields = fields
        self.convolution = _Steered(space, into, [space.regular_repr] * fields, depth, width=3)
        self.normalisation = nn.BatchNorm1d(fields)

    def forward(self, features: Tensor) -> Tensor:
        raw = self.convolution(features)
        by_field = raw.reshape(raw.shape[0], self.fields, -1)
        return functional.relu(self.normalisation(by_field).reshape(raw.shape))

    def export(self) -> nn.Module:
        """The same map as one plain convolution, the normalisation folded into it."""
        weight, bias = self.convolution.filters()
        norm = self.normalisation
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        shift = norm.bias - mean * scale
        scale, shift = (v.repeat_interleave(len(bias) // self.fields) for v in (scale, shift))
        weight = weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))
        return _plain(weight, bias * scale + shift, nn.ReLU())


class _SteeredHead(nn.Module):
    """Foreground (and displacement along z) as scalars, displacement in the plane as a vector."""

    def __init__(self, space: Any, fields: int, depth: int) -> None:
        super().__init__()
        scalars = [space.trivial_repr] * (2 if depth else 1)
        out = [*scalars, space.basespace_action]
        into = [space.regular_repr] * fields
        self.convolution = _Steered(space, into, out, 1 if depth else 0, width=1)
        # The plane of the group has x first and y upwards; images have y first and downwards.
        x, y = len(scalars), len(scalars) + 1
        self.order = [*range(len(scalars)), y, x]
        self.register_buffer("sign", torch.tensor([1.0] * len(scalars) + [-1.0, 1.0]))

    def filters(self) -> tuple[Tensor, Tensor]:
        weight, bias = self.convolution.filters()
        sign = self.get_buffer("sign")
        signs = sign.reshape((-1,) + (1,) * (weight.ndim - 1))
        return weight[self.order] * signs, bias[self.order] * sign

    def forward(self, features: Tensor) -> Tensor:
        return _convolve(features, *self.filters())

    def export(self) -> nn.Module:
        return _plain(*self.filters())


def _convolve(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    convolution = functional.conv2d if weight.ndim == 4 else functional.conv3d
    return convolution(features, weight, bias, padding="same")


def _plain(weight: Tensor, bias: Tensor, *after: nn.Module) -> nn.Sequential:
    kind: Any = nn.Conv2d if weight.ndim == 4 else nn.Conv3d
    layer = kind(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), padding="same")
    layer.weight.data = weight.detach().clone()
    layer.bias.data = bias.detach().clone()
    return nn.Sequential(layer, *after)


def steerable(architecture: Architecture) -> UNet:
    """The network to train. Initialisation draws from torch's global generator."""
    space = _space(architecture.group)
    depth = 3 if architecture.axes == "zyx" else 0

    def block(into: int | None, fields: int) -> nn.Module:
        scalars, regular = space.trivial_repr, space.regular_repr
        fields_in = [scalars] * architecture.channels if into is None else [regular] * into
        return _SteeredBlock(space, fields_in, fields, depth)

    return UNet(architecture, block, lambda fields: _SteeredHead(space, fields, depth))


def plain(architecture: Architecture) -> UNet:
    """The network that predicts: the same topology from plain layers, weights to be loaded."""
    rotations, mirrors = GROUPS[architecture.group]
    order = rotations * (2 if mirrors else 1)
    spatial = len(architecture.axes)

    def block(into: int | None, fields: int) -> nn.Module:
        channels = architecture.channels if into is None else into * order
        return _plain(
            torch.zeros(fields * order, channels, *(3,) * spatial),
            torch.zeros(fields * order),
            nn.ReLU(),
        )

    def head(fields: int) -> nn.Module:
        weight = torch.zeros(architecture.outputs, fields * order, *(1,) * spatial)
        return _plain(weight, torch.zeros(architecture.outputs))

    return UNet(architecture, block, head).eval()


def export(trained: UNet) -> UNet:
    """The trained network as plain layers. It needs no escnn and computes the same function."""
    result = plain(trained.architecture)
    for name, layer in trained.named_modules():
        if isinstance(layer, _SteeredBlock | _SteeredHead):
            result.get_submodule(name).load_state_dict(layer.export().state_dict())
    return result
