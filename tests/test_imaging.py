"""Images of phantoms follow the optics and the light that they are drawn with."""

import math

import numpy as np
import pytest
from scipy import ndimage

from pipeline.imaging import Imaging, picture
from pipeline.phantoms import Phantom, Specimen, phantom

SPACING = {2: (1.0, 1.0), 3: (2.0, 1.0, 1.0)}


def imaging(**given):
    """Sharp, even and bright fluorescence, but for what is `given`: a value or a range."""
    values = {
        "diameter_um": 10.0,
        "numerical_aperture": 1.2,
        "wavelength_um": 0.5,
        "refractive_index": 1.33,
        "defocus": 0.0,
        "photons": 1000.0,
        "background": 0.1,
        "unevenness": 0.0,
        "haze": 0.0,
        "brightness": 0.0,
        "texture": 0.0,
        "dome": 0.0,
        "debris": 0.0,
        "read_noise": 0.0,
        "exposure": 0.0,
        "any_contrast": False,
    } | given
    alone = {"refractive_index", "any_contrast"}
    return Imaging(
        **{
            name: value if name in alone or isinstance(value, tuple) else (value, value)
            for name, value in values.items()
        }
    )


EVERYTHING = {
    "diameter_um": (6.0, 20.0),
    "numerical_aperture": (0.4, 1.3),
    "defocus": (0.0, 0.12),
    "photons": (10.0, 3000.0),
    "background": (0.005, 1.0),
    "unevenness": (0.0, 0.6),
    "haze": (0.0, 0.6),
    "brightness": (0.0, 1.0),
    "texture": (0.0, 0.4),
    "dome": (0.0, 0.8),
    "debris": (0.0, 0.3),
    "read_noise": (0.0, 3.0),
}


@pytest.fixture(params=[2, 3])
def scene(request):
    sides = (100, 100) if request.param == 2 else (16, 48, 48)
    specimen = Specimen(("round",), (12, 12), (0, 0), (0.2, 0.2), (0, 0), (0, 0), 0.0)
    return phantom(specimen, sides, SPACING[request.param], np.random.default_rng(0))


def seen(scene, seed=0, **given):
    generator = np.random.default_rng(seed)
    return picture(scene, imaging(**given), SPACING[scene.labels.ndim], generator)


def contrast(scene, image):
    """How much brighter objects are than what lies well beside them, in units of its noise."""
    inside = scene.depth > 2
    outside = ~ndimage.binary_dilation(scene.labels > 0, iterations=4)
    assert outside.any()
    return float(image[inside].mean() - image[outside].mean()) / float(image[outside].std())


def test_an_image_is_normalised(scene):
    image = seen(scene, **EVERYTHING)
    assert np.quantile(image, [0.01, 0.998]) == pytest.approx([0, 1], abs=1e-5)
    assert image.dtype == np.float32
    assert image.shape == scene.labels.shape


@pytest.mark.parametrize("exposure", [-2.0, 0.3])
def test_exposure_is_the_logarithm_of_what_the_brightest_become(scene, exposure):
    assert np.quantile(seen(scene, exposure=exposure), 0.998) == pytest.approx(math.exp(exposure))


