"""Composed fields: annotated objects on the ground they lay on, and nothing else."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline import imaging, outlines, phantoms
from pipeline.compose import Library, compose
from pipeline.shots import Example, Guise

PLAIN = Guise(turned=True, scale=0.0, contrast=0.0, background=0.0, noise=0.0)
USUAL = Guise(turned=True, scale=0.2, contrast=0.4, background=0.05, noise=0.05)


def field(sides=(128, 128), seed=0, cover=0.2):
    """A phantom with all its labels, and its fluorescence image."""
    generator = np.random.default_rng(seed)
    specimen = phantoms.Specimen(
        ("round", "elliptic"), (11.0, 11.0), (0.1, 0.1), (cover, cover), (0.3, 0.3), (0.0, 0.0), 0.1
    )
    conditions = imaging.Imaging(
        diameter_um=(10.0, 10.0),
        numerical_aperture=(0.8, 0.8),
        wavelength_um=(0.5, 0.5),
        refractive_index=1.33,
        defocus=(0.05, 0.05),
        photons=(100.0, 100.0),
        background=(0.2, 0.2),
        unevenness=(0.1, 0.1),
        haze=(0.0, 0.0),
        brightness=(0.1, 0.1),
        texture=(0.1, 0.1),
        dome=(0.3, 0.3),
        debris=(0.0, 0.0),
        read_noise=(2.0, 2.0),
        exposure=(0.0, 0.0),
        any_contrast=False,
    )
    spacing = (1.0,) * len(sides)
    phantom = phantoms.phantom(specimen, sides, spacing, generator)
    return imaging.picture(phantom, conditions, spacing, generator), phantom.labels


def complete(image, labels):
    return Example(image, labels, np.ones(labels.shape, bool))


def sparse(image, labels, count):
    """Only so many objects, each well inside the image, and their rims are annotated."""
    inner = labels[tuple(slice(side // 4, -side // 4) for side in labels.shape)]
    some = np.where(np.isin(labels, np.unique(inner)[1 : count + 1]), labels, 0)
    return Example(image, some, (some != 0) | outlines.rim(some, (1.0,) * labels.ndim))


def fields(library, count, guise, sides=(64, 64)):
    return [compose(library, sides, guise, np.random.default_rng(seed)) for seed in range(count)]


def apart(foreground, voxels):
    """Background at least so many voxels away from objects."""
    return ndimage.distance_transform_edt(~foreground) > voxels


def contrast_and_noise(image, foreground):
    """Of an image: how much brighter objects are than the ground, and the ground's grains."""
    ground = image[apart(foreground, 4)]
    fine = (image - ndimage.gaussian_filter(image, 3))[apart(foreground, 10)]
    return image[foreground].mean() - ground.mean(), fine.std()


def centres(shot):
    """Where every object's voxels point to: `(objects, axes)`, and whose voxel is whose."""
    inside = shot.foreground.numpy() > 0
    met = (shot.displacement.numpy()[:, inside] + np.argwhere(inside).T).T
    return np.unique(met.round(2), axis=0, return_inverse=True)


@pytest.mark.parametrize(("sides", "window"), [((96, 96), (64, 64)), ((24, 64, 64), (16, 32, 32))])
def test_all_voxels_of_an_object_point_to_its_centre(sides, window):
    library = Library.of([complete(*field(sides, cover=0.1))])
    for shot in fields(library, 5, USUAL, window):
        assert shot.image.shape == (1, *window)
        assert shot.displacement.shape == (len(window), *window)
        assert (shot.known == 1).all()
        points, whose = centres(shot)
        voxels = np.argwhere(shot.foreground.numpy() > 0)
        assert (shot.displacement.numpy()[:, shot.foreground.numpy() == 0] == 0).all()
        for number, point in enumerate(points):
            mine = voxels[whose.ravel() == number]
            cut = ((mine == 0) | (mine == np.array(window) - 1)).any()
            if not cut and len(mine) > library.size / 2:
                assert np.abs(mine.mean(axis=0) - point).max() < 1.5


def test_what_the_edge_cuts_off_still_counts_for_the_centre():
    """Of a round object of known width every voxel lies within its radius of the centre."""
    labels = (np.hypot(*np.indices((40, 40)) - 20) <= 7).astype(int)
    image = labels + np.random.default_rng(0).normal(0, 0.05, labels.shape)
    library = Library.of([complete(image.astype(np.float32), labels)])
    beyond = 0
    for shot in fields(library, 20, PLAIN, (24, 24)):
        points, whose = centres(shot)
        voxels = np.argwhere(shot.foreground.numpy() > 0)
        away = np.linalg.norm(voxels - points[whose.ravel()], axis=1)
        assert away.max() <= 8
        beyond += ((points < 0) | (points > 23)).any(axis=1).sum()
    assert beyond > 0


def test_objects_may_touch_but_hardly_overlap():
    library = Library.of([complete(*field())])
    touching = 0
    for shot in fields(library, 20, PLAIN):
        points, whose = centres(shot)
        size = np.bincount(whose.ravel())
        inner = ((points > 12) & (points < 51)).all(axis=1)
        smallest = min(np.count_nonzero(patch.values[2] > 0) for patch in library.patches)
        # Turning a small outline on the grid moves its size by some voxels.
        assert (size[inner] > 0.8 * smallest).all()
        pieces = ndimage.label(shot.foreground.numpy())[1]
        touching += pieces < len(points)
    assert touching >= 10


