"""Learning from a few examples: the silent stays unknown, an interruption changes nothing."""

import campaigns
import numpy as np
import pytest
import scenes
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from pipeline import (
    boundaries,
    cards,
    compose,
    config,
    finetune,
    lessons,
    losses,
    members,
    optics,
    progress,
    receipts,
    shots,
    training,
    weights,
)
from pipeline.shots import Example, Guise, Shot, aspect, crop, diameter


@pytest.fixture
def learned(tmp_path):
    """An ingested image with labels, and the shot that speaks of them."""
    return scenes.annotated(tmp_path, (60, 70), 4.0, 15)


def train(learned, folder, run=scenes.here, **given):
    volume, shot = learned
    given = {"steps": {"yx": 25, "zyx": 5}, "checkpoint_steps": 5} | given
    task = scenes.finetune_task([shot], "channel_0", **given)
    receipt = folder / "finetune" / "cells.json"
    finetune.finetune(receipt, {"sample": volume}, task, run)
    return receipts.result(receipt, "model")


@pytest.mark.parametrize("died_after", [3, 12, 24])
def test_a_killed_training_goes_on_to_the_same_weights(learned, tmp_path, monkeypatch, died_after):
    calm = train(learned, tmp_path / "calm")
    supervised = losses.supervised
    steps = []

    def dying(*arguments):
        steps.append(1)
        if len(steps) == died_after + 1:
            raise KeyboardInterrupt
        return supervised(*arguments)

    monkeypatch.setattr(losses, "supervised", dying)
    with pytest.raises(KeyboardInterrupt):
        train(learned, tmp_path / "stormy")
    stormy = train(learned, tmp_path / "stormy")
    assert scenes.snapshot(stormy) == scenes.snapshot(calm)
    repeated = died_after % 5 + 1
    assert len(steps) == 25 + repeated


def test_a_training_that_ends_at_every_checkpoint_comes_to_the_same_weights(
    learned, tmp_path, monkeypatch
):
    """As of jobs whose time is nearly up: each leaves its last checkpoint to the next."""
    calm, traces = train(learned, tmp_path / "calm"), []
    paces: list[str] = []

    def jobs(work):
        while work.missing():
            work(work.missing())
            traces.append(work.trace())
            paces.append(progress.pace(work.building / "whole"))

    monkeypatch.setenv(boundaries.END, "1")
    stormy = train(learned, tmp_path / "stormy", jobs)
    assert scenes.snapshot(stormy) == scenes.snapshot(calm)
    assert len(traces) > 25 // 5
    assert len(set(traces)) == len(traces), "each made progress, and can be seen to have"
    assert paces[0].startswith("whole at step 5 of 25, ")
    assert paces[1].startswith("whole at step 10 of 25, ")


