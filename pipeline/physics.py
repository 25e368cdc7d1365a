"""What an image tells: of the camera that took it, and of objects that are said to be in it.

Objects explain an image where their light, spread by the optics, and an even background leave
nothing but the camera's noise.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg, ndimage, optimize, sparse
from torch import Tensor

from pipeline.optics import Camera, Noise, blur

Floats = npt.NDArray[np.float64]

HUBER = 3.0
"""Residual, in standard deviations, from which on the loss grows linearly."""

FAINTEST = 0.25
"""Least brightness of an object, as a fraction of what is typical of its image."""

STEPS = 32
"""Steps of brightness in which noise is measured."""

RIDGE = 1e-3
"""Variance of the rendered prediction below which a window takes its image's amplitude."""


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


def deviance(electrons: Tensor, expected: Tensor, read_noise: float) -> Tensor:
    """Twice the log-likelihood lost against a perfect model, per voxel; at least 0, mean about 1.

    Shot noise with read noise, in electrons, is nearly a Poisson variable once the variance of the
    read noise is added to the electrons and to what is expected (F. Huang et al., Nature Methods
    10, 653, 2013). What is negative even then counts as 0. Differentiable in `expected`.
    """
    seen = (electrons + read_noise**2).clamp(min=0)
    model = (expected + read_noise**2).clamp(min=1e-6)
    return 2 * (model - seen + torch.xlogy(seen, seen / model))


@dataclass(frozen=True, slots=True)
class Formation:
    """What is known of how an image came about.

    Attributes
    ----------
    kernel: point-spread function on the image's voxels, of odd sides and sum 1.
    window: sides, in voxels, within which objects are alike and background is even; about two
        diameters of an object.
    noise: in the units of the image.
    """

    kernel: Tensor
    window: tuple[float, ...]
    noise: Noise


def explain(probability: Tensor, image: Tensor, formation: Formation) -> Tensor:
    """How badly a prediction, rendered through the optics, explains `image`: 0 is perfectly.

    Both are `(batch, *axes)`. The mean over all voxels, labelled or not, of the pseudo-Huber
    function of `residuals`. Its gradient reaches `probability` only.
    """
    share = residuals(probability, image, formation) / HUBER
    return HUBER**2 * ((1 + share**2).sqrt() - 1).mean()


def residuals(probability: Tensor, image: Tensor, formation: Formation) -> Tensor:
    """What is left of `image`, in standard deviations of its noise; both are `(batch, *axes)`.

    image - a * blur(probability) - b: the amplitude a and the background b are the weighted least
    squares solution in the window about each voxel, and are constants to the gradient. No object
    is fainter than a quarter of the image's typical amplitude, so that what is missed and what is
    imagined are seen even where they are alone. The prediction is compared after blurring, so
    nothing beyond the resolution of the optics is asked of it.
    """
    rendered = blur(probability, formation.kernel)
    with torch.no_grad():
        smooth = blur(image, formation.kernel)
        variance = formation.noise.variance(smooth)
        amplitude, background = _amplitudes(
            rendered.detach(), image, smooth, 1 / variance, formation.window
        )
    return (image - amplitude * rendered - background) / variance.sqrt()