def test_the_ground_of_a_sparse_example_holds_no_object_that_nobody_annotated():
    image, labels = field(cover=0.25)
    example = sparse(image, labels, 3)
    assert example.objects() == 3
    assert labels.max() >= 30
    library = Library.of([example])
    smooth, rest, certain = library.grounds[0].layers
    background = image[apart(labels > 0, 4)]
    assert np.abs(smooth - background.mean()).max() < 2 * background.std()
    assert not rest[certain == 0].any()
    for shot in fields(library, 5, PLAIN):
        ground = shot.image.numpy()[0][apart(shot.foreground.numpy() > 0, 4)]
        assert ground.max() < background.mean() + 5 * background.std()
        assert abs(ground.mean() - background.mean()) < background.std() / 3


def test_objects_that_nobody_annotated_count_for_the_density():
    image, labels = field(cover=0.25)
    true = (labels > 0).mean()
    assert Library.of([complete(image, labels)]).grounds[0].cover == pytest.approx(true)
    assert Library.of([sparse(image, labels, 3)]).grounds[0].cover == pytest.approx(true, rel=0.4)


@pytest.mark.parametrize("annotated", ["all", "some"])
@pytest.mark.parametrize(
    ("sides", "window"), [((128, 128), (64, 64)), ((32, 64, 64), (24, 48, 48))]
)
def test_contrast_and_noise_are_the_examples(sides, window, annotated):
    image, labels = field(sides, cover=0.15 if len(sides) == 2 else 0.08)
    example = complete(image, labels) if annotated == "all" else sparse(image, labels, 6)
    inside = labels > 0
    library = Library.of([example])
    shots = fields(library, 20 if len(sides) == 2 else 8, PLAIN, window)
    measured = np.array(
        [contrast_and_noise(s.image.numpy()[0], s.foreground.numpy() > 0) for s in shots]
    )
    # Those six need not be as bright as the others: they are measured by themselves.
    mine = example.known & (example.labels > 0)
    contrast = image[mine].mean() - image[apart(inside, 4)].mean()
    _, noise = contrast_and_noise(image, inside)
    assert np.nanmean(measured[:, 0]) == pytest.approx(contrast, rel=0.1)
    assert np.nanmedian(measured[:, 1]) == pytest.approx(noise, rel=0.2)


def test_noise_inside_objects_is_not_smoothed_away():
    """However they are turned."""
    labels = (np.hypot(*np.indices((80, 80)) - 40) <= 20).astype(int)
    image = labels + np.random.default_rng(0).normal(0, 0.1, labels.shape)
    library = Library.of([complete(image.astype(np.float32), labels)])
    spread = []
    for shot in fields(library, 10, PLAIN):
        deep = ndimage.distance_transform_edt(shot.foreground.numpy()) > 4
        spread.append(shot.image.numpy()[0][deep].std())
    assert np.median(spread) == pytest.approx(0.1, rel=0.2)


def test_grainy_noise_stays_grainy():
    labels = np.zeros((128, 128), int)
    labels[60:70, 60:70] = 1
    grains = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 1, labels.shape), 1)
    example = sparse((labels + 0.1 * grains / grains.std()).astype(np.float32), labels, 1)
    example.known[:24] = True

    def likeness(values):
        return np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]

    ground = Library.of([example])
    for shot in fields(ground, 3, PLAIN):
        image = shot.image.numpy()[0].copy()
        image[~apart(shot.foreground.numpy() > 0, 4)] = 0
        assert likeness(image) == pytest.approx(likeness(grains), abs=0.2)


def test_equal_generators_make_equal_fields():
    library = Library.of([complete(*field())])
    first, again = (compose(library, (64, 64), USUAL, np.random.default_rng(5)) for _ in range(2))
    other = compose(library, (64, 64), USUAL, np.random.default_rng(6))
    for name in ("image", "foreground", "displacement"):
        assert (getattr(first, name) == getattr(again, name)).all()
        assert (getattr(first, name) != getattr(other, name)).any()


@pytest.mark.parametrize("annotated", ["all", "some"])
def test_dark_objects_stay_dark(annotated):
    image, labels = field()
    example = complete(1 - image, labels) if annotated == "all" else sparse(1 - image, labels, 3)
    for shot in fields(Library.of([example]), 5, PLAIN):
        contrast, _ = contrast_and_noise(shot.image.numpy()[0], shot.foreground.numpy() > 0)
        assert contrast < -0.3


def test_a_field_may_be_larger_than_its_example():
    library = Library.of([complete(*field((48, 40), cover=0.3))])
    shot = compose(library, (96, 128), PLAIN, np.random.default_rng(0))
    assert shot.image.shape == (1, 96, 128)
    assert shot.image.isfinite().all()


def test_objects_cut_by_the_edge_or_by_the_unknown_are_not_taken():
    image, labels = field()
    known = np.zeros(labels.shape, bool)
    known[:, :64] = True
    library = Library.of([Example(image, labels, known)])
    cut = np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, 64:].ravel(), labels[:, 0]]))
    whole = len(np.setdiff1d(labels, cut))
    assert whole - 2 <= len(library.patches) <= whole


def test_without_a_whole_object_nothing_can_be_composed():
    labels = np.zeros((40, 40), int)
    labels[:12, 10:20] = 1
    with pytest.raises(ValueError, match="no whole object is annotated"):
        Library.of([complete(np.zeros((40, 40), np.float32), labels)])
