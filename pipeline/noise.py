"""A camera's noise, read from the images it took."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # to read noise needs no torch, which takes seconds to load
    from torch import Tensor

Floats = npt.NDArray[np.float64]

STEPS = 32
"""Steps of brightness in which noise is measured."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The line on which the noise variance of a camera lies, in the image's own units.

    Attributes
    ----------
    slope: variance per expected brightness; of raw counts, the gain in counts per electron.
    intercept: variance where the brightness is 0; negative where the camera has an offset.
    floor: least variance anywhere, positive.
    slope_error: standard error of the slope; 0 where the camera is known.
    """

    slope: float
    intercept: float
    floor: float
    slope_error: float = 0.0

    def variance(self, expected: "Tensor") -> "Tensor":
        """Variance at this expected brightness."""
        return (self.slope * expected + self.intercept).clamp(min=self.floor)

    def normalised(self, low: float, high: float) -> Self:
        """The same noise in an image of which `low` has become 0 and `high` 1."""
        span = high - low
        intercept = (self.slope * low + self.intercept) / span**2
        return type(self)(
            self.slope / span, intercept, self.floor / span**2, self.slope_error / span
        )


@dataclass(frozen=True, slots=True)
class Camera:
    """A linear camera.

    Attributes
    ----------
    gain: counts per electron.
    offset: counts without light.
    read_noise: standard deviation in electrons.
    """

    gain: float
    offset: float
    read_noise: float

    @property
    def noise(self) -> Noise:
        """Noise in counts: shot noise and read noise, never less than that of rounding."""
        read = (self.gain * self.read_noise) ** 2
        return Noise(self.gain, read - self.gain * self.offset, max(read, 1 / 12))


def estimate_noise(image: npt.NDArray[Any]) -> Noise:
    """The noise line of one image whose last two axes are `yx`, by photon transfer.

    Second differences along both y and x at once leave nothing of smooth brightness and all of the
    noise (J. Immerkaer, Computer Vision and Image Understanding 64, 300, 1996). Their variance in
    each of 32 steps of the local mean, where that is no steeper than noise makes it, is fitted
    against the mean by a robust weighted line. What is smoothed, resampled or denoised has other
    noise, and its line is not the camera's. Raises ValueError where the image is too small,
    constant or saturated, or its noise does not grow with brightness measurably.
    """
    values = np.asarray(image, np.float64)
    if values.ndim < 2 or min(values.shape[-2:]) < 16:
        raise ValueError(f"noise cannot be measured in shape {values.shape}: 16 x 16 at least.")
    top = float(values.max())
    if top == values.min():
        raise ValueError(f"noise cannot be measured in a constant image, {top:g} everywhere.")
    saturated = float((values == top).mean())
    if saturated > 0.005:
        raise ValueError(
            f"noise cannot be measured in a saturated image: {saturated:.1%} of the voxels share "
            f"the highest value, {top:g}."
        )
    mean, variance, count = _photon_transfer(values)
    slope, intercept, error = _robust_line(mean, variance, count)
    if not slope > 3 * error:
        raise ValueError(
            f"noise does not grow with brightness in this image (slope {slope:.3g}, standard error "
            f"{error:.2g}): give the camera's gain, offset and read noise."
        )
    return Noise(slope, intercept, max(float(variance.min()) / 2, 1e-12 * slope), error)


def estimate_camera(counts: npt.NDArray[Any], offset: float | None = None) -> tuple[Camera, Noise]:
    """The camera that took an image of raw counts, and the noise line it was read from.

    One image cannot tell offset from read noise: without `offset`, in counts, the camera returned
    has no read noise and the offset at which the variance ends, or no offset where the line does
    not reach 0. Its noise is that of the image all the same. Raises as `estimate_noise`.
    """
    noise = estimate_noise(counts)
    if offset is None:
        offset = max(0.0, -noise.intercept / noise.slope)
    read = math.sqrt(max(0.0, noise.intercept + noise.slope * offset)) / noise.slope
    return Camera(noise.slope, offset, read), noise


def _photon_transfer(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Local mean, noise variance and number of voxels in each step of brightness."""
    from scipy import ndimage  # takes long to load, and most processes measure no noise

    plane = (0.0,) * (values.ndim - 2)
    rough = ndimage.convolve1d(ndimage.convolve1d(values, [1, -2, 1], axis=-1), [1, -2, 1], axis=-2)
    smooth = ndimage.gaussian_filter(values, (*plane, 2.0, 2.0))
    steep = np.square(np.gradient(smooth, axis=(-2, -1))).sum(axis=0)
    inner = (..., slice(4, -4), slice(4, -4))
    rough, smooth, steep = (part[inner].ravel() for part in (rough / 6, smooth, steep))
    low, high = np.quantile(smooth, (0.001, 0.999))
    edges = np.linspace(low, high, STEPS + 1)
    step = np.digitize(smooth, edges)
    rows: list[tuple[float, float, float]] = []
    uneven: list[tuple[float, float, float]] = []
    for number in range(1, len(edges)):
        inside = step == number
        if inside.sum() <= 100:
            continue
        # the squared gradient of smoothed noise is a 200th of its variance, seldom three times that
        even = steep <= (rough[inside] ** 2).mean() / 70
        least = np.partition(steep[inside], 100)[100]
        flat = inside & (even | (steep <= least))
        square = rough[flat] ** 2
        square = square[square <= 19 * np.quantile(square, 0.75)]  # five standard deviations
        # neighbouring second differences are correlated: 3.78 voxels tell as much as one
        row = (smooth[flat].mean(), square.mean(), len(square) / 3.78)
        (rows if (inside & even).sum() >= 100 else uneven).append(row)
    if len(rows) < STEPS // 4:
        rows += uneven
    mean, variance, count = np.reshape(rows, (-1, 3)).T
    return mean, variance, count


def _robust_line(mean: Floats, variance: Floats, count: Floats) -> tuple[float, float, float]:
    """Slope, intercept and standard error of the slope, infinite where no line can be drawn."""
    if len(mean) < 3 or not variance.max() > 0:
        return 0.0, 0.0, math.inf
    design = np.stack([mean - mean.mean(), np.ones_like(mean)], axis=1)
    spread = np.maximum(variance, variance.max() / 1000) * np.sqrt(2 / count)
    robust = np.ones_like(mean)
    for _ in range(20):
        weight = robust / spread**2
        covariance = np.linalg.inv((design.T * weight) @ design)
        line = covariance @ ((design.T * weight) @ variance)
        fitted = np.maximum(design @ line, variance.max() / 1000)
        spread = fitted * np.sqrt(2 / count)
        residual = np.abs(variance - fitted) / spread
        robust = 1 / np.maximum(1, residual / 2)
    excess = max(1.0, float((robust * residual**2).sum() / max(1.0, robust.sum() - 2)))
    error = math.sqrt(covariance[0, 0] * excess)
    return float(line[0]), float(line[1] - line[0] * mean.mean()), error
