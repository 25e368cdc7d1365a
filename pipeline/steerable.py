"""The layers that learn: steerable filters, and their export to plain ones."""

import copy
import sys
import types
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.algebra import solved
from pipeline.network import UNet, layer, plain
from pipeline.topology import GROUPS, Architecture, Group


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


def _space(group: Group) -> Any:
    gspaces, _ = _import_escnn()
    if group.planar_order == 1:
        return gspaces.trivialOnR2()
    return (gspaces.flipRot2dOnR2 if group.mirrors else gspaces.rot2dOnR2)(group.rotations)


class _Steered(nn.Module):
    """A convolution whose filters are steerable in the plane.

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

    @property
    def rows(self) -> list[int]:
        """Channels that come out and that give all others: of a regular field, the first."""
        first = 0
        found: list[int] = []
        for field in self.planar.out_type.representations:
            found += [first] if field.name == "regular" else range(first, first + field.size)
            first += field.size
        return found

    def restore(self, filters: Tensor, biases: Tensor) -> None:
        """Take the coefficients that make these filters and biases of `rows`."""
        expansion = copy.deepcopy(self.planar.basisexpansion).cpu().double()
        spread = self.planar.bias_expansion.cpu().double()
        shape, rows = self.planar.expand_parameters()[0].shape, self.rows
        coefficients = solved(
            lambda given: expansion(given).reshape(shape)[rows],
            filters.cpu(),
            len(self.planar.weights),
        )
        shifts = solved(lambda given: (spread @ given)[rows], biases.cpu(), len(self.planar.bias))
        with torch.no_grad():
            self.planar.weights.copy_(coefficients)
            self.planar.bias.copy_(shifts)

    def filters(self, exact: bool = False) -> tuple[Tensor, Tensor]:
        """Filters `(out, in, *kernel)` and biases `(out,)` as a plain convolution takes them.

        The basis that they are expanded in is known in single precision; `exact` ones are in
        double precision and as symmetric as that.
        """
        weight, bias = self.planar.expand_parameters()
        if exact:
            weight, bias = _symmetric(weight.double(), self.planar), bias.double()
        if self.depth:
            weight = weight.unflatten(1, (self.depth, self.into)).transpose(1, 2)
        return weight, bias


class _SteeredBlock(nn.Module):
    """Steerable convolution, batch normalisation with one statistic per field, ReLU.

    With the mirror of z, each field is a pair of planar ones that the mirror exchanges: the
    filters of the second are those of the first with z and the pairs that come in turned over.
    """

    def __init__(self, group: Group, into: list[Any] | int, fields: int, depth: int) -> None:
        super().__init__()
        space = _space(group)
        self.fields, self.group, self.of_image = fields, group, not isinstance(into, int)
        regular = space.regular_repr
        if isinstance(into, int):
            into = [regular] * into * (2 if group.horizontal else 1)
        self.convolution = _Steered(space, into, [regular] * fields, depth, width=3)
        self.normalisation = nn.BatchNorm1d(fields)

    def filters(self, exact: bool = False) -> tuple[Tensor, Tensor]:
        weight, bias = self.convolution.filters(exact)
        if not self.group.horizontal:
            return weight, bias
        order = self.group.planar_order
        first = weight.unflatten(0, (self.fields, order))
        over = first.flip(3)
        if not self.of_image:
            over = over.unflatten(2, (-1, 2, order)).flip(3).flatten(2, 4)
        both = torch.stack([first, over], dim=1).flatten(0, 2)
        return both, bias.unflatten(0, (self.fields, 1, order)).repeat(1, 2, 1).flatten()

    def forward(self, features: Tensor) -> Tensor:
        raw = _convolve(features, *self.filters())
        by_field = raw.reshape(raw.shape[0], self.fields, -1)
        return functional.relu(self.normalisation(by_field).reshape(raw.shape))

    def export(self) -> nn.Module:
        """The same map as one plain convolution, the normalisation folded into it."""
        weight, bias = self.filters(exact=True)
        norm = self.normalisation
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        shift = norm.bias - mean * scale
        scale, shift = (v.repeat_interleave(len(bias) // self.fields) for v in (scale, shift))
        weight = weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))
        return layer(weight, bias * scale + shift, nn.ReLU())


class _SteeredHead(nn.Module):
    """Foreground (and displacement along z) as scalars, displacement in the plane as a vector."""

    def __init__(self, group: Group, fields: int, depth: int) -> None:
        super().__init__()
        space = _space(group)
        self.group = group
        scalars = [space.trivial_repr] * (2 if depth else 1)
        out = [*scalars, space.basespace_action]
        into = [space.regular_repr] * fields
        self.convolution = _Steered(space, into, out, 1 if depth else 0, width=1)
        # The plane of the group has x first and y upwards; images have y first and downwards.
        x, y = len(scalars), len(scalars) + 1
        self.order = [*range(len(scalars)), y, x]
        self.register_buffer("sign", torch.tensor([1.0] * len(scalars) + [-1.0, 1.0]))
        # What the mirror of z makes of each output: it turns over the displacement along z alone.
        self.register_buffer("parity", torch.tensor([1.0, *[-1.0] * bool(depth), 1.0, 1.0]))

    def filters(self, exact: bool = False) -> tuple[Tensor, Tensor]:
        weight, bias = self.convolution.filters(exact)
        sign, parity = self.get_buffer("sign"), self.get_buffer("parity")
        weight = weight[self.order] * _column(sign, weight)
        bias = bias[self.order] * sign
        if self.group.horizontal:
            first = weight.unflatten(1, (-1, self.group.planar_order))
            both = torch.stack([first, first * _column(parity, first)], dim=2)
            weight, bias = both.flatten(1, 3), bias * (1 + parity) / 2
        return weight, bias

    def forward(self, features: Tensor) -> Tensor:
        return _convolve(features, *self.filters())

    def export(self) -> nn.Module:
        return layer(*self.filters(exact=True))


def _symmetric(weight: Tensor, planar: Any) -> Tensor:
    """Filters `(out, in, y, x)` averaged over the group's elements that keep the lattice.

    A filter is equivariant where w(g p) = r_out(g) w(p) r_in(g)^-1 for every such element g.
    """
    space, width = planar.space, weight.shape[-1]
    row, column = np.indices((width, width)).reshape(2, -1)
    place = np.stack([column, width - 1 - row]) - width // 2  # x to the right, y upwards
    turned = []
    for element in space.fibergroup.elements:
        action = space.basespace_action(element)
        if not np.allclose(action, np.rint(action)):
            continue
        x, y = np.rint(action @ place).astype(int) + width // 2
        seen = weight.flatten(2)[:, :, (width - 1 - y) * width + x]
        out, into = (
            _representation(t, element).to(weight.device) for t in (planar.out_type, planar.in_type)
        )
        turned.append(torch.einsum("po,pqk,qi->oik", out, seen, into))
    return torch.stack(turned).mean(dim=0).reshape(weight.shape)


def _representation(fields: Any, element: Any) -> Tensor:
    """The orthogonal matrix of a lattice element; its entries are 0, 1 and -1."""
    return torch.as_tensor(np.rint(fields.representation(element)), dtype=torch.float64)


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One value for each entry of the first axis."""
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def _convolve(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    convolution = functional.conv2d if weight.ndim == 4 else functional.conv3d
    return convolution(features, weight, bias, padding="same")


def build(architecture: Architecture) -> UNet:
    """The network to train. Initialisation draws from torch's global generator.

    Raises ValueError where a planar network is to mirror z.
    """
    group = GROUPS[architecture.group]
    depth = 3 if architecture.axes == "zyx" else 0
    if group.horizontal and not depth:
        raise ValueError(f"the group {architecture.group} mirrors z, which a planar image lacks.")

    def block(into: int | None, fields: int) -> nn.Module:
        image = [_space(group).trivial_repr] * architecture.channels
        return _SteeredBlock(group, image if into is None else into, fields, depth)

    return UNet(architecture, block, lambda fields: _SteeredHead(group, fields, depth))


def weights(trained: UNet) -> dict[str, Tensor]:
    """What was learned: filters and biases, and the normalisations with their statistics.

    Filters stand for the coefficients that make them: the basis of the coefficients is found by
    linear algebra that chooses signs, and processors of different kind choose different ones. Of
    the channels of a regular field the first is kept; symmetry gives the others.
    """
    kept = {}
    for name, part in trained.named_modules():
        if isinstance(part, _Steered):
            with torch.no_grad():
                filters, biases = part.planar.expand_parameters()
            kept[f"{name}.filter"], kept[f"{name}.bias"] = filters[part.rows], biases[part.rows]
        elif isinstance(part, nn.BatchNorm1d):
            kept |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    return kept


def restore(network: UNet, learned: Mapping[str, Tensor]) -> None:
    """Give a network what another of the same group, width and depth has learned.

    Raises ValueError where their shapes tell that it was another's; groups of one order have equal
    shapes, so the caller compares the groups.
    """
    network.train()
    own = weights(network)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in learned.items()}:
        raise ValueError("these weights belong to a network of another group, width or depth.")
    for name, part in network.named_modules():
        if isinstance(part, _Steered):
            part.restore(learned[f"{name}.filter"], learned[f"{name}.bias"])
        elif isinstance(part, nn.BatchNorm1d):
            part.load_state_dict({key: learned[f"{name}.{key}"] for key in part.state_dict()})


def export(trained: UNet) -> UNet:
    """The trained network as plain layers. It needs no escnn and computes the same function.

    Filters are made symmetric in double precision: values that symmetry makes equal stay equal
    when they are rounded, and so the network is as symmetric in double precision as in single.
    """
    result = plain(trained.architecture)
    for name, part in trained.named_modules():
        if isinstance(part, _SteeredBlock | _SteeredHead):
            state = part.export().state_dict()
            result.get_submodule(name).load_state_dict({k: v.float() for k, v in state.items()})
    return result
