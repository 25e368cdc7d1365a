"""What an image tells: of the camera that took it, and of objects that are said to be in it.

Objects explain an image where their light, spread by the optics, and an even background leave
nothing but the camera's noise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg, ndimage, optimize, sparse
from torch import Tensor

from pipeline.noise import Noise
from pipeline.optics import blur

Floats = npt.NDArray[np.float64]

HUBER = 3.0
"""Residual, in standard deviations, from which on the loss grows linearly."""

FAINTEST = 0.25
"""Least brightness of an object, as a fraction of what is typical of its image."""

RIDGE = 1e-3
"""Variance of the rendered prediction below which a window takes its image's amplitude."""


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
