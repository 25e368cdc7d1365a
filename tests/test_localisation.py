"""The bound on errors, against published numbers and against the estimate that reaches it."""

import numpy as np
import pytest

from pipeline import localisation

MIDDLE = np.array([7.0, 7.0])


@pytest.mark.parametrize(
    ("sigma", "photons", "background", "read_noise", "expected"),
    [
        (1.0, 1000, 10, 0.0, 0.0409),
        (1.3, 100, 1, 0.0, 0.1779),
        (1.3, 1000, 10, 0.0, 0.0563),
        (1.3, 5000, 10, 0.0, 0.0210),
        (2.0, 1000, 50, 0.0, 0.1665),
        (1.3, 100, 1, 1.6, 0.2348),
    ],
)
def test_the_bound_of_a_spot_is_that_of_an_independent_reckoning(
    sigma, photons, background, read_noise, expected
):
    light = localisation.spot((15, 15), sigma)
    bound = localisation.bound(light, MIDDLE, photons, background, read_noise)
    assert bound[0] == pytest.approx(expected, rel=0.01)


def test_maximum_likelihood_reaches_the_bound_and_states_it():
    generator = np.random.default_rng(0)
    light = localisation.spot((15, 15), 1.3)
    errors, stated = [], []
    for _ in range(400):
        place = MIDDLE + generator.uniform(-0.5, 0.5, 2)
        image = generator.poisson(1000 * light(place) + 10)
        estimate = localisation.refined(image, light, MIDDLE)
        errors.append(estimate.place - place)
        stated.append(estimate.deviations[:2])
    ratio = np.sqrt(np.square(errors).mean()) / localisation.bound(light, MIDDLE, 1000, 10)[0]
    assert 0.92 < ratio < 1.08
    assert 0.63 < np.mean(np.abs(errors) < stated) < 0.73


def test_where_there_is_no_light_nothing_is_found():
    light = localisation.spot((15, 15), 1.3)
    image = np.random.default_rng(1).poisson(10, (15, 15)).astype(float)
    image[0, 0] = 500
    estimate = localisation.refined(image, light, MIDDLE)
    assert estimate is None or estimate.brightness < 6 * estimate.deviations[2]
