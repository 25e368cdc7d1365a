"""`series: all`: one entry stands for every image of its file, in every place that names it."""

import argparse
from pathlib import Path

import numpy as np
import plates
import pytest
import tifffile
import yaml

from pipeline import campaigns, cli, doctor

FILE = Path(__file__).parents[1] / "config.yaml"
MODEL = {"channel": "DAPI", "base": "nuclei_2d", "diameter_um": 5.0, "acquisitions": ["plate"]}


def load(acquisitions, **models):
    given = {name: {"path": str(path), **more} for name, (path, more) in acquisitions.items()}
    return campaigns.load(FILE, {"acquisitions": given, "models": models or {"nuclei": MODEL}})


@pytest.fixture
def plate(tmp_path):
    return plates.exported(tmp_path / "plate", plates.fields(shape=(1, 2, 1, 13, 17)))


def several(path, *names):
    """A TIFF of several images with these names."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for name in names:
            file.write(np.zeros((5, 6), np.uint8), metadata={"Name": name})
    return path


def test_an_entry_of_all_series_becomes_one_acquisition_for_each(plate, tmp_path):
    single = several(tmp_path / "a.ome.tif", "image")
    loaded = load(
        {"before": (single, {}), "plate": (plate, {"series": "all", "time_step_s": 7.0})},
        nuclei=MODEL | {"acquisitions": ["plate", "before", "plate-B-02-1"]},
    )
    fields = ("plate-B-02-1", "plate-B-02-2", "plate-C-11-1", "plate-C-11-2")
    assert tuple(loaded.campaign.acquisitions) == ("before", *fields)
    assert loaded.plates == {"plate": fields}
    assert loaded.campaign.acquisitions["plate-C-11-2"].series == "C/11/2"
    assert {loaded.campaign.acquisitions[name].time_step_s for name in fields} == {7.0}
    assert loaded.campaign.models["nuclei"].acquisitions == (*fields, "before")
    assert doctor.examine(load({"plate": (plate, {"series": "all"})}).campaign) == []


def test_every_file_of_several_images_can_be_taken_whole(tmp_path):
    path = several(tmp_path / "a.ome.tif", "left wound", "µ", "right-wound_2")
    loaded = load({"plate": (path, {"series": "all"})})
    named = {name: a.series for name, a in loaded.campaign.acquisitions.items()}
    assert named == {
        "plate-left-wound": "left wound",
        "plate-1": "µ",
        "plate-right-wound_2": "right-wound_2",
    }
    assert loaded.plates == {}


def test_a_campaign_without_such_entries_is_the_same_as_before():
    assert campaigns.load(FILE).campaign == campaigns.config.load(FILE)


def test_images_that_would_share_a_name_are_named(tmp_path):
    path = several(tmp_path / "a.ome.tif", "a b", "a:b")
    with pytest.raises(ValueError, match=r"'a b' and 'a:b' of .* both become .* plate-a-b"):
        load({"plate": (path, {"series": "all"})})


def test_an_image_that_would_take_the_name_of_an_entry_is_named(tmp_path):
    whole = several(tmp_path / "a.ome.tif", "a", "b"), {"series": "all"}
    single = several(tmp_path / "b.ome.tif", "b"), {}
    with pytest.raises(ValueError, match="makes the acquisition plate-b, but another entry"):
        load({"plate": whole, "plate-b": single})


def test_images_of_two_entries_that_would_share_a_name_are_named(tmp_path):
    first = several(tmp_path / "a.ome.tif", "a b", "c"), {"series": "all"}
    second = several(tmp_path / "b.ome.tif", "b", "d"), {"series": "all"}
    with pytest.raises(ValueError, match="makes the acquisition plate-a-b, but another entry"):
        load({"plate": first, "plate-a": second})


@pytest.mark.parametrize("where", ["shots", "references"])
def test_labels_belong_to_one_image(plate, where):
    labels = {"acquisition": "plate", "labels": {"path": "l.tif"}}
    entry = labels | ({"region": {}} if where == "shots" else {"origin": "me"})
    with pytest.raises(ValueError, match=rf"models\.nuclei\.{where} .* such as plate-B-02-1\."):
        load({"plate": (plate, {"series": "all"})}, nuclei=MODEL | {where: [entry]})
    entry["acquisition"] = "plate-B-02-2"
    loaded = load({"plate": (plate, {"series": "all"})}, nuclei=MODEL | {where: [entry]})
    [found] = getattr(loaded.campaign.models["nuclei"], where)
    assert found.acquisition == "plate-B-02-2"


def test_a_field_that_the_plate_has_not_is_named(plate):
    model = MODEL | {"acquisitions": ["plate-Z-02-1"]}
    with pytest.raises(
        ValueError, match=r"'plate-Z-02-1', which there is not\. There are: plate-B"
    ):
        load({"plate": (plate, {"series": "all"})}, nuclei=model)


def test_a_plate_that_cannot_be_opened_is_one_sentence(plate):
    (plate / "other.HTD").write_text("")
    with pytest.raises(ValueError, match=r"^acquisitions\.plate\.path: .* several plates"):
        load({"plate": (plate, {"series": "all"})})


def test_expanding_opens_no_image(plate, monkeypatch):
    monkeypatch.setattr(tifffile, "TiffFile", lambda _: pytest.fail("an image was opened"))
    assert len(load({"plate": (plate, {"series": "all"})}).plates["plate"]) == 4


def test_a_fault_of_all_fields_is_said_once(plate):
    faults = doctor.examine(
        load({"plate": (plate, {"series": "all"})}, nuclei=MODEL | {"channel": "GFP"}).campaign
    )
    [fault] = faults
    assert "plate-B-02-1 has the channels DAPI, FITC" in fault
    assert fault.endswith("The same holds of 3 more.")


@pytest.mark.usefixtures("plate")
def test_a_stage_by_hand_sees_the_fields(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = yaml.safe_load(FILE.read_text())
    given["acquisitions"] = {"plate": {"path": "plate", "series": "all"}}
    given["models"] = {"nuclei": MODEL}
    Path("config.yaml").write_text(yaml.safe_dump(given))
    told = argparse.Namespace(config=None, overrides="{}")
    assert "plate-C-11-1" in cli._campaign(told).acquisitions
    assert cli.main(["ingest", "out/plate-C-11-1.json", "--config", "config.yaml"]) == 0
    assert Path("out/plate-C-11-1.ome.zarr/zarr.json").is_file()
