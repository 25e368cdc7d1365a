"""Crops: one object, not labelled, and scenes of it that say how far it was moved, not where it is.

A crop holds one object before an even background. Its noise is filtered off, and what is left is
put into scenes: moved by fractions of a voxel, turned by any angle, made brighter or dimmer, with
fresh noise of the camera. Of each copy a scene knows how it was moved. Where in the crop the object
lies is for the network to find out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from pipeline.noise import Noise

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]
SPLINE = 5
"""Order of the splines that move an object: the error is far below noise where optics blur."""
FAINTEST = 5.0
"""Signal over noise, of all voxels of an object together, below which nothing can be learned."""
CLEANEST = 50.0
"""An object's contrast over the noise of a voxel, where that is measured at the rim, at most."""
TWINS = 0.5
"""Light of a second object over that of the first from which on a crop holds two."""


@dataclass(frozen=True, slots=True)
class Crop:
    """One object on its own.

    Attributes
    ----------
    object: the image less its background and most of its noise, ending in zeros, `(y, x)`.
    background: level beside the object.
    noise: of the image, in its units.
    diameter: of the disc that has the object's area, in voxels.
    middle: where most of its contrast lies, in voxels from the middle of the crop.
    extent: farthest voxel of high contrast from there.
    signal_to_noise: of the best filter for the object, at its own place.
    """

    object: Floats
    background: float
    noise: Noise
    diameter: float
    middle: Floats
    extent: float
    signal_to_noise: float

    @classmethod
    def of(cls, image: npt.NDArray[np.floating], noise: Noise | None, where: str) -> Self:
        """Take a crop apart. Without `noise` it is measured at the rim, and even.

        `where` names the crop in errors. Raises ValueError where nothing can be learned from it:
        no contrast, an object that is cut, two objects. Of neighbours that the crop cuts, what is
        nearer to them than to its own object is taken for background.
        """
        values = np.asarray(image, np.float64)
        if values.ndim != 2 or min(values.shape) < 7:
            raise ValueError(
                f"{where} has the shape {values.shape}: a crop is planar, 7 x 7 voxels at least."
            )
        rim = _rim(values.shape)
        background = float(np.median(values[rim]))
        noise = noise or _even_noise(values, rim)
        own = _own(_mask(ndimage.gaussian_filter(values - background, 1.0)), where)
        bare = (values - background) * own * _feather(values.shape)
        variance = np.maximum(noise.slope * values + noise.intercept, noise.floor)
        cleaned = _cleaned(bare, variance)
        strength = math.sqrt(float((cleaned**2 / variance).sum()))
        if not strength > FAINTEST:
            raise ValueError(
                f"{where} has no contrast: its object stands out {strength:.1f} times the noise, "
                f"and {FAINTEST:g} are needed. Choose a brighter one, or a crop with an object."
            )
        mask = _mask(cleaned)
        _refuse_twins(np.abs(cleaned), mask, where)
        filled = ndimage.binary_fill_holes(mask)
        places = np.argwhere(filled) - (np.array(mask.shape) - 1) / 2
        middle = np.average(places, axis=0, weights=np.abs(cleaned)[filled])
        return cls(
            object=cleaned,
            background=background,
            noise=noise,
            diameter=2 * math.sqrt(len(places) / math.pi),
            middle=middle,
            extent=float(np.hypot(*(places - middle).T).max()),
            signal_to_noise=strength,
        )


