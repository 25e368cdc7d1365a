"""From annotated examples to batches: targets, and random crops of them in new guises."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """An annotated image at the network's level; all arrays have the shape `(*axes)`.

    Attributes
    ----------
    image: normalised.
    labels: a number per object, 0 where there is none.
    known: where the annotation says what is there; elsewhere labels mean nothing.
    """

    image: Floats
    labels: Labels
    known: Bools

    def objects(self) -> int:
        """How many objects are annotated."""
        return len(np.unique(self.labels[self.known & (self.labels != 0)]))

    def parted(self, fraction: float) -> tuple[Self, Self]:
        """The same image with knowledge of one part each: to learn from, and to be asked about.

        The cut goes across the longer side of what is known in the plane, so that `fraction` of
        the objects (else of the length) lies beyond. An object belongs to one part alone.
        """
        places = np.argwhere(self.known)
        low, high = places.min(axis=0), places.max(axis=0) + 1
        axis = max(range(self.known.ndim)[-2:], key=lambda a: high[a] - low[a])
        place = np.indices(self.known.shape)[axis]
        inside = self.known & (self.labels != 0)
        ids = np.unique(self.labels[inside])
        at = high[axis] - fraction * (high[axis] - low[axis])
        beyond = place >= at
        if len(ids):
            middle = np.asarray(ndimage.mean(place, np.where(inside, self.labels, 0), ids))
            at = np.quantile(middle, 1 - fraction)
            beyond = np.where(inside, np.isin(self.labels, ids[middle > at]), place > at)
        parts = (self.known & ~beyond, self.known & beyond)
        first, second = (type(self)(self.image, self.labels, part) for part in parts)
        return first, second


@dataclass(frozen=True, slots=True)
class Shot:
    """One annotated example as tensors, all with the spatial shape `(*axes)`.

    Attributes
    ----------
    image: `(channels, *axes)`, normalised.
    foreground: 1 inside objects.
    displacement: `(len(axes), *axes)`, from each voxel to its object's centre, in voxels.
    known: 1 where the annotation says what is there, 0 where it is silent.
    """

    image: Tensor
    foreground: Tensor
    displacement: Tensor
    known: Tensor

    @classmethod
    def of(cls, example: Example) -> Self:
        """Derive the targets from instance labels."""
        labels = example.labels
        ids, flat = np.unique(labels, return_inverse=True)
        index = np.arange(1, len(ids) + 1)
        flat = flat.reshape(labels.shape) + 1
        middle = np.array(ndimage.center_of_mass(np.ones(flat.shape), flat, index))
        displacement = np.moveaxis(middle[flat - 1], -1, 0) - np.indices(labels.shape)
        displacement *= labels != 0
        return cls(
            torch.as_tensor(np.asarray(example.image, np.float32))[None],
            torch.as_tensor((labels != 0).astype(np.float32)),
            torch.as_tensor(displacement.astype(np.float32)),
            torch.as_tensor(example.known.astype(np.float32)),
        )

    def to(self, device: str | torch.device) -> Self:
        """The same on another device."""
        return type(self)(
            self.image.to(device),
            self.foreground.to(device),
            self.displacement.to(device),
            self.known.to(device),
        )


def diameter(labels: Labels, voxel_size_um: tuple[float, ...]) -> float:
    """Median diameter, in um, of the disc or ball that has an object's size."""
    sizes = np.bincount(np.unique(labels[labels != 0], return_inverse=True)[1])
    return equivalent_diameter(float(np.median(sizes)) * math.prod(voxel_size_um), labels.ndim)


def equivalent_diameter(size: float, axes: int) -> float:
    """Diameter of the disc of this area, or of the ball of this volume."""
    return math.sqrt(4 * size / math.pi) if axes == 2 else math.cbrt(6 * size / math.pi)


