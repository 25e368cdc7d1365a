"""Laws of how bright objects are, and of how bright a detection must be to be one."""

import numpy as np
import pytest

from pipeline import crops, decisions, localisation
from pipeline.crops import Crop, Range
from pipeline.noise import Noise
from pipeline.templates import Template

SHOT_NOISE = Noise(1.0, 0.0, 1e-3)


def crop():
    """A spot of many photons, beside the middle of its crop."""
    light = localisation.spot((21, 21), 1.3)
    image = 100 + 1e6 * light(np.array([10.3, 9.6]))
    return Crop.of(np.random.default_rng(0).poisson(image).astype(float), SHOT_NOISE, "it")


@pytest.fixture(scope="module")
def template():
    return Template.of([crop()], np.array([0.3, -0.4]))


@pytest.mark.parametrize("brightness", [0.2, 1.0, 3.0])
def test_a_copy_is_as_bright_as_it_was_made_wherever_it_lies(template, brightness):
    light = localisation.spot((60, 60), 1.3)
    places = np.array([[14.2, 13.9], [15.5, 41.5], [43.7, 30.0]])
    image = 50 + 1e6 * brightness * sum(light(place) for place in places)
    found = template.brightness(image.astype(np.float32), (0, 0), places)
    assert found == pytest.approx([brightness] * 3, rel=0.03)


def test_what_is_dark_where_the_crop_is_bright_has_negative_brightness(template):
    image = 2e5 - 1e6 * localisation.spot((40, 40), 1.3)(np.array([20.0, 20.0]))
    assert template.brightness(image, (0, 0), np.array([[20.0, 20.0]]))[0] < -0.9


def test_a_piece_of_an_image_tells_the_brightness_that_the_whole_tells_to_the_last_bit(template):
    generator = np.random.default_rng(3)
    image = generator.normal(size=(90, 90)).astype(np.float32)
    places = generator.uniform(30, 60, (40, 2))
    whole = template.brightness(image, (0, 0), places)
    piece = template.brightness(image[12:80, 15:77].copy(), (12, 15), places[:7])
    np.testing.assert_array_equal(piece, whole[:7])


def test_the_template_of_an_uneven_object_is_its_mean_over_all_turns():
    light = sum(localisation.spot((31, 31), 1.5)(np.array(p)) for p in ([15, 12.5], [15, 17.5]))
    rod = Crop.of(1e5 * light + 10, Noise(0.0, 1.0, 1.0), "a rod")
    template = Template.of([rod], np.zeros(2))
    generator = np.random.default_rng(1)
    found = []
    for _ in range(8):
        one = crops.scene([rod], 48, 1, Range(0.0, 0.0, 0.0), generator)
        if (np.abs(one.places - 23.5) < 10).all():
            found.append(template.brightness(one.image, (0, 0), one.places)[0])
    assert len(found) >= 2
    assert found == pytest.approx([np.mean(found)] * len(found), rel=0.02)


def drawn(objects, others, mean, middle, spread, seed=0):
    """Brightnesses of objects and of others."""
    generator = np.random.default_rng(seed)
    bright = middle * np.exp(spread * generator.standard_normal(objects))
    return bright, generator.exponential(mean, others)


def errors(bright, rest, least):
    return int((bright < least).sum() + (rest >= least).sum())


@pytest.mark.parametrize("objects", [10, 100, 1000])
@pytest.mark.parametrize("mean", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("middle", [0.5, 1.0])
def test_few_more_errors_are_made_than_with_the_best_threshold_that_truth_could_choose(
    objects, mean, middle
):
    bright, rest = drawn(objects, 1000, mean, middle, 0.35)
    least = decisions.least_brightness(np.concatenate([bright, rest]))
    best = min(errors(bright, rest, t) for t in np.linspace(0.01, 1, 200))
    assert errors(bright, rest, least) <= best + max(5, 0.1 * objects)


def test_where_there_are_no_objects_hardly_anything_is_one():
    _, rest = drawn(0, 2000, 0.05, 1.0, 0.3)
    assert (rest >= decisions.least_brightness(rest)).mean() < 0.01


def test_where_nothing_was_detected_the_decision_is_that_which_was_expected():
    least = decisions.least_brightness(np.zeros(0))
    assert 0.1 < least < decisions.OBJECTS[0].median


@pytest.mark.parametrize("dimmer", [0.3, 0.4])
@pytest.mark.parametrize("count", [6, 60, 600])
def test_a_dimmer_kind_of_things_is_not_taken_for_objects(count, dimmer):
    """However few there are, and the crop's among them."""
    bright, rest = drawn(count, 5 * count, 0.05, 1.0, 0.15)
    other, _ = drawn(2 * count, 0, 0.05, dimmer, 0.15, seed=1)
    least = decisions.least_brightness(np.concatenate([bright, rest, other]))
    assert (other >= least).mean() <= 0.1
    assert (bright >= least).mean() >= 0.9


@pytest.mark.parametrize("seed", range(5))
def test_one_kind_that_is_spread_widely_stays_one(seed):
    bright, rest = drawn(100, 300, 0.05, 0.7, 0.45, seed)
    least = decisions.least_brightness(np.concatenate([bright, rest]))
    assert (bright >= least).mean() >= 0.85


def test_the_order_of_detections_changes_no_decision():
    every = np.concatenate(drawn(50, 500, 0.05, 0.8, 0.4))
    shuffled = np.random.default_rng(1).permutation(every)
    assert decisions.least_brightness(shuffled) == decisions.least_brightness(every)
