"""A prediction in other tools' forms: the same objects under other names."""

import sys
from dataclasses import asdict

import ngio
import numpy as np
import ome_zarr_models
import pandas as pd
import pytest
import scenes
import zarr

from pipeline import cli, export, ingest, ngff, objects, publication, receipts, tables, volumes
from pipeline.tiles import boxes

REACH = 6
SHAPES = {"tyx": (2, 70, 83), "zyx": (11, 45, 51)}


def labelled(axes):
    """An image, and its objects under ids that are 1 + the addresses of their centres."""
    image, drawn = scenes.simulated(axes, SHAPES[axes], 4.0, 20)
    labels = np.zeros(drawn.shape, np.uint64)
    for number in np.unique(drawn[drawn > 0]):
        centre = np.rint(np.argwhere(drawn == number).mean(axis=0)).astype(int)
        labels[drawn == number] = 1 + np.ravel_multi_index(tuple(centre), drawn.shape)
    return image, labels


def predicted(folder, axes):
    """A volume with published labels and table, and its predict receipt."""
    image, labels = labelled(axes)
    ingested = folder / "ingest" / "wound.json"
    acquired = scenes.write(folder / "raw.tif", image, axes)
    ingest.ingest(ingested, scenes.ingest_task(acquired), scenes.here)
    volume = volumes.open_volume(receipts.result(ingested, "volume"))
    receipt = folder / "predict" / "cells" / "wound.json"
    recipe = receipts.recipe("predict", {}, {"image": receipts.identity(ingested)})

    levels = volume.label_levels
    building, rows = folder / "building", folder / "rows"
    volumes.create(building, levels, axes, np.uint64, "labels")
    for level in levels:
        for box in boxes(level.shape, level.shard):
            coarse = labels[tuple(slice(None, None, step) for step in level.factors)]
            volumes.write_shard(building, level, box, coarse[box.slices])
    groups = []
    space, frames = volume.space, len(axes) - len(volume.space)
    for number, box in enumerate(boxes(labels.shape, levels[0].shard)):
        mine = labels[box.slices].reshape(box.shape[frames:])
        here = np.unique(mine[mine > 0])
        inside = np.unravel_index(here.astype(np.int64) - 1, labels.shape)
        owned = here[
            np.all(
                [(p >= a) & (p < b) for p, a, b in zip(inside, box.start, box.stop, strict=True)],
                axis=0,
            )
        ]
        part = objects.parts(
            mine,
            [image[box.slices].reshape(mine.shape)],
            np.full(mine.shape, 60000, np.uint16),
            np.ones(mine.shape, bool),
            box.start[frames:],
            space,
            volume.channels,
            box.start[0] if frames else 0,
            owned,
        )
        part.to_parquet(folder / f"{number}.parquet")
        groups.append(tables.Group(box.start, box.stop, [folder / f"{number}.parquet"]))
    measure = tables.Measure(
        space, volume.voxel_size_um, volume.channels, labels.shape, (REACH,) * len(space)
    )
    finished = tables.finish(groups, rows / volumes.TABLE, measure)
    own = {"recipe": recipe, "facts": {"objects": finished.objects}}
    volumes.describe_table(rows, "cells", own)
    blocks = ngff.multiscales("cells", axes, levels, volume.calibration, "first")
    described = {"levels": [asdict(level) for level in levels], **own}
    volumes.annotate(building, {"ome": ngff.image_label(blocks), "equiscope": described})
    publication.publish(rows, volume.store / "tables" / "cells")
    publication.publish(building, volume.store / "labels" / "cells")
    for key in ("labels", "tables"):
        publication.list_children(volume.store / key, key)
    receipts.write(receipt, own)
    return receipt, volume, labels


@pytest.fixture(scope="module", params=list(SHAPES))
def prediction(request, tmp_path_factory):
    return predicted(tmp_path_factory.mktemp("prediction"), request.param)


def test_a_streamed_table_opens_in_ngio_as_a_feature_table(prediction):
    _, volume, labels = prediction
    table = ngio.open_ome_zarr_container(str(volume.store)).get_table("cells")
    assert sorted(table.dataframe.index) == np.unique(labels[labels > 0]).tolist()
    assert {"score", "quality", "equivalent_diameter_um"} <= set(table.dataframe)


def test_dense_labels_are_the_places_of_ids_in_the_sorted_table(prediction):
    receipt, volume, _ = prediction
    assert cli.main(["export", str(receipt), "--as", "dense"]) == 0
    store = volume.store / "labels" / "cells_dense"
    ids = volumes.read_table(volume.store, "cells").sort_index().index.to_numpy()
    for level in volume.levels:
        found = np.asarray(volumes.open_level(store, level.number)[:])
        sparse = np.asarray(volumes.open_level(volume.store / "labels" / "cells", level.number)[:])
        assert found.dtype == np.uint32
        assert ((found > 0) == (sparse > 0)).all()
        assert (ids[found[found > 0] - 1] == sparse[sparse > 0].astype(np.int64)).all()
    finest = np.asarray(volumes.open_level(store, 0)[:])
    assert np.unique(finest[finest > 0]).tolist() == list(range(1, len(ids) + 1))
    assert not list(receipt.parent.glob("*.building*"))


