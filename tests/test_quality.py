"""Laws of quality without labels: stability, likeness, light, and the F1 to expect."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from benchmarks import expectation, injected
from pipeline import calibrator, explanation, likeness, optics, stability
from pipeline.calibrator import Calibrator
from pipeline.noise import Noise
from pipeline.stability import DISGUISES, Disguise

KERNEL = optics.psf(injected.SCOPE, injected.PIXEL_UM)


def bright(image):
    """Finds what is brighter than a half."""
    return ndimage.label(image > 0.5)[0]


def scene(seed=0, noise=0.02):
    """Discs, some as dim as the threshold, on noise."""
    generator = np.random.default_rng(seed)
    image = generator.normal(0, noise, (96, 96))
    y, x = np.indices(image.shape)
    for number in range(16):
        middle = np.array(divmod(number, 4)) * 24 + 12
        inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 <= 36
        image[inside] += 0.55 if number == 5 else 1.0
    return image.astype(np.float32)


def test_what_does_not_change_is_stable_and_what_depends_on_exposure_is_not():
    image = scene()
    labels = bright(image)
    found = stability.stability(image, labels, bright)
    assert found.overlap.shape == (len(DISGUISES), 16)
    dim = labels[12 + 24, 12 + 24]
    assert found.ids[found.overlap.mean(axis=0).argmin()] == dim
    others = found.overlap.mean(axis=0)[found.ids != dim]
    assert others.min() > 0.9


def test_a_disguise_moves_no_object_and_is_the_same_each_time():
    image = scene()
    for disguise in DISGUISES:
        first, second = disguise(image), disguise(image)
        assert np.array_equal(first, second)
        inside = (slice(disguise.shift, None),) * 2
        assert first.shape == image[inside].shape
        assert np.corrcoef(first.ravel(), image[inside].ravel())[0, 1] > 0.9
    assert np.array_equal(Disguise("as it is")(image), image)


def test_agreement_is_that_of_matched_objects():
    one = np.zeros((10, 10), int)
    one[1:5, 1:5], one[6:9, 6:9] = 3, 8
    other = np.where(one == 3, 1, 0)
    overlap, f1 = stability.agreement(one, other, np.array([3, 8]))
    assert overlap.tolist() == [1.0, 0.0]
    assert f1 == pytest.approx(2 / 3)
    assert stability.agreement(one * 0, one * 0, np.zeros(0, int))[1] == 1.0


def table(count, seed, **shift):
    """Objects on a plane whose logarithms are normal."""
    generator = np.random.default_rng(seed)
    drawn = {
        "t": np.zeros(count, int),
        "y_um": generator.uniform(0, 1000, count),
        "x_um": generator.uniform(0, 1000, count),
        "equivalent_diameter_um": np.exp(generator.normal(2 + shift.get("size", 0), 0.2, count)),
        "elongation": np.exp(generator.normal(0.3, 0.1, count)),
    }
    mean = generator.normal(100 + shift.get("light", 0), 10, count)
    drawn |= {"mean_DNA": mean, "min_DNA": mean - 20, "max_DNA": mean + 20 + generator.normal(0, 3)}
    return pd.DataFrame(drawn, index=pd.Index(np.arange(1, count + 1), name="label"))


def features(count, seed, **shift):
    return likeness.features(table(count, seed, **shift), "DNA", (0.0, 200.0), "yx")


@pytest.mark.parametrize("shots", [30, 300])
def test_objects_of_the_shots_kind_are_called_unlike_as_often_as_stated(shots):
    normal = pd.DataFrame(np.random.default_rng(0).normal(size=(8000, 4)), columns=list("abcd"))
    rates = [
        (likeness.known(normal.iloc[at : at + shots]).probability(normal.iloc[4000:]) < 0.01).mean()
        for at in range(0, 3600, 300)
    ]
    assert 0.005 <= np.mean(rates) <= 0.02


def heavy(count, generator):
    """Features with far outliers of their own, as real objects have them."""
    return pd.DataFrame(generator.standard_t(3, size=(count, 4)), columns=list("abcd"))


def test_however_features_are_distributed_as_many_are_called_unlike_as_stated():
    rates, normal = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        known, others = likeness.known(heavy(150, generator)), heavy(1000, generator)
        rates.append((known.chance(others) <= 0.05).mean())
        normal.append((known.probability(others) <= 0.01).mean())
    assert 0.04 <= np.mean(rates) <= 0.06
    assert np.mean(normal) > 0.02, "which the test that takes them for normal does not keep to"


def test_each_of_the_shots_is_held_against_the_others_exactly():
    values = heavy(40, np.random.default_rng(1))
    known = likeness.known(values)
    apart = []
    for row in range(40):
        rest = values.drop(index=row)
        away = values.iloc[row] - rest.mean()
        matrix = np.cov(rest, rowvar=False) + likeness.RIDGE * np.eye(4)
        apart.append(away @ np.linalg.inv(matrix) @ away)
    assert np.allclose(known.apart, np.sort(apart))
    assert known.chance(values.iloc[:1] + 1e6) == pytest.approx(1 / 41)


def test_objects_unlike_the_shots_are_told_and_in_what():
    known = likeness.known(features(200, 0))
    large = features(100, 1, size=2.0)
    assert known.probability(large).max() < 1e-6
    assert known.unlike(large.iloc[0]) == "diameter above the shots'"
    assert known.typical(features(100, 2)) > -1 > known.typical(large)


def test_few_shots_say_nothing_of_others():
    with pytest.raises(ValueError, match="the shots hold 5 objects"):
        likeness.known(features(5, 0))


def test_the_worst_in_any_signal_comes_first_and_the_signal_is_named():
    generator = np.random.default_rng(3)
    signals = pd.DataFrame(generator.uniform(0.5, 1, (50, 3)), columns=["score", "votes", "light"])
    signals.loc[17, :] = 0.0
    signals.loc[31, "light"] = np.nan
    assert likeness.first(signals, 5)[0] == 17
    assert likeness.reason(signals, 31) != "light"
    assert len(likeness.first(signals, 80)) == 50


def test_regions_hold_their_objects_with_a_margin():
    objects = pd.DataFrame({"first_y": [10], "last_y": [19], "first_x": [0], "last_x": [4]}, [77])
    rows = likeness.regions(objects, "yx", {"y": 0.5, "x": 0.5}, 1.0)
    assert rows.index.tolist() == ["1_77"]
    row = rows.iloc[0]
    assert (row["y_micrometer"], row["len_y_micrometer"]) == (4.0, 7.0)
    assert (row["x_micrometer"], row["len_x_micrometer"]) == (0.0, 3.5)


def test_halves_of_photons_add_up_and_are_independent():
    counts = np.random.default_rng(0).poisson(30, (300, 300)).astype(float)
    one, other = explanation.thinned(counts, 0.5, np.random.default_rng(1))
    assert np.array_equal(one + other, counts)
    assert one.var() == pytest.approx(one.mean(), rel=0.03)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01


def test_false_objects_have_no_certainty_and_right_ones_are_called_shifted_as_often_as_stated():
    certainty, moved = [], []
    for seed in range(3):
        found, real = injected._spots(60.0, seed)
        certainty.append(found[~real])
        labels, image = injected._cells(seed, 0.0)
        moved.append(
            explanation.explained(labels, image, KERNEL, injected.CAMERA)["displaced"].to_numpy()
        )
    every = np.concatenate(certainty)
    assert abs(every.mean()) < 4 / np.sqrt(len(every))
    assert every.std() == pytest.approx(1, abs=0.2)
    assert (np.concatenate(moved) > stats.norm.isf(0.01)).mean() <= 0.03


def test_a_false_spot_is_told_almost_as_well_as_by_the_ideal_observer():
    photons = 4 * 2 * injected.SIGMA * np.sqrt(np.pi * injected.BACKGROUND)
    found, real = injected._spots(photons, 0)
    assert injected.auc(-found[~real], -found[real]) > 0.97 * stats.norm.cdf(4 / np.sqrt(2))


@pytest.mark.parametrize("pixels", [1, 2])
def test_a_shift_of_a_pixel_is_seen(pixels):
    labels, image = injected._cells(0, 0.0)
    right, moved = (
        explanation.explained(one, image, KERNEL, injected.CAMERA)["displaced"]
        for one in (labels, np.roll(labels, pixels, axis=1))
    )
    assert injected.auc(moved, right) > 0.95


def test_light_is_explained_whatever_its_unit():
    labels, image = injected._cells(1, 0.0)
    one = explanation.explained(labels, image, KERNEL, injected.CAMERA)
    other = explanation.explained(labels, 7 * image + 100, KERNEL, Noise(7.0, -700.0, 49e-3))
    pd.testing.assert_frame_equal(one, other, rtol=1e-6, check_dtype=False)


def images(count, seed):
    """Features of images, and an F1 that two of them tell of."""
    generator = np.random.default_rng(seed)
    rows = generator.uniform(0, 1, (count, 3))
    f1 = 1 / (1 + np.exp(-(4 * rows[:, 0] - 2 + 2 * rows[:, 1] - 1)))
    return rows, f1, [f"domain {i % 5}" for i in range(count)]


def test_a_calibrator_learns_what_features_tell_and_states_its_error():
    rows, f1, domains = images(200, 0)
    noisy = np.clip(f1 + np.random.default_rng(1).normal(0, 0.05, len(f1)), 0, 1)
    made = calibrator.fitted(list("abc"), rows, noisy, domains, {"by": "a test"})
    fresh, truth, _ = images(400, 2)
    assert np.abs(made.of(fresh) - truth).max() < 0.05
    seen = np.clip(truth + np.random.default_rng(3).normal(0, 0.05, len(truth)), 0, 1)
    assert 0.85 <= (np.abs(made.of(fresh) - seen) <= made.error).mean() <= 0.95
    assert Calibrator.read(made.document()) == made


def test_a_domain_that_was_left_out_teaches_nothing():
    rows, f1, domains = images(100, 0)
    wrong = np.where(np.array(domains) == "domain 2", 1 - f1, f1)
    mine = np.array(domains) == "domain 2"
    before = calibrator.apart(list("abc"), rows, f1, domains)[mine]
    after = calibrator.apart(list("abc"), rows, wrong, domains)[mine]
    assert np.allclose(before, after)


def test_the_benchmark_says_how_well_f1_is_expected_and_against_knowing_nothing():
    rows, f1, domains = images(150, 4)
    seen = [
        dict.fromkeys(expectation.NAMES, 0.0) | {"overlap": r[0], "members": r[1]} for r in rows
    ]
    known = [
        expectation.Record(domain, str(i), "a model", float(f), 10, s)
        for i, (domain, f, s) in enumerate(zip(domains, f1, seen, strict=True))
    ]
    told = {figure.name: figure for figure in expectation.figures(known)}
    assert told["images with a known F1"].value == 150
    assert told["F1 expected without labels: Spearman's correlation"].met
    error = told["F1 expected without labels: mean absolute error"].value
    blind = told["mean absolute error of always expecting the other domains' mean"].value
    assert error < 0.05 < blind
