"""What is promised of the network that predicts, measured on the network itself."""

import copy
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.network import UNet
from pipeline.topology import GROUPS, Architecture, receptive_field


@dataclass(frozen=True, slots=True)
class Turn:
    """An element of the lattice's symmetry: mirrors of z and of x, then quarter turns."""

    quarters: int
    mirror: bool
    horizontal: bool

    def image(self, image: Tensor) -> Tensor:
        """The turned image."""
        image = image.flip(-3) if self.horizontal else image
        image = image.flip(-1) if self.mirror else image
        return torch.rot90(image, self.quarters, dims=(-2, -1))

    def output(self, output: Tensor) -> Tensor:
        """What the output of the turned image must be: positions turned and vectors with them."""
        foreground, *z, y, x = self.image(output).unbind(1)
        x = -x if self.mirror else x
        z = [-value for value in z] if self.horizontal else z
        for _ in range(self.quarters % 4):
            y, x = -x, y
        return torch.stack([foreground, *z, y, x], dim=1)


def lattice_turns(architecture: Architecture) -> list[Turn]:
    """The elements of the network's group that take the lattice to itself."""
    group = GROUPS[architecture.group]
    quarters = range(4) if group.rotations % 4 == 0 else range(1)
    mirrors, horizontals = {False, group.mirrors}, {False, group.horizontal}
    return [Turn(*turn) for turn in itertools.product(quarters, mirrors, horizontals)]


def equivariance_error(network: UNet, image: Tensor) -> float:
    """Largest relative error ||f(gx) - g f(x)|| / ||f(x)|| over the group's lattice elements.

    Measured here, with turns of the array itself, not with the library that built the filters.
    """
    with torch.no_grad():
        straight = network(image)
        errors = [
            torch.linalg.vector_norm(network(turn.image(image)) - turn.output(straight))
            / _size(straight)
            for turn in lattice_turns(network.architecture)
        ]
    return float(max(errors))


def _size(output: Tensor) -> Tensor:
    """The norm that errors are relative to; positive where a network says nothing, too."""
    return torch.linalg.vector_norm(output).clamp(min=1e-30)


def turn_error(network: UNet, degrees: float) -> float:
    """Relative error ||f(Rx) - R f(x)|| / ||f(x)|| for a turn R by any angle in the plane.

    On a smooth image, which is turned exactly; its output is interpolated, vectors turn with it.
    Compared on the disc that the image's border does not reach. Between the turns of the lattice
    no network of square voxels is exact: here stands how far off this one is.
    """
    architecture, disc = network.architecture, 16
    radius, stride = receptive_field(architecture), architecture.stride
    # The plane's border breaks the symmetry, that of z does not.
    needed = [8] * (len(stride) - 2) + [2 * (max(radius[-2:]) + disc + 1)] * 2
    step = math.lcm(*stride[-2:])
    steps = [*stride[:-2], step, step]
    sides = tuple(s * -(-side // s) for s, side in zip(steps, needed, strict=True))
    angle = math.radians(degrees)
    with torch.no_grad():
        straight, turned = (
            network(_smooth(architecture.channels, sides, by)) for by in (0.0, angle)
        )
    expected = _turned(straight, angle)
    y, x = (torch.arange(side) - (side - 1) / 2 for side in sides[-2:])
    inside = torch.hypot(y[:, None], x) <= disc
    error = torch.linalg.vector_norm((turned - expected)[..., inside])
    return float(error / _size(expected[..., inside]))


def _smooth(channels: int, sides: tuple[int, ...], angle: float) -> Tensor:
    """Waves, 8 to 32 voxels long, seen turned in the plane; `(1, channels, *sides)`, mean 0.5."""
    generator = torch.Generator().manual_seed(0)
    count, axes = 16, len(sides)
    facing = torch.randn(count, axes, generator=generator)
    length = 8 * 4 ** torch.rand(count, 1, generator=generator)
    wave = 2 * math.pi * facing / (length * torch.linalg.vector_norm(facing, dim=1, keepdim=True))
    phase = 2 * math.pi * torch.rand(channels, count, generator=generator)
    sine, cosine = math.sin(angle), math.cos(angle)
    y, x = wave[:, -2].clone(), wave[:, -1].clone()
    wave[:, -2], wave[:, -1] = cosine * y - sine * x, cosine * x + sine * y
    lines = [torch.arange(side) - (side - 1) / 2 for side in sides]
    place = torch.stack(torch.meshgrid(*lines, indexing="ij"))
    phases = phase.reshape(channels, count, *(1,) * axes) + torch.einsum(
        "wa,a...->w...", wave, place
    )
    return (0.5 + phases.sin().sum(dim=1) / (2 * math.sqrt(count)))[None]


def _turned(output: Tensor, angle: float) -> Tensor:
    """The output turned in the plane: positions by interpolation, and vectors with them."""
    axes = output.ndim - 2
    sine, cosine = math.sin(angle), math.cos(angle)
    # Coordinates of a grid come as x, y, z.
    inverse = torch.eye(axes, axes + 1)
    inverse[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
    grid = functional.affine_grid(inverse[None], list(output.shape), align_corners=False)
    *others, y, x = functional.grid_sample(output, grid, align_corners=False).unbind(1)
    return torch.stack([*others, cosine * y - sine * x, cosine * x + sine * y], dim=1)


def certify(trained: UNet, exported: UNet) -> dict[str, float]:
    """Measure what is promised of the network that predicts, on noise; see `Certificate`."""
    architecture = exported.architecture
    radius, stride = receptive_field(architecture), architecture.stride
    sides = [s * -(-(2 * r + 2 * s) // s) for r, s in zip(radius, stride, strict=True)]
    sides[-2:] = [max(sides[-2:])] * 2
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, architecture.channels, *sides, generator=generator)
    with torch.no_grad():
        output = exported(image)
        size = output.abs().max().clamp(min=1e-30)
        export_error = float((trained(image) - output).abs().max() / size)
        middle = [s * (side // (2 * s)) for s, side in zip(stride, sides, strict=True)]
        near = tuple(slice(max(0, m - r), m + r + 1) for m, r in zip(middle, radius, strict=True))
        other = torch.rand(image.shape, generator=generator)
        other[(slice(None), slice(None), *near)] = image[(slice(None), slice(None), *near)]
        at = (slice(None), slice(None), *middle)
        beyond = float((exported(other)[at] - output[at]).abs().max() / size)
    precise = copy.deepcopy(exported).double()
    # Rounding errors are the same in a small image, and 3-D convolutions in double are slow.
    near = tuple(slice(0, 4 * step) for step in (*stride[:-2], max(stride[-2:]), max(stride[-2:])))
    small = image[(slice(None), slice(None), *near)].double()
    return {
        "equivariance": equivariance_error(exported, image),
        "equivariance_double": equivariance_error(precise, small),
        "between_lattice_turns": turn_error(exported, 45.0),
        "export": export_error,
        "beyond_receptive_field": beyond,
    }
