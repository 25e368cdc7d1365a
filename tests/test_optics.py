"""Optics blur as optics do, and cameras add the noise that cameras add."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, optimize, special

from pipeline.noise import Camera
from pipeline.optics import Optics, blur, psf

WIDEFIELD = Optics("widefield", 0.8, 0.52, 1.0)
EVERY = [
    WIDEFIELD,
    Optics("confocal", 1.4, 0.52, 1.515, excitation_um=0.488),
    Optics("lightsheet", 0.5, 0.52, 1.33, sheet_um=3.0),
]


@pytest.mark.parametrize("optics", EVERY, ids=lambda optics: optics.modality)
@pytest.mark.parametrize("size", [(0.1, 0.1), (0.3, 0.15, 0.15), (1.0, 0.65, 0.65)])
@pytest.mark.parametrize("model", ["gaussian", "scalar"])
def test_light_is_neither_lost_nor_made_nor_moved(optics, size, model):
    kernel = psf(optics, size, model)
    assert kernel.ndim == len(size)
    assert all(side % 2 for side in kernel.shape)
    assert float(kernel.min()) >= 0
    assert float(kernel.sum()) == pytest.approx(1)
    torch.testing.assert_close(kernel, kernel.flip(tuple(range(kernel.ndim))))


def test_in_focus_diffraction_is_the_airy_pattern():
    size = 0.01
    kernel = psf(WIDEFIELD, (size, size), "scalar")
    line = (kernel / kernel.max())[len(kernel) // 2, len(kernel) // 2 :].numpy()
    at = 2 * math.pi * 0.8 / 0.52 * size * np.arange(1, len(line))
    np.testing.assert_allclose(line[1:], (2 * special.j1(at) / at) ** 2, atol=2e-3)
    zero = int(np.argmax(np.diff(line) > 0)) * size
    assert zero == pytest.approx(0.61 * 0.52 / 0.8, abs=size)


def test_a_coarse_voxel_holds_the_light_of_the_fine_voxels_in_it():
    fine, coarse = psf(WIDEFIELD, (0.05, 0.05), "scalar"), psf(WIDEFIELD, (0.15, 0.15), "scalar")
    middle, reach = len(fine) // 2, 3 * 5 + 1
    part = fine[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    summed = part.reshape(11, 3, 11, 3).sum(dim=(1, 3))
    start = len(coarse) // 2 - 5
    found = coarse[start : start + 11, start : start + 11]
    torch.testing.assert_close(found / found.sum(), summed / summed.sum(), atol=1e-5, rtol=1e-4)


def test_planes_near_the_focus_of_a_wide_field_hold_the_same_light():
    kernel = psf(WIDEFIELD, (0.3, 0.1, 0.1), "scalar")
    light = kernel.sum(dim=(1, 2))
    middle = len(light) // 2
    assert float(light[middle - 2 : middle + 3].std() / light[middle]) < 0.01


def nearest(line, size):
    """Standard deviation of the Gaussian nearest to a line of a kernel, of the same height."""
    place = size * (np.arange(len(line)) - len(line) // 2)
    line = line.numpy() / float(line.max())
    return optimize.least_squares(lambda s: np.exp(-(place**2) / s**2 / 2) - line, 0.5).x[0]


def test_the_gaussian_is_near_to_diffraction():
    optics = Optics("widefield", 0.5, 0.52, 1.0)
    along, across, _ = optics.sigma_um("zyx")
    plane = psf(optics, (0.02, 0.02), "scalar")
    assert nearest(plane[len(plane) // 2], 0.02) == pytest.approx(across, rel=0.03)
    volume = psf(optics, (0.2, 0.1, 0.1), "scalar")
    line = volume[:, volume.shape[1] // 2, volume.shape[2] // 2]
    assert nearest(line, 0.2) == pytest.approx(along, rel=0.12)


def test_a_gaussian_is_integrated_over_voxels():
    size = 0.1
    kernel = psf(WIDEFIELD, (size, size))
    place = size * (torch.arange(len(kernel)) - len(kernel) // 2)
    variance = float((kernel.sum(dim=0) * place**2).sum())
    across = WIDEFIELD.sigma_um("y")[0]
    assert variance == pytest.approx(across**2 + size**2 / 12, rel=2e-3)


@pytest.mark.parametrize("axes", ["yx", "zyx"])
def test_a_confocal_of_one_wavelength_is_narrower_by_the_root_of_two(axes):
    confocal = Optics("confocal", 0.8, 0.52, 1.0)
    wide = np.array(WIDEFIELD.sigma_um(axes))
    np.testing.assert_allclose(confocal.sigma_um(axes), wide / math.sqrt(2))


def test_confocal_diffraction_is_excitation_times_emission():
    size = (0.02, 0.02)
    both = psf(Optics("confocal", 0.8, 0.52, 1.0, excitation_um=0.48), size, "scalar")
    parts = [psf(Optics("widefield", 0.8, length, 1.0), size, "scalar") for length in (0.52, 0.48)]
    radius = len(both) // 2
    product = math.prod(
        part[len(part) // 2, len(part) // 2 - radius : len(part) // 2 + radius + 1]
        for part in parts
    )
    line = both[radius]
    torch.testing.assert_close(line / line.max(), product / product.max(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("model", ["gaussian", "scalar"])
def test_a_sheet_that_is_thick_is_no_sheet(model):
    thick = Optics("lightsheet", 0.8, 0.52, 1.0, sheet_um=1e4)
    size = (0.5, 0.2, 0.2)
    torch.testing.assert_close(psf(thick, size, model), psf(WIDEFIELD, size, model))


@pytest.mark.parametrize("modality", ["phase", "brightfield", "stained", "electron", "unknown"])
def test_what_is_no_fluorescence_has_no_forward_model(modality):
    optics = Optics(modality, 0.8, 0.52, 1.0)
    assert not optics.has_forward_model
    with pytest.raises(ValueError, match=f"'{modality}' has no forward model"):
        psf(optics, (0.1, 0.1))


def test_impossible_optics_are_refused():
    with pytest.raises(ValueError, match="between 0 and the refractive index"):
        Optics("widefield", 1.4, 0.52, 1.33)
    with pytest.raises(ValueError, match="wavelength_um -1 must be a positive length"):
        Optics("widefield", 0.8, -1, 1.0)
    with pytest.raises(ValueError, match="need sheet_um"):
        Optics("lightsheet", 0.8, 0.52, 1.0)
    with pytest.raises(ValueError, match="two or three positive lengths"):
        psf(WIDEFIELD, (0.1,))


@pytest.mark.parametrize(
    ("aperture", "index", "wavelength"), [(0.4, 1.0, 0.6), (0.8, 1.0, 0.52), (1.2, 1.33, 0.5)]
)
def test_an_independent_implementation_finds_the_same_diffraction(aperture, index, wavelength):
    peer = pytest.importorskip("microscPSF.microscPSF")
    optics = Optics("widefield", aperture, wavelength, index)
    along, across = (sigma / 3 for sigma in optics.sigma_um("zx"))
    kernel = psf(optics, (along, across, across), "scalar").numpy()
    inside = (np.arange(9) - 4) / 9
    depth = along * (np.arange(-8, 9)[:, None] + inside).ravel()
    radius = across * np.linspace(0, 22, 2001)
    media = dict.fromkeys(("ng", "ng0", "ni", "ni0", "ns"), index)
    parameters = {**peer.m_params, **media, "NA": aperture}
    light = peer.gLZRFocalScan(parameters, radius, depth, wvl=wavelength).reshape(17, 9, -1)
    column = np.arange(20)[:, None, None] + inside[:, None]
    distance = across * np.hypot(column, inside)
    expected = [np.interp(distance, radius, p).mean(axis=(1, 2)) for p in light.mean(axis=1)]
    z, y, x = np.array(kernel.shape) // 2
    found = kernel[z - 8 : z + 9, y, x : x + 20]
    np.testing.assert_allclose(found / found.max(), expected / np.max(expected), atol=2e-3)


KERNELS = {
    "lines": psf(WIDEFIELD, (0.1, 0.1)),
    "rings": psf(WIDEFIELD, (0.1, 0.1), "scalar"),
    "lopsided": torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.3, 0.4], [0.0, 0.0, 0.0]]),
    "lopsided lines": torch.tensor([0.1, 0.7, 0.2])[:, None] * torch.tensor([0.5, 0.1, 0.4]),
    "volume": psf(EVERY[1], (0.3, 0.15, 0.15), "scalar"),
    "volume lines": psf(WIDEFIELD, (1.0, 0.2, 0.2)),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_blur_is_a_convolution_mirrored_at_faces(kernel):
    image = np.random.default_rng(0).normal(size=(2, 9, 12, 15)[-kernel.ndim - 1 :])
    whole = [ndimage.convolve(part, kernel.numpy().astype(float), mode="reflect") for part in image]
    np.testing.assert_allclose(blur(torch.as_tensor(image), kernel), whole, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_blur_leaves_an_even_image_as_it_is(kernel):
    even = torch.full((2, 1, 9, 10, 11)[-kernel.ndim - 2 :], 3.0)
    torch.testing.assert_close(blur(even, kernel), even)


@pytest.mark.parametrize("name", ["lines", "rings"])
def test_blur_has_the_gradient_of_a_convolution(name):
    image = torch.rand(2, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda seen: blur(seen, KERNELS[name]), image)


def test_noise_of_a_camera_is_that_of_its_counts():
    camera = Camera(2.0, 100.0, 1.6)
    generator = np.random.default_rng(0)
    for electrons in (5.0, 50.0):
        seen = generator.poisson(electrons, 200_000) + generator.normal(0, 1.6, 200_000)
        counts = np.rint(2.0 * seen + 100)
        expected = camera.noise.variance(torch.tensor(2.0 * electrons + 100))
        assert float(expected) == pytest.approx(counts.var(), rel=0.03)


def test_noise_goes_with_the_image_that_is_normalised():
    noise = Camera(2.0, 100.0, 1.6).noise
    counts = torch.linspace(50, 1000, 20)
    normal = noise.normalised(80, 480).variance((counts - 80) / 400)
    torch.testing.assert_close(normal, noise.variance(counts) / 400**2)


def test_variance_is_positive_everywhere():
    noise = Camera(2.0, 100.0, 0.0).noise
    assert float(noise.variance(torch.tensor(-1e6))) > 0
