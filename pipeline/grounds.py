"""The ground of an annotated image: what it would show without its objects, and pieces of that."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from pipeline.grids import mirrored
from pipeline.shots import Bools, Example, Floats
from pipeline.tiles import Box

Values = npt.NDArray[np.float64]
RIM = 0.25
"""Width of what comes along with an object, as a fraction of the typical diameter."""
LAGS = 3
"""How many voxels apart noise may still be alike."""


@dataclass(frozen=True, slots=True)
class Ground:
    """An example without its objects.

    Attributes
    ----------
    layers: `(3, *axes)`: the smooth intensity; what the image adds to it where it is certain
        background, else 0; and 1 there, else 0.
    noise: standard deviation of what the image adds.
    grain: `(7, ...)`, the kernel that makes white noise as grainy as that.
    cover: fraction of the image that objects cover, those included that nobody annotated.
    """

    layers: Floats
    noise: float
    grain: Floats
    cover: float


def ground_of(example: Example, rim: Values) -> Ground:
    """The example without its objects; `rim` is as wide as `RIM`, in voxels along each axis.

    Certain background tells what the ground is like. Where nothing is annotated, voxels that are
    like it are ground as well.
    Raises ValueError where no background is annotated.
    """
    image, silent = example.image, ~example.known
    objects = example.known & (example.labels != 0)
    bare = example.known & ~objects
    if not bare.any():
        raise ValueError("no background is annotated: say what is around the objects.")
    away = _distance(objects, rim)
    # Away from the light that objects throw around, if there is such background.
    enough = 0.1 * np.count_nonzero(bare)
    clearance = next(c for c in (1, 0.75, 0.5, 0.25, 0) if (bare & (away > c)).sum() >= enough)
    ground = sure = bare & (away > clearance)
    for _ in range(3):
        smooth = _smoothed(image, ground, rim / RIM)
        relief = ndimage.gaussian_filter(image - smooth, rim / rim.max())
        low, high = _limits(relief[sure], relief[objects])
        strange = (relief < low) | (relief > high)
        clear = _distance(objects | strange, rim) > clearance
        ground = (clear | (sure & ~strange)) & ~objects
    rest = image - smooth
    noise = np.where(ground, np.clip(rest, *np.quantile(rest[ground], [0.005, 0.995])), 0)
    # Rims of sparse annotations may hold unknown neighbours: they tell the ground's level alone.
    certain = sure & (_distance(silent, rim) > 1)
    # Objects that nobody annotated are as often strange as those that somebody did.
    shown = max(float(strange[objects].mean()), 0.2) if objects.any() else 1.0
    hidden = min(np.count_nonzero(strange & silent) / shown, np.count_nonzero(silent))
    return Ground(
        layers=np.stack([smooth, rest * certain, certain]).astype(np.float32),
        noise=float(np.std(noise[ground])),
        grain=_grain(noise, ground),
        cover=float(np.count_nonzero(objects) + hidden) / image.size,
    )


def piece_of(
    ground: Ground, sides: tuple[int, ...], generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Ground and its noise in a random box, turned and mirrored but never interpolated."""
    swapped = generator.random() < 0.5
    asked = (*sides[:-2], sides[-1], sides[-2]) if swapped else sides
    shape = ground.layers.shape[1:]
    start = tuple(
        int(generator.integers(have - want + 1 if want <= have else 2 * have))
        for have, want in zip(shape, asked, strict=True)
    )
    stop = tuple(a + n for a, n in zip(start, asked, strict=True))
    inner, places = mirrored(Box(start, stop), shape)
    turned = np.ix_(np.arange(3), *[at[:: generator.choice([-1, 1])] for at in places])
    layers = ground.layers[(slice(None), *inner.slices)][turned]
    smooth, rest, certain = layers.swapaxes(-1, -2) if swapped else layers
    white = generator.standard_normal([max(n, 2 * LAGS + 1) for n in sides], np.float32)
    grained = fft.rfftn(white) * fft.rfftn(ground.grain, white.shape)
    noise = fft.irfftn(grained, white.shape)[tuple(map(slice, sides))]
    return smooth, rest + (1 - certain) * ground.noise * noise


def _distance(place: Bools, rim: Values) -> Values:
    """How far each voxel is from `place`, in rims."""
    if not place.any():
        return np.full(place.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~place, 1 / rim))


def _smoothed(image: Floats, ground: Bools, widths: Values) -> Floats:
    """The mean of the ground nearby; farther away too, where there is little of it nearby."""
    result = np.full(image.shape, image[ground].mean(), np.float32)
    weight = ground.astype(np.float32)
    for times in (8, 4, 2, 1):
        size = [2 * round(times * width / 2) + 1 for width in widths]
        sums, weights = weight * (image - result), weight
        for _ in range(2):
            sums, weights = (ndimage.uniform_filter(part, size) for part in (sums, weights))
        result += sums / (np.maximum(weights, 0) + 0.02)
    return result


def _limits(sure: Floats, objects: Floats) -> tuple[float, float]:
    """Between which values the ground lies; no limit on a side where no objects are."""
    middle = float(np.median(sure))
    spread = 6 * float(np.median(np.abs(sure - middle))) + 1e-6
    low, high = middle - spread, middle + spread
    dark, bright = np.count_nonzero(objects < low), np.count_nonzero(objects > high)
    few = 0.1 * (dark + bright)
    return (low if dark > few else -math.inf), (high if bright > few else math.inf)


def _grain(noise: Floats, ground: Bools) -> Floats:
    """The kernel of norm 1 whose autocorrelation is nearest to that of the ground's noise."""
    sides = [side + LAGS for side in noise.shape]
    near = np.ix_(*[range(-LAGS, LAGS + 1)] * noise.ndim)
    products, pairs = (
        fft.irfftn(np.abs(fft.rfftn(values, sides)) ** 2, sides)[near] for values in (noise, ground)
    )
    alike = np.where(pairs > 50, products / np.maximum(pairs, 1), 0)
    spectrum = np.maximum(fft.fftn(fft.ifftshift(alike)).real, 0)
    kernel = fft.fftshift(fft.ifftn(np.sqrt(spectrum)).real)
    return (kernel / max(float(np.linalg.norm(kernel)), 1e-9)).astype(np.float32)
