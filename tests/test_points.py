"""Points: one unlabelled crop becomes a table of places, discs in a volume, tracks in a report."""

import errno
import json
import os
import re
import shutil
from unittest.mock import Mock

import beads
import browser
import campaigns
import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline import (
    cards,
    config,
    detectors,
    diff,
    discs,
    kept,
    localisation,
    objects,
    optics,
    points,
    sights,
    sweep_points,
    tracks,
    view,
    volumes,
    weights,
)
from pipeline.cli import main
from pipeline.detectors import Detector
from pipeline.forward import Forward
from pipeline.gathering import Gathering
from pipeline.noise import Camera
from pipeline.segment import Segment
from pipeline.templates import Template
from pipeline.tiles import Box

PREDICTED = "results/predict/beads/water.json"


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """A campaign of points that has run to its end."""
    folder = beads.campaign(tmp_path_factory.mktemp("points") / "campaign")
    campaigns.finish(folder)
    return folder


def predicted(folder, **changed):
    """Predict anew, by the stage alone, with other settings."""
    receipt, results = folder / PREDICTED, folder / "results"
    settings = json.loads(receipt.read_text())["recipe"]["settings"]
    settings["predict"] |= changed
    stage = ["predict", str(receipt), "--settings", json.dumps(settings), "--place", "debug"]
    stage += ["--image", str(results / "ingest/water.json")]
    stage += ["--model", str(results / "finetune/beads.json")]
    assert main(stage) == 0


def table(folder):
    return volumes.read_table(folder / "results/ingest/water.ome.zarr", "beads")


def test_one_unlabelled_crop_finds_all_beads_of_a_movie_where_they_are(found):
    rows, where = table(found), beads.places()
    off = []
    for frame, expected in enumerate(where):
        here = rows[rows["t"] == frame][["y", "x"]].to_numpy()
        own, theirs = points.matched(here, expected, 1.5)
        assert len(own) >= len(expected) - 1
        assert len(here) <= len(expected) + 1
        off.append(here[own] - expected[theirs])
    assert np.sqrt(np.square(np.concatenate(off)).mean()) < 0.15


def test_the_stated_deviation_of_a_place_is_about_its_error(found):
    rows, where = table(found), beads.places()
    ratios = []
    for frame, expected in enumerate(where):
        here = rows[rows["t"] == frame]
        own, theirs = points.matched(here[["y", "x"]].to_numpy(), expected, 1.5)
        off = here[["y", "x"]].to_numpy()[own] - expected[theirs]
        stated = here["deviation_um"].to_numpy()[own] / beads.PIXEL_UM
        ratios.append(off / stated[:, None])
    assert 0.4 < np.sqrt(np.square(np.concatenate(ratios)).mean()) < 2.5


def test_the_table_says_how_well_places_can_be_known_at_best(found):
    rows = table(found)
    least = localisation.bound(
        localisation.spot((21, 21), beads.SIGMA), np.array([10.0, 10.0]), beads.PHOTONS,
        beads.BACKGROUND,
    )[0]  # fmt: skip
    told = rows["bound_um"].median() / beads.PIXEL_UM
    assert told == pytest.approx(least, rel=0.3)  # what the image tells of gain and light is rough


def test_the_report_scores_points_against_points(found):
    facts = json.loads((found / "results/report/campaign.json").read_text())["facts"]
    (score,) = facts["results"]["beads/water"]["places"]
    assert score["f1"] > 0.95
    assert score["error_um"] < 0.15 * beads.PIXEL_UM
    assert "within" in (found / "results/report/acquisitions/water.html").read_text()


def detector(folder):
    network, card = weights.load(folder / "results/finetune/beads.model")
    said, (unit, *_) = card.detector, card.unit_voxels
    how = Gathering(unit, said.reach, said.catch, said.apart)
    template = Template(said.profile)
    trial = points.Trial(said.threshold, said.correction, said.f1, template, said.least)
    return Detector(network, network, how, trial, (), said.attempts)


