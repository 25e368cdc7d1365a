"""From one annotated example to labels and tables: the same from any tiling, and valid."""

import copy
import errno
import itertools
import json
import math
import os
import shutil
from unittest.mock import Mock

import ngio
import numpy as np
import ome_zarr_models
import pytest
import scenes
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from pipeline import (
    cards,
    finetune,
    ingest,
    kept,
    metrics,
    predict,
    publication,
    receipts,
    shards,
    sweep,
    sweep_outlines,
    volumes,
)
from pipeline.distances import HOPS
from pipeline.tiles import Tree

KINDS = {
    "2-D": ("yx", (90, 107)),
    "2-D+t": ("tyx", (3, 70, 83)),
    "3-D": ("zyx", (13, 45, 51)),
    "3-D+t": ("tzyx", (2, 12, 33, 37)),
}


class Campaign:
    """One acquisition with labels, and the model that learned from its first frame."""

    def __init__(self, folder, kind):
        self.folder, (self.axes, shape) = folder, KINDS[kind]
        count = 25 if "z" not in self.axes else 16
        self.image, self.labels = scenes.simulated(self.axes, shape, 4.0, count)
        self.acquired = scenes.write(folder / "raw.tif", self.image, self.axes)
        tifffile.imwrite(folder / "labels.tif", self.labels, photometric="minisblack")
        self.model = folder / "finetune" / "cells.json"
        volume = self.ingest("learned")
        shot = {
            "acquisition": "learned",
            "labels": scenes.annotation(folder / "labels.tif", self.axes),
            "region": {"t": [0, 1]} if "t" in self.axes else {},
        }
        task = scenes.finetune_task([shot], "channel_0")
        finetune.finetune(self.model, {"learned": volume}, task, scenes.here)

    def following(self):
        """The same with a model whose card says that pointers are to be followed."""
        other = copy.copy(self)
        other.model = self.folder / "long" / "cells.json"
        shutil.copytree(self.model.parent, other.model.parent, dirs_exist_ok=True)
        bundle = receipts.result(other.model, "model")
        receipts.write(bundle / cards.CARD, receipts.read(bundle / cards.CARD) | {"hops": HOPS})
        return other

    def ingest(self, name, **given):
        receipt = self.folder / "ingest" / f"{name}.json"
        ingest.ingest(receipt, scenes.ingest_task(self.acquired, **given), scenes.here)
        return receipt

    def predict(self, image, run=scenes.here, workers=1, **given):
        receipt = self.folder / "predict" / "cells" / f"{image.stem}.json"
        task = scenes.predict_task(**given)
        predict.predict(receipt, image, self.model, task, predict.Means(workers), run)
        return receipts.read(receipt)["facts"]

    def found(self, image, level=0):
        store = image.with_suffix(".ome.zarr") / "labels" / "cells"
        return np.asarray(volumes.open_level(store, level)[:])


@pytest.fixture(scope="module", params=list(KINDS))
def campaign(request, tmp_path_factory):
    return Campaign(tmp_path_factory.mktemp("campaign"), request.param)


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """What does not depend on the axes is tried on a movie alone."""
    return Campaign(tmp_path_factory.mktemp("movie"), "2-D+t")


@pytest.fixture(scope="module")
def whole(campaign):
    """One shard and one tile over everything."""
    shape = {"yx": [128, 128], "zyx": [24, 64, 64]}
    image = campaign.ingest("whole", chunk_voxels=shape, shard_voxels=shape)
    facts = campaign.predict(image, tile_voxels=shape)
    return campaign.found(image), facts


def test_objects_are_found(campaign, whole):
    score = metrics.match(whole[0], campaign.labels, 0.5)
    # A short training of a small network: most objects, not all.
    assert score.f1 >= 0.5