@pytest.mark.parametrize("any_contrast", [False, True])
def test_equal_generators_make_equal_images(scene, any_contrast):
    given = {**EVERYTHING, "any_contrast": any_contrast}
    first, again, other = (seen(scene, seed, **given) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_phantom_stays_as_it_was(scene):
    labels, depth = scene.labels.copy(), scene.depth.copy()
    for any_contrast in (False, True):
        seen(scene, **EVERYTHING, any_contrast=any_contrast)
    assert (scene.labels == labels).all()
    assert (scene.depth == depth).all()


def test_more_photons_give_less_noise(scene):
    """Contrast over noise goes with the square root of the photons."""
    found = [contrast(scene, seen(scene, photons=photons)) for photons in (10.0, 90.0, 810.0)]
    assert found[1] / found[0] == pytest.approx(3, rel=0.15)
    assert found[2] / found[1] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("worse", [{"read_noise": 30.0}, {"background": 3.0}])
def test_background_and_read_noise_lower_the_contrast(scene, worse):
    assert contrast(scene, seen(scene, **worse)) < 0.8 * contrast(scene, seen(scene))


def point(axes):
    """A single bright voxel in a field of 10 voxels per typical diameter."""
    labels = np.zeros((49,) * axes, np.int32)
    labels[(24,) * axes] = 1
    return Phantom(labels, labels.astype(np.float32), 10.0)


def widths(image):
    """Standard deviation of a point's image along every axis, in voxels."""
    place = np.indices(image.shape) - 24
    return [math.sqrt((image * at**2).sum() / image.sum()) for at in place]


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(("aperture", "wavelength"), [(0.4, 0.5), (0.5, 0.5), (0.5, 0.7)])
def test_a_point_is_as_wide_as_diffraction_makes_it(axes, aperture, wavelength):
    image = seen(
        point(axes),
        diameter_um=1.5,
        numerical_aperture=aperture,
        wavelength_um=wavelength,
        refractive_index=1.0,
        photons=1e9,
        background=1e-9,
    )
    voxel_um = 0.15
    *along, y, x = widths(image)
    assert [y, x] == pytest.approx([0.21 * wavelength / aperture / voxel_um] * 2, rel=0.03)
    if along:
        expected = 0.66 * wavelength / aperture**2 / voxel_um / SPACING[3][0]
        assert along == pytest.approx([expected], rel=0.03)


def test_no_blur_is_wider_than_8_voxels():
    given = {"photons": 1e9, "background": 1e-9}
    assert widths(seen(point(2), defocus=5.0, **given)) == pytest.approx([8, 8], rel=0.15)


def test_defocus_blurs_further():
    given = {"photons": 1e9, "background": 1e-9}
    assert widths(seen(point(2), defocus=0.3, **given)) == pytest.approx([3, 3], rel=0.03)


def test_haze_lights_what_lies_between_objects(scene):
    clear, hazy = (seen(scene, photons=1e6, haze=haze) for haze in (0.0, 2.0))
    beside = ndimage.binary_dilation(scene.labels > 0, iterations=6) & (scene.labels == 0)
    assert hazy[beside].std() > clear[beside].std()
    assert hazy[beside].mean() > 1.5 * clear[beside].mean()


def test_domed_objects_are_bright_where_they_are_thick(scene):
    flat, domed = (seen(scene, photons=1e6, dome=dome) for dome in (0.0, 1.0))
    middle, rim = scene.depth > 4, (scene.depth > 0) & (scene.depth < 2)
    assert domed[middle].mean() / domed[rim].mean() > 1.5 * flat[middle].mean() / flat[rim].mean()


def test_uneven_light_falls_from_one_side_to_the_other(scene):
    image = seen(scene, unevenness=1.0, background=5.0, photons=1e4)
    ground = np.where(ndimage.binary_dilation(scene.labels > 0, iterations=3), np.nan, image)
    axes = range(image.ndim)
    ends = [
        [np.nanmean(part) for part in np.array_split(ground, 4, axis=axis)[::3]] for axis in axes
    ]
    even = np.nanstd(seen(scene, background=5.0, photons=1e4)[~np.isnan(ground)])
    assert max(abs(first - last) for first, last in ends) > 2 * even


def test_fluorescence_is_bright_and_other_contrast_both_bright_and_dark(scene):
    sharp = {**EVERYTHING, "photons": 3000.0, "haze": 0.0, "unevenness": 0.0, "brightness": 0.3}
    fluorescent, other = (
        [
            contrast(scene, seen(scene, seed, any_contrast=any_contrast, **sharp))
            for seed in range(16)
        ]
        for any_contrast in (False, True)
    )
    assert min(fluorescent) > 0
    assert min(other) < -0.5
    assert max(other) > 0.5


@pytest.mark.parametrize("any_contrast", [False, True])
@pytest.mark.parametrize("axes", [2, 3])
def test_an_empty_field_gives_a_finite_image(axes, any_contrast):
    empty = Phantom(np.zeros((20,) * axes, np.int32), np.zeros((20,) * axes, np.float32), 12.0)
    for seed in range(10):
        image = seen(empty, seed, **EVERYTHING, any_contrast=any_contrast)
        assert np.isfinite(image).all()
        assert abs(image).max() < 10