def test_tiles_and_shards_find_what_the_whole_image_gives(found):
    volume = volumes.open_volume(found / "results/ingest/water.ome.zarr")
    rows = table(found)
    for frame in range(beads.FRAMES):
        image = volume.normalised(0, Box((0, 0), beads.SIDES), frame, 0)
        whole = detectors.points(detector(found), image)
        here = rows[rows["t"] == frame].sort_index()
        order = np.lexsort(whole.bins.T[::-1])
        address = np.ravel_multi_index(tuple(whole.bins[order].T), beads.SIDES)
        assert (here.index.to_numpy() - 1) % np.prod(beads.SIDES) == pytest.approx(address)
        np.testing.assert_allclose(here[["y", "x"]], whole.places[order], atol=0.02)


def test_labels_are_discs_of_the_ids_in_the_table(found):
    store = found / "results/ingest/water.ome.zarr"
    volume, rows = volumes.open_volume(store), table(found)
    level = volume.label_levels[0]
    whole = Box((0, 0, 0), level.shape)
    receipt = found / "results/predict/beads/water.json"
    labels = volumes.read_box(store / "labels/beads", level, whole, receipt)
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    assert sorted(rows.index) == ids.tolist()
    assert rows["voxels"].sort_index().to_numpy() == pytest.approx(counts)


def test_the_model_says_what_it_was_learned_from_and_that_it_found_its_copies(found):
    card = cards.read(found / "results/finetune/beads.model")
    assert card.base == "spots_2d"
    assert card.detector.f1 >= detectors.CONVERGED
    assert "copies of its crop" in card.gate.reason


def test_the_report_shows_tracks_and_how_beads_diffuse(found):
    facts = json.loads((found / "results/report/campaign.json").read_text())["facts"]
    said = facts["results"]["beads/water"]["tracks"]
    assert said["count"] >= beads.COUNT
    assert said["diffusion"]["per"] == "s"
    assert 0.3 < said["diffusion"]["coefficient_um2"] / beads.DIFFUSION_UM2_S < 3
    lines = pd.read_csv(found / "results/report/tracks/beads-water.csv")
    assert set(lines) == {"label", "t", "y_um", "x_um", "track"}
    assert set(lines["label"]) == set(table(found).index)
    page = (found / "results/report/acquisitions/water.html").read_text()
    assert "Tracks" in page
    assert "per s" in page


@pytest.mark.parametrize("width", [1280, 390])
@browser.NEEDED
def test_a_browser_shows_the_page_of_points_whole_and_without_complaint(found, width, tmp_path):
    text = (found / "results/report/acquisitions/water.html").read_text()
    shown = browser.shown(text, width, tmp_path)
    assert shown == browser.Shown(text.count("<img"), overflow=0, requests=0, complaints=[])


def test_a_table_of_points_is_made_again_byte_for_byte(found, capsys):
    assert main(["replay", str(found / "results/predict/beads/water.json")]) == 0
    assert "the same" in capsys.readouterr().out


def test_points_go_to_napari_in_voxels(found, capsys):
    receipt = found / "results/predict/beads/water.json"
    assert main(["export", str(receipt), "--as", "napari"]) == 0
    path = capsys.readouterr().out.strip()
    rows = pd.read_csv(path)
    assert list(rows)[:4] == ["index", "axis-0", "axis-1", "axis-2"]
    assert {"score", "deviation_um"} <= set(rows)
    assert rows[["axis-1", "axis-2"]].to_numpy() == pytest.approx(
        table(found).sort_index()[["y", "x"]].to_numpy()
    )


def test_nothing_is_left_to_do_and_a_setting_of_segmenting_trains_nothing_anew(found):
    assert campaigns.planned(found) == set()