def test_another_seed_gives_another_model(learned, tmp_path):
    first, second = (train(learned, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    assert (first / cards.WEIGHTS).read_bytes() != (second / cards.WEIGHTS).read_bytes()


def test_a_torn_checkpoint_never_replaces_a_whole_one(learned, tmp_path, monkeypatch):
    save, calls = torch.save, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="No space left"):
        train(learned, tmp_path)
    assert scenes.snapshot(train(learned, tmp_path)) == scenes.snapshot(
        train(learned, tmp_path / "calm")
    )


def test_the_card_certifies_the_network_that_predicts(learned, tmp_path):
    network, card = weights.load(train(learned, tmp_path))
    assert card.certificate.equivariance <= 1e-5
    assert card.certificate.export <= 1e-5
    assert card.certificate.beyond_receptive_field == 0.0
    assert card.objects == 15
    assert card.origin == "from nothing"
    assert network.architecture.group == "d4"


def test_a_shot_without_an_object_is_refused(learned, tmp_path):
    volume, shot = learned
    path = tmp_path / "none.tif"
    tifffile.imwrite(path, np.zeros((60, 70), np.uint8))
    with pytest.raises(ValueError, match="no object"):
        train((volume, shot | {"labels": shot["labels"] | {"path": str(path)}}), tmp_path)


def example(known=None):
    generator = np.random.default_rng(0)
    labels = np.zeros((40, 40), int)
    labels[8:20, 10:18], labels[25:33, 20:34] = 1, 2
    image = generator.random((40, 40))
    known = np.ones((40, 40), bool) if known is None else known
    return labels, Shot.of(Example(image, labels, known))


def test_displacement_leads_every_voxel_to_its_objects_centre():
    labels, shot = example()
    for number in (1, 2):
        inside = labels == number
        target = shot.displacement.numpy()[:, inside] + np.argwhere(inside).T
        assert np.allclose(target.T, np.argwhere(inside).mean(axis=0), atol=1e-4)


def test_a_crops_votes_still_meet_in_one_point_per_object():
    """However a crop is turned, mirrored and scaled."""
    labels = np.zeros((60, 60), int)
    labels[20:38, 25:35] = 1
    shot = Shot.of(Example(np.zeros((60, 60)), labels, np.ones(labels.shape, bool)))
    guise = Guise(turned=True, scale=0.2, contrast=0.0, background=0.0, noise=0.0)
    seen = 0
    for seed in range(30):
        view = crop(shot, (48, 48), guise, np.random.default_rng(seed))
        inside = view.foreground.numpy() > 0
        if inside.sum() < 50:
            continue
        seen += 1
        met = (view.displacement.numpy()[:, inside] + np.argwhere(inside).T).T
        # One voxel: what nearest-neighbour sampling moves a vote by, at most, once magnified.
        assert (np.abs(met - np.median(met, axis=0)) <= 1.0).all()
    assert seen >= 10


@pytest.mark.parametrize("turned", [True, False])
def test_an_upright_object_stays_upright_where_crops_are_not_turned(turned):
    """Twice as high as wide, its lower half brighter: in crops and in composed fields."""
    labels = np.zeros((60, 60), int)
    labels[20:38, 25:34] = 1
    image = (labels * np.arange(60)[:, None] / 40).astype(np.float32)
    known = Example(image, labels, np.ones(labels.shape, bool))
    guise = Guise(turned=turned, scale=0.0, contrast=0.0, background=0.0, noise=0.0)
    library, shot = compose.Library.of([known]), Shot.of(known)
    views = [crop(shot, (48, 48), guise, np.random.default_rng(seed)) for seed in range(10)]
    views += [
        compose.compose(library, (48, 48), guise, np.random.default_rng(seed)) for seed in range(10)
    ]
    slopes = []
    for view in views:
        inside = view.foreground.numpy() > 0
        if abs(inside.sum() / (labels > 0).sum() - 1) < 0.1:  # one, and whole
            y, _ = np.argwhere(inside).T
            slopes.append(np.corrcoef(y, view.image.numpy()[0][inside])[0, 1])
    assert len(slopes) >= 5
    assert (min(slopes) > 0.5) != turned, slopes


def test_what_is_not_annotated_costs_nothing():
    known = np.zeros((40, 40), bool)
    known[:20] = True
    _, shot = example(known)
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(1, 3, 40, 40, generator=generator)
    other = output.clone()
    other[:, :, 20:] = torch.randn(1, 3, 20, 40, generator=generator)
    size = torch.tensor([10.0, 10.0])
    batch = Shot(shot.image[None], shot.foreground[None], shot.displacement[None], shot.known[None])
    first, second = (
        losses.supervised(o, batch, size, losses.Emphasis(1.0, 0.5)) for o in (output, other)
    )
    assert first == second


def test_a_perfect_answer_costs_least():
    _, shot = example()
    size = torch.tensor([10.0, 10.0])
    batch = Shot(shot.image[None], shot.foreground[None], shot.displacement[None], shot.known[None])
    logit = (20 * shot.foreground - 10)[None, None]
    perfect = torch.cat([logit, shot.displacement[None] / 10], dim=1)
    assert losses.supervised(perfect, batch, size, losses.Emphasis(2.0, 0.5)) < 0.01
    assert losses.supervised(-perfect, batch, size, losses.Emphasis(2.0, 0.5)) > 1


def test_the_diameter_is_that_of_the_disc_or_ball_of_an_objects_size():
    disc = np.hypot(*np.indices((41, 41)) - 20) <= 10
    assert diameter(disc.astype(int), (0.5, 0.5)) == pytest.approx(10.0, rel=0.02)
    ball = sum((i - 15) ** 2 for i in np.indices((31, 31, 31))) <= 100
    assert diameter(ball.astype(int), (1.0, 1.0, 1.0)) == pytest.approx(20.0, rel=0.02)


@pytest.mark.parametrize("angle", [0.0, 0.5, 1.2])
def test_the_aspect_is_how_many_times_as_long_as_wide_objects_are_at_any_angle(angle):
    y, x = np.indices((60, 60)) - 29.5
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    rod = ((abs(along) < 18) & (abs(across) < 6)).astype(int)
    assert aspect(7 * rod, (0.2, 0.2)) == pytest.approx(3.0, rel=0.03)
    # Pixels that are twice as high make a rod along x half as long, relative to its width.
    if angle == 0:
        assert aspect(rod, (2.0, 1.0)) == pytest.approx(1.5, rel=0.03)


def test_a_typical_objects_aspect_is_that_of_most():
    labels = np.zeros((40, 60), np.int64)
    labels[2:10, 2:34], labels[20:28, 2:10], labels[20:28, 20:28] = 10**12, 5, 6
    labels[38, 58] = 8
    assert aspect(labels, (1.0, 1.0)) == pytest.approx(1.0)


@pytest.mark.parametrize(("long", "hops"), [(1.7, 0), (1.9, 2)])
def test_pointers_of_long_objects_are_followed_and_of_others_are_not(long, hops):
    network = config.load(campaigns.ROOT / "config.yaml").network
    assert lessons.fitted([(1.0, 1.0)], 11.0, 15.0, long, 1, network).hops == hops


def test_the_rate_rises_then_falls():
    schedule = training.Schedule(
        steps=50, learning_rate=1.0, seed=0, unit=(5.0, 5.0), knows=False, balance=0.5
    )
    rates = [schedule.rate(step) for step in range(50)]
    assert np.argmax(rates) in (9, 10)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.01


def simulated_example(background):
    """Objects of 100 photons each voxel, over a background that tells the noise, or over none."""
    generator = np.random.default_rng(3)
    labels = np.zeros((160, 160), int)
    rows, columns = np.indices(labels.shape)
    for number in range(1, 26):
        y, x = 16 + 32 * ((number - 1) // 5), 16 + 32 * ((number - 1) % 5)
        labels[np.hypot(rows - y, columns - x) < 9] = number
    bright = gaussian_filter((labels > 0) * generator.uniform(50, 200, 26)[labels], 1.0)
    image = generator.poisson(bright + background) if background else bright * 0
    known = np.ones(labels.shape, bool)
    return Example((image / 100).astype(np.float32), labels, known)


def test_predictions_that_explain_the_image_cost_less():
    example = simulated_example(background=10)
    seen = optics.psf(optics.Optics("widefield", 0.84, 4.0, 1.33), (1.0, 1.0))
    further = members.explaining(0.5, seen, (18.0, 18.0), [example])
    batch = shots.batch([Shot.of(example)])
    logit = torch.as_tensor(np.where(example.labels > 0, 6.0, -6.0))[None, None].float()
    missed = torch.where(batch.foreground > 0, -6.0, logit)
    right, wrong = (further(torch.cat([o, o, o], dim=1), batch) for o in (logit, missed))
    assert 0 < right < 0.7 * wrong


def test_where_noise_cannot_be_told_there_is_no_physics_in_the_loss(caplog):
    blank = simulated_example(background=0)
    assert members.explaining(0.5, torch.ones(1, 1), (18.0, 18.0), [blank]) is None
    assert "no physics in the loss" in caplog.text


def test_a_few_annotated_objects_are_enough_to_learn_from(learned, tmp_path):
    """What is not annotated is unknown: it counts neither as objects nor as background."""
    volume, shot = learned
    labels = tifffile.imread(shot["labels"]["path"])
    few = np.where(np.isin(labels, [1, 2, 3]), labels, 0)
    tifffile.imwrite(tmp_path / "few.tif", few, photometric="minisblack")
    sparse = shot["labels"] | {"path": str(tmp_path / "few.tif"), "complete": False}
    model = train((volume, shot | {"labels": sparse}), tmp_path, steps={"yx": 8, "zyx": 5})
    card = cards.read(model)
    assert card.objects == 3
    assert np.isfinite(card.loss).all()
