"""Laws of quality in the report: a model's own objects, read again, and what to look at first."""

import dataclasses
import io
import shutil

import ngio
import numpy as np
import pandas as pd
import pytest
import scenes
from ngio.tables import RoiTable

from pipeline import cards, likeness, receipts, report_quality, report_windows, volumes
from pipeline import view as views
from pipeline.report_prediction import Prediction
from pipeline.sections import Shot


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    """What a base model finds as it is in simulated nuclei, whose left half is called a shot."""
    folder = tmp_path_factory.mktemp("quality")
    image, _ = scenes.simulated("yx", (160, 200), 7.0, 40)
    acquired = scenes.write(folder / "raw.tif", image, "yx")
    volume = scenes.predicted(folder, acquired, "nuclei_2d")
    labels = scenes.annotation(folder / "labels.tif", "yx")
    shot = {"acquisition": "sample", "labels": labels, "region": {"x": [0, 100]}}
    bundle = folder / "finetune" / "nuclei.model"
    made = receipts.read(folder / "predict" / "nuclei" / "sample.json")
    table = volumes.read_table(volume.store, "nuclei")
    shots = (Shot.model_validate(shot),)
    gate = cards.Gate(promoted=False, reason="The base as it is.", base=0.8)
    card = cards.read(bundle).model_copy(update={"gate": gate})
    return Prediction("nuclei", "sample", volume, card, table, made, shots), bundle


@pytest.fixture(scope="module")
def found(prediction):
    p, bundle = prediction
    like = report_quality.known([p])
    return report_quality.quality(p, like, bundle, 2, 5)


def test_objects_read_again_are_those_of_the_table(prediction):
    p, bundle = prediction
    view = views.view(p.volume, p.card.channel, p.card.voxel_size_um)
    for window in report_windows.windows(p, view, bundle, 2):
        rows = window.rows[window.rows >= 0]
        assert len(set(rows.tolist())) == len(rows)
        assert len(rows) > 0.7 * len(window.rows)
        assert (window.stable.overlap <= 1).all()


def test_an_expected_f1_comes_with_its_interval_and_off_signals_with_their_reason(found):
    assert found.expected is not None
    expected, low, high = found.expected
    assert 0 <= low <= expected <= high <= 1
    assert any("optics are unknown" in said for said in found.off)
    assert {"score", "votes", "likeness", "stability"} == set(found.signals)


def test_what_to_look_at_first_is_the_least_trusted_and_says_why(prediction, found):
    p, _ = prediction
    suspicion = likeness.suspicion(found.signals).to_numpy()
    assert len(found.places) == len(found.reasons) == 5
    assert suspicion[list(found.places)].min() >= np.sort(suspicion)[-5]
    crops = report_quality.crops(p, found)
    assert [crop.caption.split(".")[0] for crop in crops] == list("12345")
    assert all(crop.alt and crop.uri.startswith("data:image/png") for crop in crops)
    assert all(picture.alt for picture in report_quality.pictures(p, found).values())


def test_without_a_gate_no_f1_is_expected(prediction):
    p, bundle = prediction
    card = cards.read(bundle)
    said = report_quality.quality(
        dataclasses.replace(p, card=card), report_quality.known([p]), bundle, 1, 5
    )
    assert said.expected is None
    assert any("a gate that asked" in one for one in said.off)


def test_without_a_base_of_the_same_network_no_f1_is_expected(prediction, monkeypatch):
    p, bundle = prediction
    monkeypatch.setattr(report_windows.bases, "fitting", lambda *_: [])
    said = report_quality.quality(p, report_quality.known([p]), bundle, 1, 5)
    assert said.expected is None
    assert any("base models of the same network" in one for one in said.off)


def test_without_shots_or_windows_nothing_is_pretended(prediction):
    p, bundle = prediction
    alone = dataclasses.replace(p, shots=())
    like = report_quality.known([alone])
    said = report_quality.quality(alone, like, bundle, 0, 5)
    assert said.expected is None
    assert said.off[0] == "Likeness to the shots: no acquisition with a shot was predicted."
    assert "report.windows is 0" in said.off[1]


def test_what_to_look_at_first_opens_in_ngio_as_regions(prediction, found):
    p, _ = prediction
    rows = pd.read_csv(io.BytesIO(report_quality.regions(p, found)), index_col="FieldIndex")
    assert rows["label"].tolist() == [p.table.index[place] for place in found.places]
    assert rows.pop("why").tolist() == list(found.reasons)
    regions = RoiTable.from_table_data(rows, RoiTable().meta).rois()
    image = ngio.open_ome_zarr_container(str(p.volume.store)).get_image()
    assert len(regions) == 5
    assert image.get_roi(regions[0]).size > 0


def test_light_is_tested_where_optics_and_camera_are_known(prediction):
    p, bundle = prediction
    scope = {
        "modality": "widefield",
        "numerical_aperture": 0.8,
        "wavelength_um": 0.52,
        "refractive_index": 1.0,
    }
    seen = dataclasses.replace(p, card=p.card.model_copy(update={"optics": scope}))
    said = report_quality.quality(seen, report_quality.known([seen]), bundle, 1, 5)
    told = [one for one in said.off if one.startswith("Explanation by the optics")]
    assert ("light" in said.signals) == (not told)
    assert not any("optics are unknown" in one for one in told)


def test_regions_become_a_table_of_the_volume(prediction, found, tmp_path):
    p, _ = prediction
    store = tmp_path / "copy.ome.zarr"
    shutil.copytree(p.volume.store, store)
    rows = pd.read_csv(io.BytesIO(report_quality.regions(p, found)), index_col="FieldIndex")
    container = ngio.open_ome_zarr_container(str(store))
    regions = RoiTable.from_table_data(rows.drop(columns="why"), RoiTable().meta)
    container.add_table("nuclei_look_first", regions)
    kept = ngio.open_ome_zarr_container(str(store)).get_table("nuclei_look_first")
    assert len(kept.rois()) == 5