class Watched(kept.Kept):
    """Notes the most bytes that it held from one group of shards to the next."""

    held = 0

    def forget(self, number):
        super().forget(number)
        alone = self.said.keys() - self.shared - self.on_disk
        self.held = max(self.held, sum(kept.held_bytes(self.said[key]) for key in alone))


@pytest.fixture
def swept(monkeypatch):
    """Sweeps that were made, each with as many bytes to keep as `most_bytes` says."""
    made = []

    class Bounded(sweep_outlines.Outlines):
        most_bytes = math.inf

        def __init__(self, *given):
            super().__init__(*given[:-1], self.most_bytes)
            made.append(self)

    monkeypatch.setattr(sweep_outlines, "Outlines", Bounded)
    monkeypatch.setattr(sweep, "Kept", Watched)
    return Bounded, made


@pytest.mark.parametrize("disk", ["with room", "full"])
def test_what_memory_does_not_keep_lies_on_disk_or_is_asked_again(
    campaign, whole, swept, disk, monkeypatch
):
    if disk == "full":
        refused = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(kept, "_in_file", Mock(side_effect=refused))
    image = campaign.ingest("forgetful", shard_voxels={"yx": [32, 32], "zyx": [8, 16, 32]})
    # Where nothing is kept all that is around a shard is asked again: few tiles keep that short.
    tile = {"yx": [12, 16], "zyx": [4, 8, 16]}
    if disk == "full":
        tile = {"yx": [32, 32], "zyx": [8, 16, 32]}
    bounded, made = swept
    for bounded.most_bytes in (math.inf, 20_000, 0):
        shutil.rmtree(image.with_suffix(".ome.zarr") / "labels", ignore_errors=True)
        campaign.predict(image, tile_voxels=tile)
        assert (campaign.found(image) == whole[0]).all()
    endless, bounded, none = made
    assert none.kept.held == 0 < bounded.kept.held <= 20_000 < endless.kept.held
    passes = [one.reader.spent["passes"] for one in made]
    if disk == "full":
        assert passes[0] < passes[1] <= passes[2]
    else:
        assert passes[0] == passes[1] == passes[2]


@pytest.mark.parametrize(
    ("tile", "shard"),
    [
        ({"yx": [8, 16], "zyx": [8, 8, 16]}, {"yx": [16, 16], "zyx": [8, 16, 16]}),
        ({"yx": [30, 18], "zyx": [6, 20, 14]}, {"yx": [32, 16], "zyx": [16, 32, 16]}),
        ({"yx": [64, 64], "zyx": [16, 64, 64]}, {"yx": [48, 80], "zyx": [8, 48, 32]}),
    ],
)
def test_tiled_equals_whole_in_every_id(campaign, whole, tile, shard):
    image = campaign.ingest("tiled", shard_voxels=shard)
    facts = campaign.predict(image, tile_voxels=tile)
    assert (campaign.found(image) == whole[0]).all()
    assert facts["objects"] == whole[1]["objects"] > 0
    assert facts["orphans"] == 0


def test_tiled_equals_whole_where_pointers_are_followed_as_well(campaign, whole):
    long, shape = campaign.following(), {"yx": [128, 128], "zyx": [24, 64, 64]}
    once = long.ingest("long", chunk_voxels=shape, shard_voxels=shape)
    facts = long.predict(once, tile_voxels=shape)
    tiled = long.ingest("long_tiled", shard_voxels={"yx": [32, 16], "zyx": [8, 32, 16]})
    again = long.predict(tiled, tile_voxels={"yx": [30, 18], "zyx": [6, 20, 14]})
    assert (long.found(tiled) == long.found(once)).all()
    assert again["objects"] == facts["objects"] > 0
    assert again["orphans"] == 0
    assert (long.found(once) != whole[0]).any()


