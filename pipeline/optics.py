"""How a fluorescence image comes about: optics that blur, and a camera that adds noise.

A point-spread function here is what one voxel's worth of light becomes: it is integrated over
voxels, not sampled at their centres, and sums to 1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from scipy.interpolate import CubicSpline
from torch import Tensor

Floats = npt.NDArray[np.float64]
Model = Literal["gaussian", "scalar"]

FLUORESCENCE = ("widefield", "confocal", "lightsheet")
"""Modalities whose image is the object convolved with a point-spread function."""

FWHM = math.sqrt(8 * math.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""

GAUSSIAN_REACH, DIFFRACTION_REACH = 4.0, (6.0, 12.0)
"""Where kernels end, in standard deviations: Gaussian; scalar along the axis and across it."""


def widefield_sigma_um(
    wavelength_um: float, numerical_aperture: float, refractive_index: float
) -> tuple[float, float]:
    """Standard deviations of the Gaussian near a wide-field point-spread function: axial, lateral.

    0.66 wavelength n / NA^2 and 0.21 wavelength / NA, as is quoted from B. Zhang, J. Zerubia,
    J.-C. Olivo-Marin, Applied Optics 46, 1819 (2007). The second is the least-squares fit to the
    Airy disc; that to the axis of scalar diffraction is 0.73.
    """
    axial = 0.66 * wavelength_um * refractive_index / numerical_aperture**2
    return axial, 0.21 * wavelength_um / numerical_aperture


@dataclass(frozen=True, slots=True)
class Optics:
    """A microscope in focus, without aberrations. Lengths are wavelengths in vacuum.

    Attributes
    ----------
    modality: "widefield", "confocal" or "lightsheet"; any other name has no forward model.
    numerical_aperture: of the detection objective.
    wavelength_um: of the emission.
    refractive_index: of the immersion medium, and of the specimen.
    excitation_um: wavelength of a confocal's laser; the emission's where it is None.
    sheet_um: full width at half maximum of a light sheet along the detection axis.
    """

    modality: str
    numerical_aperture: float
    wavelength_um: float
    refractive_index: float
    excitation_um: float | None = None
    sheet_um: float | None = None

    def __post_init__(self) -> None:
        if not self.has_forward_model:
            return
        if not 0 < self.numerical_aperture < self.refractive_index:
            raise ValueError(
                f"numerical_aperture {self.numerical_aperture} must lie between 0 and the "
                f"refractive index of the immersion medium, {self.refractive_index}."
            )
        lengths = {"wavelength_um": self.wavelength_um, "excitation_um": self.excitation_um}
        lengths["sheet_um"] = self.sheet_um
        for name, length in lengths.items():
            if length is not None and not length > 0:
                raise ValueError(f"{name} {length} must be a positive length in um.")
        if self.modality == "lightsheet" and self.sheet_um is None:
            raise ValueError("lightsheet optics need sheet_um, the thickness of the sheet in um.")

    @property
    def has_forward_model(self) -> bool:
        """Whether the image is the object convolved with a point-spread function."""
        return self.modality in FLUORESCENCE

    def sigma_um(self, axes: str) -> tuple[float, ...]:
        """Standard deviations along `axes` of the Gaussian nearest to the point-spread function.

        Wide field: see `widefield_sigma_um`. A confocal with a small pinhole sees the product of
        excitation and emission, and a light sheet that of sheet and emission: inverse variances of
        Gaussians add in a product.
        Raises ValueError without a forward model.
        """
        if not self.has_forward_model:
            raise ValueError(
                f"{self.modality!r} has no forward model: a point-spread function is known for "
                f"{', '.join(FLUORESCENCE)}."
            )
        return tuple(self._sigma_um(axis) for axis in axes)

    def _sigma_um(self, axis: str) -> float:
        wavelengths = [self.wavelength_um]
        if self.modality == "confocal":
            wavelengths.append(self.excitation_um or self.wavelength_um)
        widths = [
            widefield_sigma_um(length, self.numerical_aperture, self.refractive_index)[axis != "z"]
            for length in wavelengths
        ]
        if self.modality == "lightsheet" and self.sheet_um is not None and axis == "z":
            widths.append(self.sheet_um / FWHM)
        return 1 / math.sqrt(sum(width**-2 for width in widths))


def psf(optics: Optics, voxel_size_um: tuple[float, ...], model: Model = "gaussian") -> Tensor:
    """The point-spread function over `yx`, in focus, or `zyx`, as many axes as there are sizes.

    "gaussian" is the nearest Gaussian, integrated exactly; "scalar" is scalar diffraction beyond
    the paraxial limit, with its rings and its axial cone, integrated by quadrature. Sides are odd,
    the sum is 1, the numbers are float64. Light of a wide-field microscope that is far out of
    focus never ends: kernels end where 4 standard deviations of the Gaussian, or 6 along the axis
    and 12 across of the diffraction pattern, are reached. Raises ValueError where there is no
    forward model or the sizes are not two or three positive lengths.
    """
    if len(voxel_size_um) not in (2, 3) or not all(size > 0 for size in voxel_size_um):
        raise ValueError(f"voxel_size_um {voxel_size_um} must be two or three positive lengths.")
    sigma = optics.sigma_um("zyx"[-len(voxel_size_um) :])
    if model == "gaussian":
        kernel = np.ones(())
        for size, width in zip(voxel_size_um, sigma, strict=True):
            kernel = np.multiply.outer(kernel, _gaussian(width / size))
    else:
        kernel = _scalar(optics, voxel_size_um, sigma)
    return torch.as_tensor(kernel / kernel.sum())


def _gaussian(sigma: float) -> Floats:
    """A Gaussian of standard deviation `sigma` voxels, integrated over voxels."""
    radius = max(1, math.ceil(GAUSSIAN_REACH * sigma))
    edges = np.arange(-radius, radius + 2) - 0.5
    return np.diff(special.ndtr(edges / sigma))


def _scalar(optics: Optics, voxel_size_um: tuple[float, ...], sigma: tuple[float, ...]) -> Floats:
    """Scalar diffraction integrated over voxels: first along z, then in the plane."""
    detail = 0.1 * optics.wavelength_um / optics.numerical_aperture
    along, across = DIFFRACTION_REACH
    reach = along * sigma[0] if len(sigma) == 3 else 0.0
    slope = optics.numerical_aperture / optics.refractive_index
    cone = reach * math.tan(math.asin(slope)) if optics.modality != "confocal" else 0.0
    sides = [_nodes(size, across * sigma[-1] + cone, detail) for size in voxel_size_um[-2:]]
    depth = _nodes(voxel_size_um[0], reach, 4 * detail) if reach else _in_focus()
    corner = math.hypot(*(float(places.max()) for places, _ in sides))
    radius = np.linspace(0, corner, 4 + math.ceil(5 * corner / detail))
    light = _light(optics, depth[0].ravel(), radius).reshape(*depth[0].shape, -1)
    planes = np.einsum("zkr,k->zr", light, depth[1])
    (y, wy), (x, wx) = sides
    distance = np.hypot(y[:, None, :, None], x[None, :, None, :])
    kernel = [np.einsum("yxkl,k,l->yx", CubicSpline(radius, p)(distance), wy, wx) for p in planes]
    return np.stack(kernel) if len(sigma) == 3 else kernel[0]


def planes(optics: Optics, depths_um: Floats, voxel_um: float, radius: int) -> Floats:
    """Light of a point in planes at distances from the focus, `(depths, y, x)`, all the same light.

    By scalar diffraction, integrated over square voxels, of which there are `radius` on all sides
    of the point's. What is beyond them is not among the light that sums to 1: of the amplitudes
    that leave the pupil, by Parseval's theorem, 2 pi / (k NA)^2 integral_0^1 rho drho arrive.
    """
    detail = 0.1 * optics.wavelength_um / optics.numerical_aperture
    places, weight = _nodes(voxel_um, (radius - 0.5) * voxel_um, detail)
    corner = math.sqrt(2) * float(places.max())
    along = np.linspace(0, corner, 4 + math.ceil(5 * corner / detail))
    light = _light(optics, depths_um, along)
    total = math.pi * (optics.wavelength_um / (2 * math.pi * optics.numerical_aperture)) ** 2
    distance = np.hypot(places[:, None, :, None], places[None, :, None, :])
    seen = [
        np.einsum("yxkl,k,l->yx", CubicSpline(along, plane)(distance), weight, weight)
        for plane in light
    ]
    return np.stack(seen) * voxel_um**2 / total


def _nodes(size: float, reach: float, detail: float) -> tuple[Floats, Floats]:
    """Places `(voxels, nodes)` and weights `(nodes)` of Gauss-Legendre quadrature in each voxel."""
    at, weight = np.polynomial.legendre.leggauss(2 + math.ceil(size / detail))
    radius = max(1, math.ceil(reach / size))
    return size * (np.arange(-radius, radius + 1)[:, None] + at / 2), weight / 2


def _in_focus() -> tuple[Floats, Floats]:
    return np.zeros((1, 1)), np.ones(1)


def _light(optics: Optics, depth_um: Floats, radius_um: Floats) -> Floats:
    """Detected light `(depth, radius)` of a point, at some scale."""
    emission = _intensity(optics, optics.wavelength_um, depth_um, radius_um)
    if optics.modality == "confocal":
        laser = optics.excitation_um or optics.wavelength_um
        return emission * _intensity(optics, laser, depth_um, radius_um)
    if optics.modality == "lightsheet" and optics.sheet_um is not None:
        return emission * np.exp(-((depth_um / optics.sheet_um * FWHM) ** 2) / 2)[:, None]
    return emission


def _intensity(optics: Optics, wavelength_um: float, depth_um: Floats, radius_um: Floats) -> Floats:
    """Intensity `(depth, radius)` near the focus of a point.

    |integral_0^1 J0(k NA rho r) exp(i k z sqrt(n^2 - NA^2 rho^2)) rho drho|^2, the model of
    S. F. Gibson and F. Lanni, J. Opt. Soc. Am. A 8, 1601 (1991) where nothing is mismatched, and
    of Born and Wolf where the aperture is small. By Gauss-Legendre quadrature, with nodes enough
    for the fastest oscillation.
    """
    aperture, index = optics.numerical_aperture, optics.refractive_index
    wave = 2 * math.pi / wavelength_um
    tilt = index - math.sqrt(index**2 - aperture**2)
    oscillation = wave * (aperture * radius_um.max() + tilt * np.abs(depth_um).max())
    at, weight = np.polynomial.legendre.leggauss(48 + math.ceil(oscillation))
    rho, weight = (at + 1) / 2, weight / 2
    delay = wave * np.outer(depth_um, np.sqrt(index**2 - (aperture * rho) ** 2))
    amplitude = (np.exp(1j * delay) * (rho * weight)) @ special.j0(
        wave * aperture * np.outer(rho, radius_um)
    )
    intensity: Floats = np.abs(amplitude) ** 2
    return intensity


def blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolve the last axes of `image` with `kernel`, of odd sides, and keep the shape.

    Axes before those of the kernel are a batch. Beyond its faces the image is mirrored, the
    outermost voxel included: c b a | a b c | c b a. A kernel that is a product of lines is applied
    axis by axis, another by Fourier transform. Differentiable in `image`.
    """
    lines = _lines(kernel)
    for axis, side in zip(range(-kernel.ndim, 0), kernel.shape, strict=True):
        if lines is None:
            seen = _mirror(image.shape[axis], side // 2).to(image.device)
            image = image.index_select(axis, seen)
        else:
            image = _along(image, axis, lines[axis])
    return _by_fourier(image, kernel.to(image)) if lines is None else image


def _lines(kernel: Tensor) -> list[Tensor] | None:
    """Lines whose outer product is `kernel`, or None where there are none."""
    total = kernel.sum()
    lines = [kernel.movedim(axis, 0).flatten(1).sum(dim=1) for axis in range(kernel.ndim)]
    lines[1:] = [line / total for line in lines[1:]]
    product = lines[0]
    for line in lines[1:]:
        product = product[..., None] * line
    return lines if torch.allclose(product, kernel, atol=1e-6 * float(kernel.max())) else None


def _mirror(side: int, radius: int) -> Tensor:
    """Which voxels a line of `side`, mirrored beyond its faces, shows from `radius` before it."""
    at = torch.arange(-radius, side + radius) % (2 * side)
    return torch.where(at < side, at, 2 * side - 1 - at)


def _along(image: Tensor, axis: int, line: Tensor) -> Tensor:
    """Convolution along one axis, as a product with the matrix that has the mirror in it."""
    side = image.shape[axis]
    seen = _mirror(side, len(line) // 2).unfold(0, len(line), 1).to(line.device)
    matrix = line.new_zeros(side, side).scatter_add(1, seen, line.flip(0).expand_as(seen))
    return (image.movedim(axis, -1) @ matrix.to(image).T).movedim(-1, axis)


def _by_fourier(image: Tensor, kernel: Tensor) -> Tensor:
    """Convolution along the last axes, without the voxels whose neighbours are missing."""
    axes = tuple(range(-kernel.ndim, 0))
    sides = image.shape[-kernel.ndim :]
    spectrum = torch.fft.rfftn(image, dim=axes) * torch.fft.rfftn(kernel, s=sides, dim=axes)
    whole: Tensor = torch.fft.irfftn(spectrum, s=sides, dim=axes)
    for axis, side in zip(axes, kernel.shape, strict=True):
        whole = whole.narrow(axis, side - 1, whole.shape[axis] - side + 1)
    return whole
