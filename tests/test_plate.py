"""The plate of a campaign: all fields in one OME-Zarr plate, stored once, valid and readable."""

import os
import shutil

import campaigns
import ngio
import numpy as np
import ome_zarr_models
import plates
import pytest
import scenes
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from pipeline import cli, ingest, ngff, plate, publication, receipts, tiles, volumes

NAMES = ("B/02/1", "B/02/2", "B/11/1", "AA/02/1")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """Results of ingesting four fields of a plate, and their voxels."""
    folder = tmp_path_factory.mktemp("ingested")
    held = plates.fields(NAMES, shape=(1, 2, 3, 40, 50))
    raw = plates.exported(folder / "raw", held)
    for name in held:
        receipt = folder / "results" / "ingest" / f"mine-{name.replace('/', '-')}.json"
        acquired = scenes.acquisition(raw, series=name)
        ingest.ingest(receipt, scenes.ingest_task(acquired), scenes.here)
    return folder / "results", held


@pytest.fixture
def results(ingested, tmp_path):
    """Those results, of one's own; not yet a plate."""
    return shutil.copytree(ingested[0], tmp_path / "results")


def images(results):
    return sorted(path for path in (results / "ingest").glob("*.json") if "." not in path.stem)


def made(results):
    plate.plate(results / "plate" / "mine.json", images(results))
    return results / "plate" / "mine.ome.zarr"


def test_a_plate_is_valid_down_to_its_images(results):
    store = made(results)
    checked = ome_zarr_models.open_ome_zarr(zarr.open_group(store, mode="r"))
    assert type(checked).__module__ == "ome_zarr_models.v05.hcs"
    for name in NAMES:
        well, image = (
            ome_zarr_models.open_ome_zarr(zarr.open_group(store / part, mode="r"))
            for part in (name.rpartition("/")[0], name)
        )
        assert type(well).__module__ == "ome_zarr_models.v05.well"
        assert type(image).__module__ == "ome_zarr_models.v05.image"


def test_ngio_opens_the_plate_its_wells_and_images(results, ingested):
    opened = ngio.open_ome_zarr_plate(str(made(results)))
    assert set(opened.wells_paths()) == {"B/02", "B/11", "AA/02"}
    found = opened.get_images(max_workers=1)
    assert set(found) == set(NAMES)
    for name, voxels in ingested[1].items():
        assert (found[name].get_image().get_as_numpy() == voxels[0]).all()


def test_ome_zarr_py_opens_the_plate(results, ingested):
    [*nodes] = Reader(parse_url(made(results)))()
    assert [type(spec).__name__ for spec in nodes[0].specs] == ["Plate"]
    # It shows the first field of each well, wells side by side as rows and columns of the plate.
    whole = np.asarray(nodes[0].data[0])
    assert whole.shape == (2, 3, 80, 100)
    assert (whole[..., :40, :50] == ingested[1]["B/02/1"][0]).all()
    assert (whole[..., :40, 50:] == ingested[1]["B/11/1"][0]).all()
    assert (whole[..., 40:, :50] == ingested[1]["AA/02/1"][0]).all()
    assert not whole[..., 40:, 50:].any()


def test_rows_and_columns_are_in_the_order_of_the_plate(results):
    said = volumes.attributes(made(results))["ome"]["plate"]
    assert [row["name"] for row in said["rows"]] == ["B", "AA"]
    assert [column["name"] for column in said["columns"]] == ["02", "11"]
    assert said["wells"] == [
        {"path": "B/02", "rowIndex": 0, "columnIndex": 0},
        {"path": "B/11", "rowIndex": 0, "columnIndex": 1},
        {"path": "AA/02", "rowIndex": 1, "columnIndex": 0},
    ]
    assert said["field_count"] == 2


def test_fields_are_stored_once_and_move_with_the_results(results, tmp_path):
    store = made(results)
    for name in NAMES:
        assert (store / name).is_symlink()
        assert not os.path.isabs(os.readlink(store / name))
    assert sum(path.stat().st_size for path in store.rglob("*") if not path.is_symlink()) < 50_000
    results.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "plate" / "mine.ome.zarr"
    assert ngio.open_ome_zarr_plate(str(moved)).get_images(max_workers=1).keys() == set(NAMES)


def test_results_on_another_disk_are_found(results, tmp_path):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (results / "plate").symlink_to(tmp_path / "deep" / "down")
    assert ngio.open_ome_zarr_plate(str(made(results))).get_images(max_workers=1).keys() == set(
        NAMES
    )


def test_labels_that_come_later_are_in_the_plate(results):
    store = made(results)
    volume = volumes.open_volume(results / "ingest" / "mine-B-11-1.ome.zarr")
    labels = volume.store / "labels" / "cells"
    axes = volume.axes.replace("c", "")
    volumes.create(labels, volume.label_levels, axes, np.uint64, "labels")
    for level in volume.label_levels:
        for box in tiles.boxes(level.shape, level.shard):
            volumes.write_shard(labels, level, box, np.full(box.shape, 7, np.uint64))
    blocks = ngff.multiscales("cells", axes, volume.label_levels, volume.calibration, "first")
    volumes.annotate(labels, {"ome": ngff.image_label(blocks)})
    publication.list_children(volume.store / "labels", "labels")
    image = ngio.open_ome_zarr_plate(str(store)).get_images(max_workers=1)["B/11/1"]
    assert image.list_labels() == ["cells"]
    assert (image.get_label("cells").get_as_numpy() == 7).all()
    ome_zarr_models.open_ome_zarr(zarr.open_group(store, mode="r"))