@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_shares_of_jobs_change_no_byte(movie, workers):
    image = movie.ingest("shared")
    expected = movie.predict(image)
    stored = scenes.snapshot(image.with_suffix(".ome.zarr"))

    def one_by_one_backwards(work):
        for unit in reversed(work.missing()):
            work([unit])

    receipt = movie.folder / "predict" / "cells" / "shared.json"
    receipt.unlink()
    shutil.rmtree(image.with_suffix(".ome.zarr") / "labels" / "cells")
    assert movie.predict(image, one_by_one_backwards, workers) == expected
    assert scenes.snapshot(image.with_suffix(".ome.zarr")) == stored


def test_ids_give_back_the_centre_and_the_frame(campaign, whole):
    shape = campaign.labels.shape
    for identity in np.unique(whole[0][whole[0] > 0]).tolist():
        place = np.unravel_index(identity - 1, shape)
        mine = np.argwhere(whole[0] == identity)
        if "t" in campaign.axes:
            assert set(mine[:, 0]) == {place[0]}
        assert (np.abs(mine.mean(axis=0) - place) <= 5).all()


def test_the_table_agrees_with_the_labels(campaign):
    image = campaign.ingest("tabled")
    campaign.predict(image)
    labels = campaign.found(image)
    table = volumes.read_table(image.with_suffix(".ome.zarr"), "cells")
    assert sorted(np.unique(labels[labels > 0]).tolist()) == table.index.tolist()
    size = "volume_um3" if "z" in campaign.axes else "area_um2"
    space = [a for a in campaign.axes if a in "zyx"]
    for identity, row in table.iterrows():
        places = np.argwhere(labels == identity)
        if "t" in campaign.axes:
            assert (places[:, 0] == row["t"]).all()
            places = places[:, 1:]
        assert row["voxels"] == len(places)
        assert row[size] == pytest.approx(len(places) * np.prod([scenes.VOXEL[a] for a in space]))
        assert row[space].to_numpy(float) == pytest.approx(places.mean(axis=0))
        assert [row[f"first_{a}"] for a in space] == places.min(axis=0).tolist()
        assert [row[f"last_{a}"] for a in space] == places.max(axis=0).tolist()
        assert 0.5 <= row["score"] <= 1
        assert 0 <= row["quality"] <= 1
        assert row["mean_channel_0"] == pytest.approx(campaign.image[labels == identity].mean())


def test_levels_of_labels_hold_only_ids_of_the_finest(campaign):
    image = campaign.ingest("leveled")
    campaign.predict(image)
    volume = volumes.open_volume(image.with_suffix(".ome.zarr"))
    finest = set(np.unique(campaign.found(image)).tolist())
    for level in volume.levels:
        labels = campaign.found(image, level.number)
        assert set(np.unique(labels).tolist()) <= finest
        without_channels = [n for n, a in zip(level.shape, volume.axes, strict=True) if a != "c"]
        assert list(labels.shape) == without_channels


def test_labels_and_table_are_valid_and_open_in_the_fields_readers(campaign):
    image = campaign.ingest("opened")
    campaign.predict(image)
    store = image.with_suffix(".ome.zarr")
    checked = ome_zarr_models.open_ome_zarr(zarr.open_group(store / "labels" / "cells", mode="r"))
    assert type(checked).__module__ == "ome_zarr_models.v05.image_label"
    labels_group = ome_zarr_models.open_ome_zarr(zarr.open_group(store / "labels", mode="r"))
    assert type(labels_group).__module__ == "ome_zarr_models.v05.labels"
    container = ngio.open_ome_zarr_container(str(store))
    assert container.list_labels() == ["cells"]
    found = campaign.found(image)
    assert (container.get_label("cells").get_as_numpy().squeeze() == found.squeeze()).all()
    table = container.get_table("cells").dataframe
    assert sorted(table.index) == sorted(np.unique(found[found > 0]).tolist())
    read = [np.asarray(node.data[0]) for node in Reader(parse_url(str(store)))() if node.data]
    assert len(read) == 2
    assert any(np.array_equal(array.squeeze(), found.squeeze()) for array in read)