def test_firm_detections_count_as_bright_as_they_are_and_others_as_less():
    template = Template((1.0, 0.5, 0.0))
    known = points.Trial(10.0, (1.0, -0.5), 0.95, template, least=0.4)
    information, bright = np.array([1.0, 3.0, 10.0, 90.0]), np.full(4, 0.8)
    strong = known.strengths(information, bright)
    assert (np.diff(strong[:3]) > 0).all()
    assert strong[2:] == pytest.approx(0.8)
    assert (known.strengths(information, -bright) == 0).all()


def test_only_where_images_told_of_brightness_may_what_is_not_firm_be_an_object():
    template = Template((1.0, 0.5, 0.0))
    asked, unasked = (
        points.Trial(10.0, (1.0, -0.5), 0.95, template, least=least) for least in (0.4, 0.0)
    )
    assert asked.faintest < asked.threshold
    assert unasked.faintest == unasked.threshold


SHAPE = (40, 50)


def scattered(seed, count=25):
    generator = np.random.default_rng(seed)
    flat = generator.choice(SHAPE[0] * SHAPE[1], count, replace=False)
    bins = np.stack(np.unravel_index(flat, SHAPE), axis=1)
    places = bins + generator.uniform(-1, 1, bins.shape)
    return (flat + 1).astype(np.uint64), bins, places, generator.uniform(0.5, 1, count)


@pytest.mark.parametrize("seed", range(5))
def test_discs_drawn_in_pieces_are_those_drawn_in_the_whole(seed):
    known = scattered(seed)
    whole = discs.drawn(Box((0, 0), SHAPE), *known, (3.0, 3.5))
    for start in [(0, 0), (0, 21), (17, 0), (17, 21)]:
        stop = tuple(17 if a == 0 and n == 40 else n for a, n in zip(start, SHAPE, strict=True))
        stop = (stop[0], 21 if start[1] == 0 else SHAPE[1])
        part = discs.drawn(Box(start, stop), *known, (3.0, 3.5))
        np.testing.assert_array_equal(part.ids, whole.ids[Box(start, stop).slices])
        np.testing.assert_array_equal(part.certainty, whole.certainty[Box(start, stop).slices])


def test_no_object_loses_its_own_voxel_however_close_others_are():
    ids, bins, places, scores = scattered(1, count=400)
    drawn = discs.drawn(Box((0, 0), SHAPE), ids, bins, places, scores, (3.0, 3.0))
    np.testing.assert_array_equal(drawn.ids[tuple(bins.T)], ids)


def test_what_one_box_knows_of_an_object_stays_when_rows_of_boxes_are_added():
    labels = np.array([[7, 7, 9]], np.uint64)
    nothing = np.zeros((1, 3), np.uint16)

    def rows(start, cut, owned):
        part = objects.parts(
            labels[:, cut], [nothing[:, cut]], nothing[:, cut], nothing[:, cut] > 0, start,
            "yx", ["c"], 0, np.array(owned, np.uint64),
        )  # fmt: skip
        known = np.array(owned, np.uint64)
        own = {
            "y": 0.25 * known,
            "x": 0.25 * known,
            "deviation": 0.1 * known,
            "score": 0.01 * known,
        }
        return objects.placed(part, known, own)

    pieces = [rows((0, 0), slice(0, 1), []), rows((0, 1), slice(1, 3), [9, 7])]
    whole = objects.measured(objects.combined(pd.concat(pieces)), "yx", {"y": 2.0, "x": 2.0}, ["c"])
    assert whole["y"].to_dict() == {7: 1.75, 9: 2.25}
    assert whole["x_um"].to_dict() == {7: 3.5, 9: 4.5}
    assert whole["deviation_um"].to_dict() == pytest.approx({7: 1.4, 9: 1.8})
    assert whole["voxels"].to_dict() == {7: 2, 9: 1}