def width(labels: Labels, voxel_size_um: tuple[float, ...]) -> float:
    """Median diameter, in um, of the largest disc or ball that an object holds."""
    inner = np.pad(labels, 1, mode="edge")
    rim = ndimage.maximum_filter(inner, 3) != ndimage.minimum_filter(inner, 3)
    depth = ndimage.distance_transform_edt((inner != 0) & ~rim, sampling=voxel_size_um)
    ids = np.unique(labels[labels != 0])
    radii = ndimage.maximum(depth, inner, ids)
    return 2 * (float(np.median(radii)) + min(voxel_size_um))


def aspect(labels: Labels, voxel_size_um: tuple[float, ...]) -> float:
    """Median of how many times as long as wide objects are.

    The ratio of the standard deviations of an object's voxels along its two longest principal
    axes; a voxel's own, side / sqrt(12), counts, so that a single one is as long as wide.
    """
    size, ratios = np.array(voxel_size_um), []
    ids, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape) + (0 if 0 in ids else 1)
    for number, place in enumerate(ndimage.find_objects(dense), start=1):
        voxels = np.argwhere(dense[place] == number) * size
        spread = np.cov(voxels.T, bias=True) + np.diag(size**2 / 12)
        shorter, longest = np.sqrt(np.linalg.eigvalsh(spread)[-2:])
        ratios.append(longest / shorter)
    return float(np.median(ratios))


@dataclass(frozen=True, slots=True)
class Guise:
    """How strongly a crop may differ from the shot it is taken from.

    Attributes
    ----------
    turned: whether by any angle in the plane, and mirrored.
    scale: log-range of magnification.
    contrast: log-range of brightness of the normalised image.
    background: range of an additive offset, in normalised units.
    noise: largest standard deviation of added Gaussian noise, in normalised units.
    """

    turned: bool
    scale: float
    contrast: float
    background: float
    noise: float


def crop(shot: Shot, sides: tuple[int, ...], guise: Guise, generator: np.random.Generator) -> Shot:
    """A random crop of `shot` in a guise: turned, scaled and re-lit.

    Where the crop leaves the shot the annotation is silent and the image is mirrored.
    """
    axes = len(sides)
    angle = generator.uniform(0, 2 * math.pi) * guise.turned
    factor = math.exp(generator.uniform(-guise.scale, guise.scale))
    # `inverse` takes a crop's (x, y[, z]) coordinates to the shot's.
    inverse = np.eye(axes)
    inverse[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    if generator.random() < 0.5 and guise.turned:
        inverse[:, 0] *= -1
    inverse /= factor
    shape = np.array(shot.foreground.shape[::-1], float)
    inside = np.argwhere(shot.known.numpy() > 0)
    middle = inside[generator.integers(len(inside))][::-1] + 0.5
    box = np.array(sides[::-1], float)
    theta = np.zeros((axes, axes + 1))
    theta[:, :axes] = inverse * (box / shape[:, None])
    theta[:, axes] = 2 * middle / shape - 1
    grid = functional.affine_grid(
        torch.as_tensor(theta[None], dtype=torch.float32), [1, 1, *sides], align_corners=False
    )

    def look(values: Tensor, mode: str, padding: str) -> Tensor:
        return functional.grid_sample(values[None], grid, mode, padding, align_corners=False)[0]

    image = look(shot.image, "bilinear", "reflection")
    flags = look(torch.stack([shot.foreground, shot.known]), "nearest", "zeros")
    displacement = look(shot.displacement, "nearest", "zeros").flip(0)
    forward = torch.as_tensor(np.linalg.inv(inverse), dtype=torch.float32)
    displacement = torch.einsum("ij,j...->i...", forward, displacement).flip(0)
    image = image * math.exp(generator.uniform(-guise.contrast, guise.contrast))
    image = image + generator.uniform(-guise.background, guise.background)
    noise = generator.standard_normal(image.shape, np.float32)
    image = image + generator.uniform(0, guise.noise) * torch.as_tensor(noise)
    return Shot(image, flags[0], displacement, flags[1])


def batch(shots: list[Shot]) -> Shot:
    """Stack crops of equal shape along a new first axis."""
    return Shot(
        torch.stack([shot.image for shot in shots]),
        torch.stack([shot.foreground for shot in shots]),
        torch.stack([shot.displacement for shot in shots]),
        torch.stack([shot.known for shot in shots]),
    )
