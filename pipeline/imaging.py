"""What a microscope and its camera make of a phantom: images of every kind that may come."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.optics import widefield_sigma_um
from pipeline.phantoms import Phantom

Floats = npt.NDArray[np.float32]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Imaging:
    """The conditions that images are drawn from; every pair is a range, drawn once for a field.

    Lengths without a unit are fractions of the typical diameter, intensities fractions of a
    typical object's.

    Attributes
    ----------
    diameter_um: of the typical object; with the optics it decides how sharp it is.
    numerical_aperture, wavelength_um, refractive_index: of a wide-field microscope.
    defocus: further blur, as the standard deviation of a Gaussian.
    photons: per voxel from a typical object, drawn evenly in the logarithm.
    background: even light everywhere, drawn evenly in the logarithm.
    unevenness: of the illumination, from one side of the field to the other.
    haze: light of objects out of focus.
    brightness: standard deviation of the logarithm of the objects' brightness.
    texture: standard deviation of the brightness within objects.
    dome: 0 where objects are flat, 1 where they are as bright as they are thick.
    debris: specks per object.
    read_noise: standard deviation in photons.
    exposure: of the normalised image: the logarithm of what a typical range becomes.
    any_contrast: objects may be dark, or have dark or bright rims, before a textured ground.
    """

    diameter_um: Range
    numerical_aperture: Range
    wavelength_um: Range
    refractive_index: float
    defocus: Range
    photons: Range
    background: Range
    unevenness: Range
    haze: Range
    brightness: Range
    texture: Range
    dome: Range
    debris: Range
    read_noise: Range
    exposure: Range
    any_contrast: bool


def picture(
    phantom: Phantom, imaging: Imaging, spacing: tuple[float, ...], generator: np.random.Generator
) -> Floats:
    """A normalised image of the phantom: about 0 for the ground, about 1 for what is brightest."""
    draw = generator.uniform
    step = np.array(spacing)
    light = _emission(phantom, imaging, step, generator)
    if imaging.any_contrast:
        light = _transmission(phantom, light, step, generator)
    haze = ndimage.gaussian_filter(
        np.flip(light, axis=int(generator.integers(light.ndim))), phantom.diameter * 0.6 / step
    )
    light = light + draw(*imaging.haze) * haze
    voxel_um = draw(*imaging.diameter_um) / phantom.diameter
    aperture, wavelength = draw(*imaging.numerical_aperture), draw(*imaging.wavelength_um)
    along, across = widefield_sigma_um(wavelength, aperture, imaging.refractive_index)
    sharp = np.array([along, across, across])[-light.ndim :] / voxel_um / step
    defocus = draw(*imaging.defocus) * phantom.diameter / step
    blurred = ndimage.gaussian_filter(light, np.minimum(np.hypot(sharp, defocus), 8))
    blurred = blurred + math.exp(draw(*np.log(imaging.background)))
    blurred = np.maximum(blurred * _slope(light.shape, draw(*imaging.unevenness), generator), 0)
    photons = math.exp(draw(*np.log(imaging.photons)))
    image = generator.poisson(blurred * photons).astype(np.float32)
    image += draw(*imaging.read_noise) * generator.standard_normal(image.shape, np.float32)
    low, high = np.quantile(image, [0.01, 0.998])
    scale = math.exp(draw(*imaging.exposure)) / max(float(high - low), 1e-6)
    return ((image - low) * scale).astype(np.float32)


def _emission(
    phantom: Phantom,
    imaging: Imaging,
    step: npt.NDArray[np.float64],
    generator: np.random.Generator,
) -> Floats:
    """Light of the objects: each of its own brightness, textured, flat or domed; and debris."""
    draw = generator.uniform
    count = int(phantom.labels.max(initial=0))
    spread = draw(*imaging.brightness)
    brightness = np.exp(generator.normal(-(spread**2) / 2, spread, count + 1))
    brightness[0] = 0
    thickness = np.minimum(phantom.depth / (phantom.diameter * draw(0.15, 0.5)), 1)
    light = brightness[phantom.labels] * thickness ** draw(*imaging.dome)
    grain = phantom.diameter * draw(0.05, 0.25)
    light = light * np.maximum(
        1 + draw(*imaging.texture) * _noise(light.shape, grain / step, generator), 0
    )
    specks = generator.poisson(draw(*imaging.debris) * (count + 1))
    for _ in range(specks):
        at = tuple(int(generator.integers(side)) for side in light.shape)
        light[at] += draw(0.5, 4)
    return light.astype(np.float32)


def _transmission(
    phantom: Phantom, light: Floats, step: npt.NDArray[np.float64], generator: np.random.Generator
) -> Floats:
    """Objects before a bright ground: darker or brighter, with a rim or a halo, or both."""
    draw = generator.uniform
    solid = (phantom.labels > 0).astype(np.float32)
    rim = np.where(solid > 0, np.exp(-phantom.depth / draw(1, 3)), 0)
    wide = phantom.diameter * draw(0.1, 0.4) / step
    halo = ndimage.gaussian_filter(solid, wide) * (1 - solid)
    signs = generator.choice([-1.0, 1.0], 3)
    body, edge, glow = draw(0, 1), draw(0, 1), draw(0, 0.6)
    strong = max(body, edge)
    body, edge = body / strong, edge / strong
    ground = _noise(light.shape, phantom.diameter * draw(0.05, 0.5) / step, generator)
    change = signs[0] * body * light + signs[1] * edge * rim + signs[2] * glow * halo
    return (3 + change + draw(0, 0.15) * ground).astype(np.float32)


def _noise(
    shape: tuple[int, ...], grain: npt.NDArray[np.float64], generator: np.random.Generator
) -> Floats:
    """Smooth noise of variance 1 whose grains are about so many voxels wide."""
    noise = ndimage.gaussian_filter(generator.standard_normal(shape, np.float32), grain)
    return noise / max(float(noise.std()), 1e-6)


def _slope(shape: tuple[int, ...], strength: float, generator: np.random.Generator) -> Floats:
    """Illumination that falls from one side of the field to the other, 1 in its middle."""
    direction = generator.standard_normal(len(shape))
    direction /= np.linalg.norm(direction)
    result = np.ones(shape, np.float32)
    for axis, part in enumerate(direction):
        line = np.linspace(-0.5, 0.5, shape[axis], dtype=np.float32) * part * strength
        result += line.reshape((-1,) + (1,) * (len(shape) - axis - 1))
    return result