def walkers(count, frames, step, seed=0):
    """A table of objects that walk at random, each frame in another order; and who is who."""
    generator = np.random.default_rng(seed)
    start = generator.uniform(0, 400, (count, 2))
    where = start + np.cumsum(generator.normal(0, step, (frames, count, 2)), axis=0)
    rows = [
        pd.DataFrame({"t": t, "y_um": now[:, 0], "x_um": now[:, 1], "who": np.arange(count)})
        .sample(frac=1, random_state=t)
        for t, now in enumerate(where)
    ]  # fmt: skip
    return pd.concat(rows).set_axis(pd.RangeIndex(1, count * frames + 1, name="label"), axis=0)


def test_links_follow_each_walker():
    table = walkers(20, 40, 0.3)
    linked = tracks.linked(table, 3.0)
    pairs = table.join(linked["track"])
    assert (pairs.groupby("who")["track"].nunique() == 1).all()
    assert (pairs.groupby("track")["who"].nunique() == 1).all()


def test_diffusion_is_that_of_the_walk():
    step_um, time_s = 0.3, 0.1
    linked = tracks.linked(walkers(60, 200, step_um), 3.0)
    moved = tracks.diffusion(linked, 200, time_s)
    assert moved.exponent == pytest.approx(1, abs=0.05)
    assert moved.coefficient == pytest.approx(step_um**2 / (2 * time_s), rel=0.1)


def test_points_that_could_be_linked_in_too_many_ways_say_so():
    with pytest.raises(ValueError, match="lower the model's linking_um"):
        tracks.linked(walkers(400, 3, 5.0), 300.0)


def test_nothing_moves_in_an_empty_table():
    empty = walkers(2, 2, 1.0).iloc[:0]
    assert tracks.linked(empty, 1.0).empty
    assert tracks.diffusion(tracks.linked(empty, 1.0), 5, 1.0) is None


PLANE = {"axes": "tyx", "shape": (5, 60, 60), "voxel_size_um": {"y": 0.1, "x": 0.1}}


@pytest.mark.parametrize(
    ("changed", "region", "reason"),
    [
        ({}, {"y": [0, 20], "x": [0, 20]}, r"frames 0 to 4: a crop is of one.*t: \[0, 1\]"),
        ({}, {"t": [0, 1], "y": [0, 20], "x": [50, 70]}, "outside the image"),
        ({"axes": "zyx"}, {"z": [0, 1], "y": [0, 20], "x": [0, 20]}, "call it t"),
        ({"voxel_size_um": {"y": 0.1, "x": 0.2}}, beads.CROP, "squares"),
    ],
)
def test_a_crop_that_cannot_be_learned_from_is_refused_with_the_remedy(changed, region, reason):
    given = PLANE | changed
    with pytest.raises(ValueError, match=reason):
        sights.place("models.beads.shots.0", region, **given)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "segment", "linking_um": "none"}, "has no labels"),
        ({"shots": []}, "add a crop"),
        ({"shots": [{"acquisition": "water", "region": {"t": [0, 1]}}]}, "says nothing of y, x"),
        (
            {"shots": [{"acquisition": "water", "region": beads.CROP, "labels": {"path": "a"}}]},
            "learns from crops",
        ),
    ],
)
def test_shots_that_do_not_suit_the_task_are_refused_before_work_starts(tmp_path, changes, reason):
    folder = beads.campaign(tmp_path)
    given = yaml.safe_load((folder / "config.yaml").read_text())
    given["models"]["beads"] |= changes
    campaigns.write(folder, given)
    with pytest.raises(ValueError, match=reason):
        config.load(folder / "config.yaml")


def test_outlines_are_not_linked(tmp_path):
    folder = campaigns.planar(tmp_path, frames=1)
    campaigns.change(folder, every_model={"linking_um": 2.0})
    with pytest.raises(ValueError, match="only points are linked"):
        config.load(folder / "config.yaml")


def test_other_tiles_find_the_same_objects(found, tmp_path):
    campaign = campaigns.copy(found, tmp_path / "again")
    predicted(campaign, tile_voxels={"yx": [32, 32], "zyx": [8, 32, 32]})
    first, second = table(found).sort_index(), table(campaign).sort_index()
    assert first.index.tolist() == second.index.tolist()
    np.testing.assert_allclose(first[["y", "x"]], second[["y", "x"]], atol=0.02)