def test_a_crash_anywhere_costs_only_what_was_not_recorded(movie, monkeypatch):
    image = movie.ingest("calm")
    movie.predict(image)
    calm = scenes.snapshot(image.with_suffix(".ome.zarr") / "labels")
    other = movie.ingest("stormy")
    write, counts = volumes.write_shard, itertools.count(1)

    class CrashError(RuntimeError):
        pass

    def dying(*arguments):
        if next(counts) % 15 == 0:
            raise CrashError
        return write(*arguments)

    monkeypatch.setattr(volumes, "write_shard", dying)
    for _ in range(200):
        try:
            movie.predict(other)
            break
        except CrashError:
            pass
    stormy = scenes.snapshot(other.with_suffix(".ome.zarr") / "labels")
    shards_of = [{k: v for k, v in s.items() if "/c/" in k} for s in (calm, stormy)]
    assert shards_of[0] == shards_of[1]
    assert not list((movie.folder / "predict" / "cells").glob("*.building*"))


def test_another_recipe_replaces_labels_only_when_they_are_whole(movie, monkeypatch):
    image = movie.ingest("renewed")
    movie.predict(image)
    before = scenes.snapshot(image.with_suffix(".ome.zarr"))

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(volumes, "write_shard", fail)
        with pytest.raises(OSError, match="No space left"):
            movie.predict(image, foreground=0.7)
    assert scenes.snapshot(image.with_suffix(".ome.zarr")) == before
    movie.predict(image, foreground=0.7)
    assert scenes.snapshot(image.with_suffix(".ome.zarr")) != before


def test_shards_that_disagree_on_an_object_are_made_again_together(movie, monkeypatch):
    """As where a processor of another kind rounds otherwise, and loses a centre."""
    image = movie.ingest("disputed")
    calm = movie.predict(image)
    expected = movie.found(image)
    store = image.with_suffix(".ome.zarr")
    (movie.folder / "predict" / "cells" / "disputed.json").unlink()
    shutil.rmtree(store / "labels" / "cells")
    find = sweep_outlines.Outlines._found

    def losing(self, *given):
        found = find(self, *given)
        # Those that lie so near to the shard's edge that their objects cross it.
        return found[:, ~np.isin(found[1], (30, 31))] if disputing else found

    def one_by_one(work):
        nonlocal disputing
        for unit in work.missing():
            disputing = isinstance(unit, Tree) and unit.first == unit.box.start[2] == 0
            work([unit])

    disputing = False
    monkeypatch.setattr(sweep_outlines.Outlines, "_found", losing)
    monkeypatch.setattr(shards, "MOST_SHARDS_PER_TREE", 1)
    facts = movie.predict(image, one_by_one)
    assert facts["orphans"] == 0
    assert facts["repaired"] > 0
    assert (movie.found(image) == expected).all()
    assert facts["objects"] == calm["objects"]


def test_a_volume_of_other_voxels_is_refused(movie):
    voxel = {a: 3.3 * scenes.VOXEL[a] for a in movie.axes if a in "zyx"}
    acquired = movie.acquired.model_copy(
        update={"voxel_size_um": type(movie.acquired.voxel_size_um).model_validate(voxel)}
    )
    receipt = movie.folder / "ingest" / "coarse.json"
    ingest.ingest(receipt, scenes.ingest_task(acquired), scenes.here)
    with pytest.raises(ValueError, match=r"coarse\.ome\.zarr has no level near the model's voxels"):
        movie.predict(receipt)


def test_two_models_on_one_volume_are_both_listed(tmp_path):
    group = tmp_path / "labels"
    for name in ("first", "second"):
        (group / name).mkdir(parents=True)
        (group / name / "zarr.json").write_text(
            json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
        )
        publication.list_children(group, "labels")
    assert volumes.attributes(group)["ome"]["labels"] == ["first", "second"]
