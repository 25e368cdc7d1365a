"""Simulated fluorescence: objects with known labels, seen through optics and a camera."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.optics import widefield_sigma_um


@dataclass(frozen=True, slots=True)
class Optics:
    """A wide-field microscope and its camera.

    Attributes
    ----------
    photons: collected per voxel inside an object of mean brightness.
    background: photons per voxel everywhere.
    gain, offset, read_noise: of the camera, in counts per photon, counts, and electrons.
    """

    numerical_aperture: float
    wavelength_um: float
    refractive_index: float
    photons: float
    background: float
    gain: float
    offset: float
    read_noise: float

    def blur_um(self, axes: str) -> tuple[float, ...]:
        """Standard deviations of the Gaussian that stands for the point-spread function."""
        along, across = widefield_sigma_um(
            self.wavelength_um, self.numerical_aperture, self.refractive_index
        )
        return tuple(along if axis == "z" else across for axis in axes)


def ellipsoids(
    shape: tuple[int, ...],
    voxel_size_um: tuple[float, ...],
    diameter_um: float,
    count: int,
    generator: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """Labels of up to `count` ellipses or ellipsoids that may touch and never overlap.

    Axes differ by up to a third; a place that is taken is tried elsewhere, twenty times.
    """
    labels = np.zeros(shape, np.uint16)
    size = np.reshape(voxel_size_um, (-1,) + (1,) * len(shape))
    place = np.indices(shape) * size
    for number in range(1, count + 1):
        for _ in range(20):
            middle = generator.uniform(0, 1, len(shape)) * np.multiply(shape, voxel_size_um)
            radii = diameter_um / 2 * generator.uniform(0.8, 1.2, len(shape))
            turn, _ = np.linalg.qr(generator.standard_normal((len(shape), len(shape))))
            away = place - middle.reshape(size.shape)
            turned = np.tensordot(turn, away, axes=1) / radii.reshape(size.shape)
            inside = (turned**2).sum(axis=0) <= 1
            if inside.any() and not labels[inside].any():
                labels[inside] = number
                break
    return labels


def fluorescence(
    labels: npt.NDArray[np.integer[Any]],
    voxel_size_um: tuple[float, ...],
    optics: Optics,
    generator: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """Counts of a camera that looks at these objects, each of its own brightness.

    Blurred by the point-spread function, with shot noise and read noise.
    """
    brightness = np.concatenate([[0.0], generator.uniform(0.6, 1.4, int(labels.max(initial=0)))])
    axes = "zyx"[-labels.ndim :]
    sigma = [b / v for b, v in zip(optics.blur_um(axes), voxel_size_um, strict=True)]
    expected = ndimage.gaussian_filter(brightness[labels] * optics.photons, sigma)
    photons = generator.poisson(expected + optics.background)
    electrons = photons + generator.normal(0, optics.read_noise, labels.shape)
    counts = np.rint(optics.gain * electrons + optics.offset)
    return np.clip(counts, 0, np.iinfo(np.uint16).max).astype(np.uint16)
