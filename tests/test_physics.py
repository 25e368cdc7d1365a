"""An image tells its camera's noise, and which objects explain it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline.noise import Camera, estimate_camera, estimate_noise
from pipeline.optics import Optics, blur, psf
from pipeline.physics import (
    Formation,
    deviance,
    explain,
    reduced_chi_square,
    residuals,
)

CAMERA = Camera(gain=2.0, offset=100.0, read_noise=1.6)
OPTICS = Optics("widefield", 0.8, 0.52, 1.0)
SIZE = {2: (0.1, 0.1), 3: (0.6, 0.15, 0.15)}
CENTRES = {
    2: [(20, 18), (22, 60), (55, 30), (70, 75), (85, 25), (48, 88)],
    3: [(5, 12, 12), (6, 14, 36), (9, 36, 14), (8, 36, 36)],
}
SHAPE = {2: (104, 104), 3: (15, 48, 48)}
RADII = {2: (9, 9), 3: (3, 8, 8)}


def scene(axes):
    labels = np.zeros(SHAPE[axes], int)
    place = np.indices(labels.shape)
    for number, centre in enumerate(CENTRES[axes], 1):
        away = [(p - c) / r for p, c, r in zip(place, centre, RADII[axes], strict=True)]
        labels[sum(part**2 for part in away) <= 1] = number
    return labels


def formation(axes):
    window = tuple(4.0 * radius for radius in RADII[axes])
    return Formation(psf(OPTICS, SIZE[axes]), window, CAMERA.noise)


def counts(labels, photons=100.0, background=10.0, camera=CAMERA, seed=0):
    generator = np.random.default_rng(seed)
    brightness = np.r_[0.0, generator.uniform(0.7, 1.3, labels.max())]
    kernel = psf(OPTICS, SIZE[labels.ndim])
    light = blur(torch.as_tensor(brightness[labels]), kernel).numpy()
    electrons = generator.poisson(photons * light + background)
    electrons = electrons + generator.normal(0, camera.read_noise, labels.shape)
    return np.rint(camera.gain * electrons + camera.offset)


def tensor(array):
    return torch.as_tensor(np.asarray(array, np.float32))[None]


def cost(mask, image):
    return float(explain(tensor(mask), tensor(image), formation(mask.ndim)))


def gradient(mask, image):
    unsure = (0.02 + 0.96 * tensor(mask)).requires_grad_()
    explain(unsure, tensor(image), formation(mask.ndim)).backward()
    return unsure.grad[0].numpy()


@pytest.mark.parametrize("gain", [0.5, 2.0, 10.0])
@pytest.mark.parametrize(("photons", "background"), [(20, 2), (100, 10), (1000, 30)])
def test_an_image_tells_the_gain_of_its_camera(gain, photons, background):
    labels = np.tile(scene(2), (3, 3))
    image = counts(labels, photons, background, Camera(gain, 100.0, 1.6))
    camera, noise = estimate_camera(image, offset=100.0)
    # a few thousand independent squares tell a variance to 2 or 3 %, a slope to 5 to 10 %
    assert noise.slope_error < 0.15 * gain
    assert abs(camera.gain - gain) < 3.5 * noise.slope_error
    for electrons in (background, photons + background):
        expected = torch.tensor(gain * electrons + 100.0)
        truth = gain**2 * (electrons + 1.6**2) + 1 / 12
        assert float(noise.variance(expected)) == pytest.approx(truth, rel=0.15)


def test_a_volume_tells_its_camera_too():
    image = counts(np.tile(scene(3), (1, 2, 2)))
    camera, noise = estimate_camera(image, offset=100.0)
    assert abs(camera.gain - 2.0) < 3.5 * noise.slope_error < 0.6


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_without_an_offset_the_noise_is_the_same(offset):
    image = counts(np.tile(scene(2), (3, 3)), camera=Camera(2.0, offset, 1.6))
    camera, noise = estimate_camera(image)
    levels = torch.tensor([20.0, 100.0, 200.0]) + offset
    torch.testing.assert_close(camera.noise.variance(levels), noise.variance(levels))


def test_hot_pixels_do_not_count():
    image = counts(np.tile(scene(2), (3, 3)))
    hot = image.copy()
    hot[::97, ::101] += 5000
    assert estimate_noise(hot).slope == pytest.approx(estimate_noise(image).slope, rel=0.15)


def test_noise_that_cannot_be_measured_is_refused():
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="constant image, 7 everywhere"):
        estimate_camera(np.full((64, 64), 7))
    with pytest.raises(ValueError, match="voxels share the highest value, 200"):
        estimate_camera(np.minimum(counts(scene(2)), 200))
    with pytest.raises(ValueError, match="does not grow with brightness"):
        estimate_camera(generator.poisson(100, (64, 64)))
    with pytest.raises(ValueError, match="does not grow with brightness"):
        estimate_camera(generator.normal(scene(2), 0.1))
    with pytest.raises(ValueError, match="does not grow with brightness"):
        estimate_camera(np.add.outer(np.arange(64), np.arange(64)))
    with pytest.raises(ValueError, match="16 x 16 at least"):
        estimate_camera(np.zeros((8, 64)))


@pytest.mark.parametrize("expected", [3.0, 30.0, 300.0])
def test_deviance_is_one_on_average(expected):
    generator = np.random.default_rng(0)
    seen = generator.poisson(expected, 100_000) + generator.normal(0, 1.6, 100_000)
    model = torch.full((100_000,), expected)
    # few electrons have more deviance: 1 / (6 mean) and what is cut off below 0
    assert float(deviance(torch.as_tensor(seen), model, 1.6).mean()) == pytest.approx(1, abs=0.08)


def test_deviance_is_least_at_the_truth():
    seen = torch.tensor([0.0, 2.0, 50.0, -1.0])
    truth = seen.clone().requires_grad_()
    loss = deviance(seen, truth, 1.6)
    torch.testing.assert_close(loss, torch.zeros(4))
    loss.sum().backward()
    torch.testing.assert_close(truth.grad, torch.zeros(4))
    assert (deviance(seen, seen + 1, 1.6) > 0).all()
    assert (deviance(seen, seen - 0.5, 1.6) > 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("photons", [50.0, 100.0, 1000.0])
@pytest.mark.parametrize("axes", [2, 3])
def test_the_true_mask_explains_best(axes, photons, seed):
    labels = scene(axes)
    image, mask = counts(labels, photons, seed=seed), labels > 0
    best = cost(mask, image)
    across = np.ones((1,) * (axes - 2) + (3, 3), bool)
    imagined = mask | (np.roll(labels, RADII[axes][-1] * 2 + 2, -1) == 1)
    wrong = {
        "dilated": ndimage.binary_dilation(mask, across),
        "eroded": ndimage.binary_erosion(mask, across),
        "shifted": np.roll(mask, 2, -1),
        "missed": mask & (labels != 2),
        "imagined": imagined,
        "nothing": np.zeros_like(mask),
        "everything": np.ones_like(mask),
        "inverted": ~mask,
    }
    costs = {name: cost(other, image) for name, other in wrong.items()}
    assert best < min(costs.values()), costs


@pytest.mark.parametrize("axes", [2, 3])
def test_what_is_missed_is_pushed_up(axes):
    labels = scene(axes)
    push = gradient((labels > 0) & (labels != 2), counts(labels))
    assert (push[labels == 2] < 0).mean() > 0.95


@pytest.mark.parametrize("axes", [2, 3])
def test_what_is_imagined_is_pushed_down(axes):
    labels = scene(axes)
    push = gradient(labels > 0, counts(np.where(labels == 2, 0, labels)))
    assert (push[labels == 2] > 0).mean() > 0.95


@pytest.mark.parametrize("axes", [2, 3])
def test_an_object_that_is_alone_is_missed_and_imagined_no_less(axes):
    one = np.where(scene(axes) == 4, 4, 0)
    push = gradient(np.zeros(one.shape), counts(one))
    assert (push[one == 4] < 0).mean() > 0.95
    two = scene(axes)
    image = counts(np.where(np.isin(two, (1, 2)), two, 0))
    assert (gradient(np.isin(two, (1, 2, 4)), image)[two == 4] > 0).mean() > 0.95


@pytest.mark.parametrize("image", ["even", "dark", "counts", "bright"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_loss_is_finite_everywhere(image, value):
    seen = {"even": 7.0, "dark": 0.0, "bright": 1e6}
    light = counts(scene(2)) if image == "counts" else np.full(SHAPE[2], seen[image])
    probability = torch.full((1, *SHAPE[2]), value, requires_grad=True)
    loss = explain(probability, tensor(light), formation(2))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(probability.grad).all()


def test_brightness_and_background_are_no_prediction():
    labels = scene(2)
    image, known = counts(labels), formation(2)
    scaled = Formation(known.kernel, known.window, known.noise.normalised(100.0, 400.0))
    mask = tensor(labels > 0)
    torch.testing.assert_close(
        explain(mask, tensor((image - 100) / 300), scaled), explain(mask, tensor(image), known)
    )


def test_examples_of_a_batch_do_not_see_each_other():
    labels = scene(2)
    images = [counts(labels, photons, seed=1) for photons in (50.0, 500.0)]
    masks = torch.cat([tensor(labels > 0), tensor(labels > 3)])
    together = residuals(masks, torch.cat([tensor(image) for image in images]), formation(2))
    for number, image in enumerate(images):
        alone = residuals(masks[number : number + 1], tensor(image), formation(2))
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("photons", [20.0, 100.0, 1000.0])
@pytest.mark.parametrize("axes", [2, 3])
def test_chi_square_of_true_labels_is_one(axes, photons):
    labels = scene(axes)
    image = counts(labels, photons)
    known = np.ones(labels.shape, bool)
    assert reduced_chi_square(labels, known, image, formation(axes)) == pytest.approx(1, abs=0.1)


def test_chi_square_tells_another_contrast_texture_and_wrong_labels():
    labels = scene(2)
    image, known = counts(labels), np.ones(labels.shape, bool)
    grain = np.random.default_rng(0).normal(size=labels.shape)
    grain = ndimage.gaussian_filter(grain, 2) * 7
    dark = counts(labels).max() + 100 - image
    assert reduced_chi_square(labels, known, dark, formation(2)) > 2
    textured = image + (labels > 0) * 100 * grain
    assert reduced_chi_square(labels, known, textured, formation(2)) > 2
    assert reduced_chi_square(np.roll(labels, 4, 0), known, image, formation(2)) > 2


def test_chi_square_asks_known_voxels_only():
    labels = scene(2)
    known = np.zeros(labels.shape, bool)
    known[:, :50] = True
    image = counts(labels)
    image[:, 60:] = counts(labels.T)[:, 60:]
    assert reduced_chi_square(labels, known, image, formation(2)) == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="label a larger region"):
        reduced_chi_square(labels, np.zeros_like(known), image, formation(2))