def test_dense_labels_and_their_table_are_valid_and_listed(prediction):
    receipt, volume, labels = prediction
    export.export(receipt, "dense", None)
    checked = ome_zarr_models.open_ome_zarr(
        zarr.open_group(volume.store / "labels" / "cells_dense", mode="r")
    )
    assert type(checked).__module__ == "ome_zarr_models.v05.image_label"
    container = ngio.open_ome_zarr_container(str(volume.store))
    assert container.list_labels() == ["cells", "cells_dense"]
    table = container.get_table("cells_dense").dataframe
    assert table.index.tolist() == list(range(1, len(table) + 1))
    assert table["id"].tolist() == np.unique(labels[labels > 0]).tolist()


def test_an_export_made_again_is_the_same_bytes_and_leaves_the_prediction_alone(prediction):
    receipt, volume, _ = prediction
    export.export(receipt, "dense", None)
    before = scenes.snapshot(volume.store)
    export.export(receipt, "dense", None)
    assert scenes.snapshot(volume.store) == before


def test_more_objects_than_32_bits_can_name_are_refused():
    export.refuse_too_many(2**32 - 1)
    with pytest.raises(ValueError, match="4,294,967,296 objects are more than"):
        export.refuse_too_many(2**32)


def test_a_label_without_a_row_is_refused():
    labels = np.array([[0, 5], [9, 5]], np.uint64)
    assert export.numbered(labels, np.array([5, 9])).tolist() == [[0, 1], [2, 1]]
    for ids in ([5], [9], [], [5, 8, 10]):
        with pytest.raises(ValueError, match="which the table has no row of"):
            export.numbered(labels, np.array(ids, np.int64))


def test_a_model_that_is_named_as_an_export_keeps_its_labels(tmp_path):
    receipt, volume, _ = predicted(tmp_path, "tyx")
    own = volume.store / "labels" / "cells_dense"
    (volume.store / "labels" / "cells").rename(own)
    with pytest.raises(ValueError, match="other labels than"):
        export.export(receipt, "dense", None)
    predicted_again = volume.store / "labels" / "cells"
    predicted_again.mkdir()
    (predicted_again / "zarr.json").write_bytes((own / "zarr.json").read_bytes())
    before = scenes.snapshot(own)
    with pytest.raises(ValueError, match="cells_dense is no export but labels of its own"):
        export.export(receipt, "dense", None)
    assert scenes.snapshot(own) == before


def test_labels_of_another_recipe_are_refused(tmp_path):
    receipt, _, _ = predicted(tmp_path, "tyx")
    said = receipts.read(receipt)
    receipts.write(receipt, said | {"recipe": said["recipe"] | {"hash": "another"}})
    with pytest.raises(ValueError, match="run predict again"):
        export.export(receipt, "dense", None)


def test_dense_labels_have_one_place(prediction, tmp_path):
    with pytest.raises(ValueError, match="Leave out --out"):
        export.export(prediction[0], "dense", tmp_path / "elsewhere")


def test_a_mistyped_receipt_leaves_no_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", str(tmp_path / "predict" / "cells" / "typo.json"), "--as", "dense"])
    assert ended.value.code == 2
    assert "there is no receipt" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_anndata_holds_the_features_the_places_and_what_spatialdata_asks_for(prediction, tmp_path):
    anndata = pytest.importorskip("anndata", reason="an optional package: pip install .[anndata]")
    receipt, volume, _ = prediction
    target = tmp_path / "cells.h5ad"
    assert export.export(receipt, "anndata", target) == target
    found = anndata.read_h5ad(target)
    table = volumes.read_table(volume.store, "cells").sort_index()
    assert found.obs["label"].tolist() == table.index.tolist()
    assert found.obs["label"].dtype == np.int64
    assert found.obs["t"].tolist() == table["t"].tolist()
    assert found.obs_names.tolist() == [str(identity) for identity in table.index]
    places = [f"{axis}_um" for axis in volume.space[::-1]]
    assert (found.obsm["spatial"] == table[places].to_numpy()).all()
    assert {"voxels", "score", "quality", "mean_channel_0", "elongation"} <= set(found.var_names)
    assert not {"t", "x", "x_um", "first_x", "label"} & set(found.var_names)
    assert np.array_equal(found.X, table[list(found.var_names)].to_numpy(float))
    said = found.uns["spatialdata_attrs"]
    assert said == {"region": "cells", "region_key": "region", "instance_key": "label"}
    assert isinstance(found.obs["region"].dtype, pd.CategoricalDtype)
    assert set(found.obs["region"]) == {"cells"}


def test_without_anndata_one_sentence_says_what_to_install(prediction, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "anndata", None)
    assert cli.main(["export", str(prediction[0]), "--as", "anndata"]) == 2
    assert "pip install .[anndata]" in capsys.readouterr().err
    assert not prediction[0].with_suffix(".h5ad").exists()
