"""Synthetic fields to learn from: the annotated objects, placed anew on the ground they lay on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from pipeline.grounds import RIM, Ground, Values, ground_of, piece_of
from pipeline.shots import Bools, Example, Floats, Guise, Labels, Shot, diameter
from pipeline.tiles import Box

OVERLAP = 0.1
"""Fraction of an object that may lie beneath others."""


@dataclass(frozen=True, slots=True)
class Patch:
    """An object by itself, with the light it throws around it.

    Attributes
    ----------
    values: `(3, *window)`: the difference from the ground, times the mask; the mask, 1 inside the
        object, falling to 0 in a rim around it; rims from the outline, negative outside.
    grit: `(*window)`, what the difference has of grains as fine as voxels.
    middle: `(axes,)`, the object's centre, from the window's middle, in voxels.
    """

    values: Floats
    grit: Floats
    middle: Values


@dataclass(frozen=True, slots=True)
class Library:
    """What fields are composed of.

    Attributes
    ----------
    size: mean voxels of an object.
    diameter: `(axes,)`, typical, in voxels along each axis.
    """

    patches: tuple[Patch, ...]
    grounds: tuple[Ground, ...]
    size: float
    diameter: Values

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Self:
        """Take the examples apart into objects and ground.

        Raises ValueError where no whole object is annotated, or no background.
        """
        whole = [_whole(example) for example in examples]
        found = [ndimage.find_objects(labels) for labels in whole]
        sides = [[side.stop - side.start for side in span] for spans in found for span in spans]
        if not sides:
            raise ValueError("no whole object is annotated: annotate one away from the edges.")
        # Nobody says how far apart planes are: objects count as about as high as wide.
        extent = np.median(sides, axis=0)
        step = np.maximum(extent[-2:].mean() / extent, 1)
        step[-2:] = 1
        typical = float(np.median([diameter(one, tuple(step)) for one in whole if one.any()]))
        rim = max(RIM * typical, 2.0) / step
        grounds = tuple(ground_of(example, rim) for example in examples)
        patches = tuple(
            _patch(
                example.image - ground.layers[0],
                example.known & (example.labels == 0),
                np.argwhere(labels[span] == number) + [side.start for side in span],
                rim,
            )
            for example, ground, labels, spans in zip(examples, grounds, whole, found, strict=True)
            for number, span in enumerate(spans, start=1)
        )
        size = float(np.mean([np.count_nonzero(patch.values[2] > 0) for patch in patches]))
        return cls(patches, grounds, size, typical / step)


def compose(
    library: Library, sides: tuple[int, ...], guise: Guise, generator: np.random.Generator
) -> Shot:
    """A field of `sides` voxels in which everything is known.

    Objects lie alone or side by side, between half and twice as dense as in an example, each in a
    guise: turned, scaled and re-lit.
    """
    ground = library.grounds[generator.integers(len(library.grounds))]
    reach, clustering = library.diameter / 2, generator.uniform(0, 0.6)
    cover = ground.cover * 2 ** generator.uniform(-1, 1)
    count = max(1, round(cover * math.prod(sides + 2 * reach) / library.size))
    chosen = generator.integers(len(library.patches), size=count)
    canvas = _Canvas(sides)
    for drawn in _drawn([library.patches[number] for number in chosen], guise, generator):
        for _ in range(4):
            # One at least has its centre in the field.
            margin = reach if canvas.middles else 0 * reach
            middle = generator.uniform(-margin, sides + margin)
            if canvas.middles and generator.random() < clustering:
                heading = generator.standard_normal(len(sides))
                heading *= generator.uniform(0.7, 1.3) / np.linalg.norm(heading)
                beside = canvas.middles[generator.integers(len(canvas.middles))]
                middle = beside + heading * library.diameter
            if canvas.put(drawn, middle):
                break
    smooth, rest = piece_of(ground, sides, generator)
    return canvas.shot(_relit(smooth + rest * canvas.veil + canvas.light, guise, generator))


class _Canvas:
    """A field in the making; arrays are `(*axes)`.

    Attributes
    ----------
    light: of the objects, beyond the ground's.
    veil: how much of the ground's noise is left beside the noise of the objects.
    middles: of the objects; the labels count them from 1.
    """

    def __init__(self, sides: tuple[int, ...]) -> None:
        self.labels = np.zeros(sides, np.int32)
        self.light, self.veil = np.zeros(sides, np.float32), np.ones(sides, np.float32)
        self.middles: list[Values] = []

    def put(self, drawn: Patch, middle: Values) -> bool:
        """Add an object beside those that are there, unless too much of it lies beneath them."""
        shape = np.array(drawn.grit.shape)
        start = np.round(middle - drawn.middle).astype(int) - shape // 2
        low, high = np.maximum(start, 0), np.minimum(start + shape, self.labels.shape)
        if (low >= high).any():
            return False
        here = Box(tuple(low), tuple(high)).slices
        seen = Box(tuple(low - start), tuple(high - start)).slices
        light, mask, depth = drawn.values[(slice(None), *seen)]
        light = light + drawn.grit[seen]
        labels, lit, solid = self.labels[here], self.light[here], depth > 0
        beneath = solid & (labels > 0)
        if np.count_nonzero(beneath) > OVERLAP * np.count_nonzero(solid):
            return False
        stronger = np.where(np.abs(lit) >= np.abs(light), lit, light)
        self.light[here] = np.where(solid | (labels > 0), stronger, lit + light)
        # Variances add up: the ground's noise and the object's stay as strong as one.
        self.veil[here] *= np.sqrt(1 - np.minimum(mask, 1) ** 2)
        self.middles.append(start + shape // 2 + drawn.middle)
        labels[solid & ~beneath] = len(self.middles)
        return True

    def shot(self, image: Floats) -> Shot:
        """The field as it is to be learned: every voxel's vote is its whole object's centre."""
        inside = self.labels > 0
        middles = np.array([np.zeros(inside.ndim), *self.middles])
        displacement = np.moveaxis(middles[self.labels], -1, 0) - np.indices(inside.shape)
        return Shot(
            torch.as_tensor(image.astype(np.float32))[None],
            torch.as_tensor(inside.astype(np.float32)),
            torch.as_tensor((displacement * inside).astype(np.float32)),
            torch.ones(inside.shape),
        )


def _drawn(patches: Sequence[Patch], guise: Guise, generator: np.random.Generator) -> list[Patch]:
    """Every patch at an angle, a size, a brightness and a fraction of a voxel of its own."""
    count, axes = len(patches), patches[0].grit.ndim
    window = np.max([patch.grit.shape for patch in patches], axis=0)
    stacked = np.zeros((count, 4, *window), np.float32)
    for target, patch in zip(stacked, patches, strict=True):
        start = (window - patch.grit.shape) // 2
        inner = Box(tuple(start), tuple(start + patch.grit.shape)).slices
        target[(slice(3), *inner)], target[(3, *inner)] = patch.values, patch.grit
    factor = np.exp(generator.uniform(-guise.scale, guise.scale, count))
    light = np.exp(generator.uniform(-guise.contrast / 2, guise.contrast / 2, count))
    offset = generator.uniform(-0.5, 0.5, (count, axes))
    angle = generator.uniform(0, 2 * math.pi, count) * guise.turned
    # `inverse` takes coordinates (x, y[, z]) from the window's middle to the patch's.
    inverse = np.tile(np.eye(axes), (count, 1, 1))
    inverse[:, 0, 0] = inverse[:, 1, 1] = np.cos(angle)
    inverse[:, 1, 0], inverse[:, 0, 1] = np.sin(angle), -np.sin(angle)
    inverse[:, :, 0] *= generator.choice([-1.0, 1.0] if guise.turned else [1.0], (count, 1))
    inverse /= factor[:, None, None]
    wide = 2 * np.ceil((window // 2) * factor.max()).astype(int) + 1
    shift = np.array([patch.middle[::-1] for patch in patches])
    shift -= np.einsum("nij,nj->ni", inverse, offset[:, ::-1])
    theta = np.concatenate([inverse * wide[::-1], 2 * shift[..., None]], axis=2)
    theta = theta.astype(np.float32) / window[::-1, None].astype(np.float32)
    grid = functional.affine_grid(torch.as_tensor(theta), [count, 3, *wide], align_corners=False)
    held = torch.as_tensor(stacked)
    values = functional.grid_sample(held[:, :3], grid, align_corners=False).numpy()
    # Interpolation would smooth the noise: its voxels move whole.
    grit = functional.grid_sample(held[:, 3:], grid, "nearest", align_corners=False)[:, 0].numpy()
    for one, fine, brighter in zip(values, grit, light, strict=True):
        one[0] *= brighter
        fine *= brighter
    return list(map(Patch, values, grit, offset))


def _relit(image: Floats, guise: Guise, generator: np.random.Generator) -> Floats:
    """The image in other light, which may rise along one axis, and with more noise."""
    axis = int(generator.integers(image.ndim))
    begin, end = generator.uniform(-guise.background, guise.background, 2)
    slope = np.linspace(begin, end, image.shape[axis])
    slope = slope.reshape((-1,) + (1,) * (image.ndim - axis - 1))
    factor = math.exp(generator.uniform(-guise.contrast / 2, guise.contrast / 2))
    noise = generator.standard_normal(image.shape, np.float32)
    return image * factor + slope + generator.uniform(0, guise.noise) * noise


def _whole(example: Example) -> Labels:
    """Objects that lie inside what is known, with hardly any of the unknown at their outlines."""
    ids, dense = np.unique(example.labels, return_inverse=True)
    dense = dense.reshape(example.labels.shape) + (0 if 0 in ids else 1)
    outline = ndimage.maximum_filter(dense, 3) != ndimage.minimum_filter(dense, 3)
    silent = outline & ndimage.binary_dilation(~example.known)
    length, lost = (
        np.bincount(dense[part], minlength=dense.max() + 1) for part in (outline, silent)
    )
    broken = lost > 0.1 * length
    broken[dense[~example.known]] = broken[0] = True
    for axis in range(dense.ndim):
        broken[np.take(dense, [0, -1], axis)] = True
    return np.where(broken, 0, np.cumsum(~broken))[dense].astype(np.int32)


def _patch(difference: Floats, bare: Bools, voxels: Labels, rim: Values) -> Patch:
    """The object of these `(count, axes)` voxels; what else is around it fades out at once."""
    middle = voxels.mean(axis=0)
    far = np.abs(voxels - middle).max(axis=0)
    # Square in the plane, and wide enough to be turned in it.
    far[-2:] = np.hypot(*(voxels - middle).T[-2:]).max()
    half = np.ceil(far + rim + 1).astype(int)
    start = np.round(middle).astype(int) - half
    low, high = np.maximum(start, 0), np.minimum(start + 2 * half + 1, bare.shape)
    here = Box(tuple(low), tuple(high)).slices
    solid = np.zeros(high - low, bool)
    solid[tuple((voxels - low).T)] = True
    outward, nearest = ndimage.distance_transform_edt(~solid, 1 / rim, return_indices=True)
    inward = ndimage.distance_transform_edt(solid, 1 / rim)
    own = solid | bare[here]
    mask = np.where(own, 2 - 2 * outward, 1 - outward * rim.max() / 2).clip(0, 1)
    light = mask * np.where(own, difference[here], difference[here][tuple(nearest)])
    even = ndimage.gaussian_filter(light, 1.0)
    values = np.stack([even, mask, inward - outward, light - even]).astype(np.float32)
    margins = list(zip(low - start, start + 2 * half + 1 - high, strict=True))
    values = np.pad(values, [(0, 0), *margins])
    return Patch(values[:3], values[3], middle - np.round(middle))