SPOT = Forward(
    sigma=1.4, camera=Camera(gain=2.0, offset=100.0, read_noise=1.5), low=110.0, high=400.0
)


def test_the_bound_of_a_spot_is_that_of_its_photons_and_its_background():
    place, photons, background = np.array([20.3, 17.8]), 1500.0, 8.0
    light = localisation.spot((40, 40), 1.4)
    counts = 100 + 2 * (background + photons * light(place))
    image = ((counts - 110) / 290).astype(np.float32)
    (found,) = SPOT.bounds(image, (0, 0), place[None])
    side = 2 * SPOT.reach + 1
    at = place - np.rint(place) + SPOT.reach
    expected = localisation.bound(
        localisation.spot((side, side), 1.4), at, photons, background, 1.5
    )
    assert found == pytest.approx(np.sqrt(np.square(expected[:2]).mean()), rel=1e-3)
    assert np.isnan(SPOT.bounds(np.zeros((40, 40), np.float32), (0, 0), place[None]))


def imaged(photons, generator):
    """Photons of an image as SPOT's camera records them, normalised."""
    electrons = generator.poisson(photons) + generator.normal(0, SPOT.camera.read_noise, (40, 40))
    counts = SPOT.camera.offset + SPOT.camera.gain * electrons
    return ((counts - SPOT.low) / (SPOT.high - SPOT.low)).astype(np.float32)


def test_refined_places_err_by_the_bound_and_say_so():
    generator, light = np.random.default_rng(0), localisation.spot((40, 40), 1.4)
    off, stated = [], []
    for _ in range(400):
        place = 20 + generator.uniform(-0.5, 0.5, 2)
        image = imaged(8 + 1500 * light(place), generator)
        given = place + generator.normal(0, 0.2, 2)
        best = SPOT.refined(image, (0, 0), given[None])
        if best.taken[0]:
            off.append(best.places[0] - place)
            stated.append(best.deviations[0])
    assert len(off) > 390
    error = np.sqrt(np.square(off).mean())
    side = 2 * SPOT.reach + 1
    least = localisation.bound(
        localisation.spot((side, side), 1.4), np.full(2, SPOT.reach), 1500.0, 8.0, 1.5
    )[0]
    assert error / least == pytest.approx(1, abs=0.1)  # four standard deviations of 800 draws
    assert np.mean(stated) == pytest.approx(least, rel=0.05)


@pytest.mark.parametrize("beside", [3.0, 5.0])
def test_a_place_that_a_single_spot_does_not_explain_stays_as_it_was(beside):
    generator, light = np.random.default_rng(1), localisation.spot((40, 40), 1.4)
    place = np.array([20.2, 19.7])
    image = imaged(8 + 1500 * (light(place) + light(place + np.array([beside, 0]))), generator)
    best = SPOT.refined(image, (0, 0), place[None])
    assert not best.taken[0]
    assert best.places[0] == pytest.approx(place, abs=0)


def test_refined_places_are_in_the_table_where_optics_are_known(found, tmp_path):
    campaign = campaigns.copy(found, tmp_path / "refined")
    predicted(campaign, refinement="maximum_likelihood")
    before, after = table(found).sort_index(), table(campaign).sort_index()
    assert after.index.tolist() == before.index.tolist()
    taken = after["refined"]
    assert taken.mean() > 0.5
    assert "refined" not in before
    pd.testing.assert_frame_equal(
        before[~taken], after[~taken].drop(columns="refined"), check_exact=True
    )
    assert after["deviation_um"][taken].to_numpy() == pytest.approx(
        after["bound_um"][taken].to_numpy(), rel=0.1
    )
    assert (after.loc[taken, "y"] != before.loc[taken, "y"]).all()


