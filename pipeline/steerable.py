"""The layers that learn: steerable filters, and their export to plain ones."""

import sys
import types
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.network import GROUPS, Architecture, UNet, layer, plain


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
        return layer(weight, bias * scale + shift, nn.ReLU())


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
        return layer(*self.filters())


def _convolve(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    convolution = functional.conv2d if weight.ndim == 4 else functional.conv3d
    return convolution(features, weight, bias, padding="same")


def build(architecture: Architecture) -> UNet:
    """The network to train. Initialisation draws from torch's global generator."""
    space = _space(architecture.group)
    depth = 3 if architecture.axes == "zyx" else 0

    def block(into: int | None, fields: int) -> nn.Module:
        scalars, regular = space.trivial_repr, space.regular_repr
        fields_in = [scalars] * architecture.channels if into is None else [regular] * into
        return _SteeredBlock(space, fields_in, fields, depth)

    return UNet(architecture, block, lambda fields: _SteeredHead(space, fields, depth))


def export(trained: UNet) -> UNet:
    """The trained network as plain layers. It needs no escnn and computes the same function."""
    result = plain(trained.architecture)
    for name, part in trained.named_modules():
        if isinstance(part, _SteeredBlock | _SteeredHead):
            result.get_submodule(name).load_state_dict(part.export().state_dict())
    return result