def _rim(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The outermost eighth of a crop, where no object should be."""
    rim = np.ones(shape, bool)
    rim[tuple(slice(max(1, side // 8), side - max(1, side // 8)) for side in shape)] = False
    return rim


def _feather(shape: tuple[int, ...]) -> Floats:
    """1 inside, and a cosine that falls to 0 over the rim."""
    feather = np.ones(())
    for side in shape:
        depth = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
        rise = np.clip(depth / max(2, side // 6), 0, 1)
        feather = np.multiply.outer(feather, (1 - np.cos(math.pi * rise)) / 2)
    return feather


def _even_noise(values: Floats, rim: npt.NDArray[np.bool_]) -> Noise:
    """The noise of the rim, by second differences, taken for that of all.

    Their mean size, since of few grey levels most differences are 0; and never less than a part of
    the contrast: rims that were clipped have no noise, and no image is that clean.
    """
    rough = ndimage.convolve1d(ndimage.convolve1d(values, [1, -2, 1], axis=-1), [1, -2, 1], axis=-2)
    deviation = float(np.abs(rough[rim]).mean()) * math.sqrt(math.pi / 2) / 6
    contrast = float(np.abs(values - np.median(values[rim])).max())
    variance = max(deviation, contrast / CLEANEST, 1e-6) ** 2
    return Noise(0.0, variance, variance)


def _cleaned(bare: Floats, variance: Floats) -> Floats:
    """An object without most of its noise.

    Wiener's filter: each frequency keeps the fraction of its power that is not noise, the power
    being the mean over all directions, so that a filter of one crop knows of no orientation.
    """
    spectrum = fft.fft2(bare)
    power = np.abs(spectrum) ** 2
    noise = float((variance * _feather(bare.shape) ** 2).sum())
    y, x = (fft.fftfreq(side) for side in bare.shape)
    ring = np.rint(np.hypot(*np.meshgrid(y, x, indexing="ij")) * max(bare.shape)).astype(int)
    mean = np.bincount(ring.ravel(), power.ravel()) / np.bincount(ring.ravel())
    kept = ndimage.gaussian_filter1d(np.clip(1 - noise / np.maximum(mean, 1e-300), 0, 1), 0.7)
    cleaned: Floats = fft.ifft2(spectrum * kept[ring]).real * _feather(bare.shape)
    return cleaned


def _mask(cleaned: Floats) -> npt.NDArray[np.bool_]:
    """Where an object has more than half of its greatest contrast."""
    contrast = np.abs(cleaned)
    return np.asarray(contrast > contrast.max() / 2)


def _own(mask: npt.NDArray[np.bool_], where: str) -> Floats:
    """1 in what is the object's, 0 in what is nearer to neighbours that the crop cuts."""
    inside = np.zeros(mask.shape, bool)
    margins = [max(1, side // 10) for side in mask.shape]
    inside[tuple(slice(m, side - m) for m, side in zip(margins, mask.shape, strict=True))] = True
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    cut = np.isin(labels, np.unique(labels[mask & ~inside])) & mask
    whole = mask & ~cut
    if not whole.any():
        raise ValueError(
            f"{where} cuts its object: there must be background on all four sides. Enlarge the "
            "region, or choose an object with more room around it."
        )
    if not cut.any():
        return np.ones(mask.shape)
    nearer = ndimage.distance_transform_edt(~whole) < ndimage.distance_transform_edt(~cut)
    return np.asarray(ndimage.gaussian_filter(nearer.astype(np.float64), 1.0))


def _refuse_twins(contrast: Floats, mask: npt.NDArray[np.bool_], where: str) -> None:
    """Two patches of like light with a gap as wide as they are hold two objects."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    if count < 2:
        return
    each = np.arange(1, count + 1)
    light = np.asarray(ndimage.sum(contrast, labels, each))
    first, second = np.argsort(light)[::-1][:2]
    places = [np.argwhere(labels == each[i]) for i in (first, second)]
    apart = min(float(np.hypot(*(places[0] - place).T).min()) for place in places[1])
    width = 2 * math.sqrt(min(map(len, places)) / math.pi)
    if light[second] > TWINS * light[first] and apart > width:
        raise ValueError(
            f"{where} holds two objects, {apart:.0f} voxels apart: a crop must hold one. Make the "
            "region smaller, or choose an object that stands alone."
        )


@dataclass(frozen=True, slots=True)
class Range:
    """How far scenes may differ from a crop.

    Attributes
    ----------
    contrast: of the logarithm of an object's brightness.
    scale: of the logarithm of its size.
    background: of the logarithm of the background's level above the camera's offset.
    """

    contrast: float
    scale: float
    background: float


@dataclass(frozen=True, slots=True)
class Scene:
    """An image, and how the copies of a crop in it were moved.

    Attributes
    ----------
    image: `(y, x)`.
    places: where the middle of each copy's crop lies, `(copies, 2)`, in voxels.
    turns: the matrices `(copies, 2, 2)` that took offsets from the middle of the crop to theirs.
    """

    image: Images
    places: Floats
    turns: Floats


def scene(
    crops: Sequence[Crop],
    side: int,
    copies: int,
    within: Range,
    generator: np.random.Generator,
    ground: Images | None = None,
) -> Scene:
    """A square image with copies of the crops, at least 0.6 diameters apart, and fresh noise.

    `ground` is an image of that side that they are added to, as it is, noise and all; without it
    the background is even. There may be fewer copies where there is no room.
    """
    crop = crops[int(generator.integers(len(crops)))]
    zero = -crop.noise.intercept / crop.noise.slope if crop.noise.slope else 0.0
    level = crop.background
    if crop.noise.slope:
        level = zero + (level - zero) * math.exp(generator.uniform(-1, 1) * within.background)
    light = np.zeros((side, side))
    places = _scattered(side, copies, max(2.0, 0.6 * crop.diameter), generator)
    turns = np.empty((len(places), 2, 2))
    for place, turn in zip(places, turns, strict=True):
        chosen = crops[int(generator.integers(len(crops)))]
        turn[:] = _turn(within.scale, generator)
        bright = math.exp(generator.uniform(-1, 1) * within.contrast)
        _add(light, bright * chosen.object, place, turn)
    image = _exposed(light, level, crop.noise, ground, generator)
    return Scene(image.astype(np.float32), places, turns)


def _scattered(side: int, copies: int, apart: float, generator: np.random.Generator) -> Floats:
    places: list[Floats] = []
    for _ in range(8 * copies):
        place = generator.uniform(0, side - 1, 2)
        if all(math.hypot(*(place - other)) > apart for other in places):
            places.append(place)
        if len(places) == copies:
            break
    return np.array(places).reshape(-1, 2)


def _turn(scale: float, generator: np.random.Generator) -> Floats:
    """A rotation by any angle, a mirror for every second, and a change of size."""
    angle = generator.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    if generator.random() < 0.5:
        turn[:, 0] *= -1
    return turn * math.exp(generator.uniform(-1, 1) * scale)


def _add(light: Floats, bare: Floats, place: Floats, turn: Floats) -> None:
    """Add an object, turned about the middle of its crop, with that middle at `place`."""
    middle = (np.array(bare.shape) - 1) / 2
    reach = math.ceil(math.hypot(*bare.shape) / 2 * math.sqrt(abs(np.linalg.det(turn))))
    first = np.floor(place).astype(int) - reach
    low = np.maximum(first, 0)
    high = np.minimum(first + 2 * reach + 2, light.shape)
    inverse = np.linalg.inv(turn)
    moved: Floats = ndimage.affine_transform(  # type: ignore[call-overload]
        bare,
        inverse,
        offset=middle + inverse @ (low - place),
        output_shape=tuple(high - low),
        order=SPLINE,
    )
    light[low[0] : high[0], low[1] : high[1]] += moved


def _exposed(
    light: Floats, level: float, noise: Noise, ground: Images | None, generator: np.random.Generator
) -> Floats:
    """Light with the noise that the camera adds to it.

    Shot noise is drawn from the Poisson distribution, as are the offset and the read noise that
    one image cannot tell from it; even noise is Gaussian.
    """
    if ground is not None:
        further = np.maximum(noise.slope * np.abs(light), 0)
        return np.asarray(
            ground + light + np.sqrt(further) * generator.standard_normal(light.shape), np.float64
        )
    if not noise.slope:
        return level + light + math.sqrt(noise.floor) * generator.standard_normal(light.shape)
    zero = -noise.intercept / noise.slope
    electrons = np.maximum(level + light - zero, 0) / noise.slope
    return np.asarray(zero + noise.slope * generator.poisson(electrons), np.float64)