def _amplitudes(
    rendered: Tensor, image: Tensor, smooth: Tensor, weight: Tensor, window: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Amplitude and background of every voxel's window."""
    axes = tuple(range(1, image.ndim))
    level = image.mean(dim=axes, keepdim=True)
    some = smooth.flatten(1)[:, :: 1 + smooth[0].numel() // 100_000]
    ends = torch.quantile(some, some.new_tensor([0.05, 0.995]), dim=1)
    contrast = (ends[1] - ends[0]).reshape(level.shape)
    terms = (weight, weight * rendered, weight * (image - level))
    products = torch.stack([*terms, terms[1] * rendered, terms[1] * (image - level)])
    box = torch.full([2 * round(side / 2) + 1 for side in window], 1.0)
    every = tuple(range(2, products.ndim))
    whole, _ = _line(products.mean(dim=every, keepdim=True), contrast, FAINTEST * contrast)
    amplitude, background = _line(blur(products, box / box.numel()), whole, FAINTEST * whole)
    return amplitude, background + level


def _line(moments: Tensor, expected: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude, drawn towards what is expected, and background from five weighted moments."""
    total, first, light, second, mixed = moments
    centre, height = first / total, light / total
    spread = (second / total - centre**2).clamp(min=0)
    shared = mixed / total - centre * height
    amplitude = ((shared + RIDGE * expected) / (spread + RIDGE)).maximum(least)
    return amplitude, height - amplitude * centre


def reduced_chi_square(
    labels: npt.NDArray[np.integer[Any]],
    known: npt.NDArray[np.bool_],
    image: npt.NDArray[np.floating[Any]],
    formation: Formation,
) -> float:
    """Whether labelled objects, evenly bright, explain an image: near 1 the forward model applies.

    All three are `(*axes)`; only voxels that are `known` count. Each object has an amplitude of
    its own, 0 or more, and the background is linear between knots a window apart. Much more than
    1 means texture, another contrast, or labels that are wrong; much less, that the noise is
    smaller than stated. Raises ValueError where fewer voxels are known than there are unknowns.
    """
    seen = torch.as_tensor(np.asarray(image, np.float64))
    objects = _rendered(labels, formation.kernel)
    design = sparse.hstack([objects, _knots(labels.shape, formation.window)], format="csr")
    design = design[np.flatnonzero(known)]
    freedom = design.shape[0] - design.shape[1]
    if freedom <= 0:
        raise ValueError(
            f"{design.shape[0]} known voxels cannot tell {design.shape[1]} amplitudes and "
            "backgrounds: label a larger region."
        )
    target = seen.numpy()[known]
    expected = blur(seen, formation.kernel).numpy()[known]
    for _ in range(2):  # first with the variance of the blurred image, then with that of the fit
        weight = formation.noise.variance(torch.as_tensor(expected)).rsqrt().numpy()
        expected = _fitted(design, target, weight, objects.shape[1])
    weight = formation.noise.variance(torch.as_tensor(expected)).rsqrt().numpy()
    return float((((target - expected) * weight) ** 2).sum() / freedom)


def _fitted(design: Any, target: Floats, weight: Floats, objects: int) -> Floats:
    """The weighted least squares fit to `target` whose first coefficients are 0 or more."""
    level = float(np.median(target))
    weighted = sparse.diags_array(weight) @ design
    normal = (weighted.T @ weighted).toarray()
    normal += 1e-9 * max(float(np.trace(normal)) / len(normal), 1e-300) * np.eye(len(normal))
    upper = linalg.cholesky(normal)
    right = linalg.solve_triangular(upper, weighted.T @ (weight * (target - level)), trans="T")
    least = np.where(np.arange(len(normal)) < objects, 0.0, -np.inf)
    fitted: Floats = level + design @ optimize.lsq_linear(upper, right, (least, np.inf)).x
    return fitted


def _rendered(labels: npt.NDArray[np.integer[Any]], kernel: Tensor) -> Any:
    """Each object seen through the optics, a sparse column per object."""
    number = np.arange(labels.size).reshape(labels.shape)
    rows, columns, light = [], [], []
    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape) + int(ids[0] != 0)
    for column, found in enumerate(ndimage.find_objects(compact)):
        grown = tuple(
            slice(max(0, s.start - k // 2), s.stop + k // 2)
            for s, k in zip(found, kernel.shape, strict=True)
        )
        mask = torch.as_tensor(compact[grown] == column + 1, dtype=torch.float64)
        light.append(blur(mask, kernel).numpy().ravel())
        rows.append(number[grown].ravel())
        columns.append(np.full(rows[-1].size, column))
    parts = [np.concatenate([[], *part]) for part in (light, rows, columns)]
    shape = (labels.size, len(rows))
    return sparse.csr_array((parts[0], (parts[1].astype(int), parts[2].astype(int))), shape=shape)


def _knots(shape: tuple[int, ...], window: tuple[float, ...]) -> Any:
    """Backgrounds that are linear between knots a window apart, a sparse column per knot."""
    columns: Any = sparse.eye_array(1)
    for side, width in zip(shape, window, strict=True):
        place = np.linspace(0, max(1, round(side / width)), side)[:, None]
        knots = np.arange(place[-1, 0] + 1)
        columns = sparse.kron(columns, np.maximum(0, 1 - np.abs(place - knots)))
    return columns.tocsr()