def test_how_far_from_focus_points_are_is_in_the_table_where_that_is_asked_for(found, tmp_path):
    campaign = campaigns.copy(found, tmp_path / "deep")
    predicted(campaign, refinement="maximum_likelihood_3d")
    after = table(campaign)
    assert after["refined"].mean() > 0.5
    told = after[["depth_um", "depth_deviation_um"]]
    assert (told.notna().all(axis=1) == after["refined"]).all()
    # the beads are all in focus, of an image that is not quite that of scalar diffraction
    microscope = optics.Optics(**beads.OPTICS)
    assert told["depth_um"].median() < 0.5 * microscope.sigma_um("z")[0]
    assert "depth_um" not in table(found)


@pytest.mark.parametrize(
    ("known", "refinement", "reason"),
    [
        (None, "none", None),
        (None, "maximum_likelihood", "not refined: the model knows no optics"),
        (beads.OPTICS, "maximum_likelihood_3d", None),
        (
            beads.OPTICS | {"modality": "confocal"},
            "maximum_likelihood_3d",
            "refined in the plane alone.*the model's are confocal",
        ),
    ],
)
def test_what_is_not_refined_although_it_is_asked_for_is_told_with_the_reason(
    found, known, refinement, reason
):
    volume = volumes.open_volume(found / "results/ingest/water.ome.zarr")
    bundle = found / "results/finetune/beads.model"
    card = cards.read(bundle).model_copy(update={"optics": known})
    seen = view.view(volume, card.channel, card.voxel_size_um)
    given = config.load(found / "config.yaml").predict
    asked = given.model_copy(update={"refinement": refinement})
    said = Segment(seen, bundle, asked, (64, 64), found, 1, 0).unrefined(card)
    assert said is None if reason is None else re.search(reason, said)


def test_a_crop_without_an_object_is_refused_by_its_setting_before_training(found, tmp_path):
    campaign = campaigns.copy(found, tmp_path / "empty")
    nowhere = {"t": [0, 1], "y": [76, 95], "x": [38, 57]}
    model = yaml.safe_load((campaign / "config.yaml").read_text())["models"]["beads"]
    model["shots"][0]["region"] = nowhere
    campaigns.change(campaign, models={"beads": model})
    done = campaigns.run(campaign)
    assert done.returncode
    assert "models.beads.shots.0.region has no contrast" in done.stdout + done.stderr


def test_diff_foresees_what_a_change_of_points_makes(found, tmp_path, monkeypatch):
    campaign = campaigns.copy(found, tmp_path / "foreseen")
    monkeypatch.chdir(campaign)
    (campaign / "results/finetune/beads.json").unlink()
    campaigns.change(campaign, models={"beads": {"linking_um": 0.4}})
    options = campaigns.command(campaign)[3:]
    seen = {
        one.prospect.job.unit: one.prospect.outcome
        for one in diff.diff(campaign / "config.yaml", options)
    }
    stays = dict.fromkeys(["finetune/beads", "predict/beads/water"], "kept")
    assert seen == stays | {"report/campaign": "made"}


@pytest.mark.parametrize("disk", ["with room", "full"])
def test_votes_that_memory_does_not_hold_lie_on_disk_or_are_asked_again(
    found, tmp_path, monkeypatch, disk
):
    if disk == "full":
        refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(kept, "_in_file", Mock(side_effect=refused))
    campaign = campaigns.copy(found, tmp_path / "forgetful")
    store = campaign / "results/ingest/water.ome.zarr"
    for leftover in (store / "labels", store / "tables"):
        shutil.rmtree(leftover)
    made = []

    class Forgetful(sweep_points.Search):
        def __init__(self, *given):
            super().__init__(*given[:-1], 0.0)
            made.append(self)

    monkeypatch.setattr(sweep_points, "Search", Forgetful)
    predicted(campaign)
    pd.testing.assert_frame_equal(table(campaign), table(found))
    (sweep,) = made
    tiles = beads.FRAMES * 4
    passes = sweep.reader.spent["passes"]
    assert passes == tiles if disk == "with room" else passes > tiles