def test_the_same_fields_make_the_same_plate_and_a_second_time_nothing(results):
    store = made(results)
    before = scenes.snapshot(results / "plate")
    inode = store.stat().st_ino
    made(results)
    assert store.stat().st_ino == inode, "it was made again"
    shutil.rmtree(results / "plate")
    made(results)
    assert scenes.snapshot(results / "plate") == before


def test_a_plate_with_a_lost_link_or_another_field_is_made_again(results):
    store = made(results)
    (store / "B" / "02" / "2").unlink()
    made(results)
    assert (store / "B" / "02" / "2" / "zarr.json").is_file()
    plate.plate(results / "plate" / "mine.json", images(results)[1:])
    assert receipts.read(results / "plate" / "mine.json")["facts"]["fields"] == 3
    assert not list((results / "plate").glob("*.building"))


def lose_volume(results):
    shutil.rmtree(results / "ingest" / "mine-B-02-2.ome.zarr")
    return "mine-B-02-2.ome.zarr, which is gone"


def lose_shard(results):
    [shard, *_] = (results / "ingest" / "mine-B-02-2.ome.zarr" / "0" / "c").rglob("0")
    shard = next(path for path in shard.parents[0].rglob("*") if path.is_file())
    shard.unlink()
    return f"{shard} is lost or empty"


def empty_shard(results):
    shards = results / "ingest" / "mine-B-02-2.ome.zarr" / "1" / "c"
    shard = next(path for path in shards.rglob("*") if path.is_file())
    shard.write_bytes(b"")
    return f"{shard} is lost or empty"


def lose_receipt(results):
    (results / "ingest" / "mine-B-02-2.json").unlink()
    return "there is no receipt"


def swap_volume(results):
    folder = results / "ingest"
    shutil.rmtree(folder / "mine-B-02-2.ome.zarr")
    shutil.copytree(folder / "mine-B-02-1.ome.zarr", folder / "mine-B-02-2.ome.zarr")
    return "is not the volume that its receipt speaks of"


def twice(results):
    shutil.copy(results / "ingest" / "mine-B-02-1.json", results / "ingest" / "mine-B-02-3.json")
    return "both of the field B/02/1"


@pytest.mark.parametrize(
    "harm", [lose_volume, lose_shard, empty_shard, lose_receipt, swap_volume, twice]
)
def test_a_field_that_is_not_whole_is_one_sentence(results, capsys, harm):
    asked = list(map(str, images(results)))
    words = harm(results)
    asked = sorted({*asked, *map(str, images(results))})
    assert cli.main(["plate", str(results / "plate" / "mine.json"), "--images", *asked]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (results / "plate" / "mine.json").exists()
    assert not (results / "plate" / "mine.ome.zarr").exists()


def test_an_image_that_is_no_field_is_refused(tmp_path):
    acquired = scenes.write(tmp_path / "a.tif", np.zeros((20, 20), np.uint8), "yx")
    ingest.ingest(tmp_path / "ingest" / "a.json", scenes.ingest_task(acquired), scenes.here)
    with pytest.raises(ValueError, match="'only', which is no field of a plate"):
        plate.plate(tmp_path / "plate" / "a.json", [tmp_path / "ingest" / "a.json"])


# --- the workflow -------------------------------------------------------------------------------


@pytest.fixture
def campaign(tmp_path):
    """A campaign on a whole plate, with a base model as it is."""
    held = plates.fields(["B/02/1", "C/11/2"], shape=(1, 2, 1, 61, 75))
    plates.exported(tmp_path / "raw", held)
    model = {
        "channel": "DAPI",
        "base": "nuclei_2d",
        "diameter_um": 9.6,
        "acquisitions": ["mine"],
    }
    acquisitions = {"mine": {"path": "raw/9987.HTD", "series": "all"}}
    given = campaigns.settings(acquisitions=acquisitions, models={"nuclei": model})
    given["ingest"]["shard_voxels"]["yx"] = [64, 64]
    campaigns.write(tmp_path, given)
    return tmp_path


def test_a_whole_plate_is_planned_field_by_field(campaign):
    ingested = {"ingest/mine-B-02-1", "ingest/mine-C-11-2"}
    predicted = {"predict/nuclei/mine-B-02-1", "predict/nuclei/mine-C-11-2"}
    last = {"finetune/nuclei", "plate/mine", "report/campaign"}
    assert campaigns.planned(campaign) == ingested | predicted | last


def test_a_whole_plate_runs_and_runs_but_once(campaign):
    asked = ("--", "results/plate/mine.json")
    campaigns.finish(campaign, *asked)
    store = campaign / "results" / "plate" / "mine.ome.zarr"
    assert ngio.open_ome_zarr_plate(str(store)).get_images(max_workers=1).keys() == {
        "B/02/1",
        "C/11/2",
    }
    assert campaigns.planned(campaign, *asked) == set()


def test_a_plate_that_cannot_be_opened_stops_the_workflow_before_anything_is_made(campaign):
    (campaign / "raw" / "9987.HTD").unlink()
    shutil.rmtree(campaign / "raw" / "TimePoint_1")
    done = campaigns.run(campaign)
    assert done.returncode != 0
    assert "equiscope: acquisitions.mine.path: raw/9987.HTD: there is no such file" in done.stderr
    assert not (campaign / "results").exists()
