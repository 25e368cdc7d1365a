"""Laws of depth from one plane: how a point out of focus looks, and how far it is told to be."""

import numpy as np
import pytest

from pipeline import defocus, forward, localisation, optics
from pipeline.forward import Forward
from pipeline.noise import Camera
from pipeline.optics import Optics

OIL = Optics("widefield", 1.4, 0.52, 1.518)
PIXEL_UM = 0.1
SIGMA = OIL.sigma_um("x")[0] / PIXEL_UM
REACH = defocus.WIDER * forward.reach(SIGMA)
PHOTONS, BACKGROUND = 1000.0, 10.0


@pytest.fixture(scope="module")
def seen():
    """A point near the microscope's focus."""
    return defocus.defocus(OIL, PIXEL_UM, REACH)


def test_a_plane_is_that_of_the_volume_s_point_spread_function():
    kernel = optics.psf(OIL, (PIXEL_UM, PIXEL_UM), "scalar").numpy()
    flat = optics.planes(OIL, np.zeros(1), PIXEL_UM, kernel.shape[0] // 2)[0]
    np.testing.assert_allclose(flat / flat.sum(), kernel, atol=1e-6)


def test_all_planes_hold_the_same_light_and_it_sums_to_one():
    far = np.array([0.0, 1.0, 2.0]) * OIL.sigma_um("z")[0]
    sums = optics.planes(OIL, far, 0.2, 100).sum(axis=(1, 2))
    assert sums == pytest.approx(1, abs=0.01)
    assert sums == pytest.approx(sums[0], abs=0.005)


def test_a_point_is_as_bright_at_its_own_voxel_wherever_that_lies(seen):
    light = seen.light((31, 31))
    middle = light(np.array([15.0, 15.0, 0.5]))
    for y, x in ((14, 15), (17, 13)):
        moved = light(np.array([y, x, 0.5]))
        np.testing.assert_allclose(
            moved[y - 5 : y + 6, x - 5 : x + 6], middle[10:21, 10:21], atol=1e-12
        )


def test_between_its_voxels_light_is_that_of_finer_ones(seen):
    half = optics.planes(OIL, np.array([0.5 * seen.unit_um]), PIXEL_UM / 2, 40)[0]
    # a voxel whose middle lies a quarter voxel from the point holds two by two finer ones
    paired = half[40:48:1, 40:48:1].reshape(4, 2, 4, 2).sum(axis=(1, 3))
    light = seen.light((9, 9))(np.array([3.75, 3.75, 0.25]))
    np.testing.assert_allclose(light[4:8, 4:8], paired, atol=2e-4 * half.max())


@pytest.mark.parametrize("distance", [0.8, 1.1, 1.5])
def test_depth_errs_by_the_bound_and_says_so(seen, distance):
    generator = np.random.default_rng(int(10 * distance))
    light = defocus.defocus(OIL, PIXEL_UM, 20).light((41, 41))
    known = Forward(SIGMA, Camera(1.0, 0.0, 0.0), 0.0, 1.0, seen)
    off, stated, planar, bounds = [], [], [], []
    for _ in range(200):
        place = 20 + generator.uniform(-0.5, 0.5, 2)
        expected = BACKGROUND + PHOTONS * light(np.array([*place, distance**2]))
        image = generator.poisson(expected).astype(np.float32)
        best = known.refined(image, (0, 0), (place + generator.normal(0, 0.2, 2))[None])
        if best.taken[0]:
            off.append(best.depths_um[0, 0] - distance * seen.unit_um)
            stated.append(best.depths_um[0, 1])
            planar.append(best.places[0] - place)
            bounds.append(known.bounds(image, (0, 0), best.places, best.depths_um)[0])
    assert len(off) > 190
    window = seen.light((2 * REACH + 1,) * 2)
    at = np.array([REACH + 0.1, REACH - 0.2, distance**2])
    least = localisation.bound(window, at, PHOTONS, BACKGROUND)
    # four standard deviations of 200 and of 400 draws
    assert np.sqrt(np.square(off).mean()) == pytest.approx(
        least[2] / (2 * distance) * seen.unit_um, rel=0.2
    )
    assert np.mean(stated) == pytest.approx(np.sqrt(np.square(off).mean()), rel=0.2)
    assert np.sqrt(np.square(planar).mean()) == pytest.approx(np.mean(bounds), rel=0.15)


def test_in_focus_the_deviation_of_a_distance_is_finite():
    assert defocus.depth(0.0, 0.04) == (0.0, pytest.approx(0.2))
    assert defocus.depth(-0.1, 0.04)[0] == 0.0
    far, deviation = defocus.depth(4.0, 0.04)
    assert (far, deviation) == (2.0, pytest.approx(0.01))


def test_where_light_out_of_focus_fades_no_depth_is_told():
    assert defocus.defocus(Optics("confocal", 1.4, 0.52, 1.518), PIXEL_UM, 8) is None
