"""What is promised of the network that predicts, measured on the network itself."""

import itertools

import torch
from torch import Tensor

from pipeline.network import GROUPS, UNet, receptive_field


def turn(image: Tensor, quarter_turns: int, mirror: bool) -> Tensor:
    """Rotate the last two axes by quarter turns, after a mirror of x if asked."""
    image = image.flip(-1) if mirror else image
    return torch.rot90(image, quarter_turns, dims=(-2, -1))


def turn_output(output: Tensor, quarter_turns: int, mirror: bool) -> Tensor:
    """What the output of the turned image must be: positions turned and vectors with them."""
    turned = turn(output, quarter_turns, mirror)
    *rest, y, x = turned.unbind(1)
    x = -x if mirror else x
    for _ in range(quarter_turns % 4):
        y, x = -x, y
    return torch.stack([*rest, y, x], dim=1)


def equivariance_error(network: UNet, image: Tensor) -> float:
    """Largest relative error ||f(gx) - g f(x)|| / ||f(x)|| over the group's lattice elements.

    Measured here, with turns of the array itself, not with the library that built the filters.
    """
    rotations, mirrors = GROUPS[network.architecture.group]
    turns = range(4) if rotations % 4 == 0 else range(1)
    with torch.no_grad():
        straight = network(image)
        errors = [
            torch.linalg.vector_norm(
                network(turn(image, turns_by, mirror)) - turn_output(straight, turns_by, mirror)
            )
            / torch.linalg.vector_norm(straight)
            for turns_by, mirror in itertools.product(turns, {False, mirrors})
        ]
    return float(max(errors))


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
        size = output.abs().max()
        export_error = float((trained(image) - output).abs().max() / size)
        middle = [s * (side // (2 * s)) for s, side in zip(stride, sides, strict=True)]
        near = tuple(slice(max(0, m - r), m + r + 1) for m, r in zip(middle, radius, strict=True))
        other = torch.rand(image.shape, generator=generator)
        other[(slice(None), slice(None), *near)] = image[(slice(None), slice(None), *near)]
        at = (slice(None), slice(None), *middle)
        beyond = float((exported(other)[at] - output[at]).abs().max() / size)
    return {
        "equivariance": equivariance_error(exported, image),
        "export": export_error,
        "beyond_receptive_field": beyond,
    }
