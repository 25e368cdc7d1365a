"""Results of a campaign with one model and one acquisition, and the report about them."""

import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import scenes
import tifffile

from pipeline import (
    cards,
    config,
    ingest,
    labelling,
    objects,
    receipts,
    report,
    report_montages,
    report_pictures,
    volumes,
)
from pipeline.report_prediction import Picture
from pipeline.tiles import boxes

MODEL, ACQUISITION = "nuclei", "dish"
FEW_SHARDS = {
    "chunk_voxels": {"yx": [48, 80], "zyx": [12, 48, 80]},
    "shard_voxels": {"yx": [48, 80], "zyx": [12, 48, 80]},
    "smallest_level_voxels": 64,
}


def squares(places, sides, half=3):
    """Labels 1, 2, ... of cubes or squares around places."""
    labels = np.zeros(sides, np.uint64)
    for number, place in enumerate(places, start=1):
        labels[tuple(slice(max(0, a - half), a + half + 1) for a in place)] = number
    return labels


GRID = [(y, x) for y in (8, 24, 40) for x in (8, 24, 40, 56, 72)]
SIDES = (48, 80)


class Bench:
    """A campaign's results with one model and one acquisition, labels given by the test."""

    def __init__(self, folder, axes, predicted, reference, image=None, shot=None, **given):
        self.folder, self.results = folder, folder / "results"
        self.axes, self.predicted, self.given = axes, predicted, given
        made_up = np.where(predicted > 0, 200, 20).astype(np.uint16)
        acquired = scenes.write(folder / "dish.tif", made_up if image is None else image, axes)
        acquired = acquired.model_copy(update={"channels": ("DNA",)})
        tifffile.imwrite(folder / "truth.tif", reference.astype(np.uint16))
        receipt = self.results / "ingest" / f"{ACQUISITION}.json"
        ingest.ingest(receipt, scenes.ingest_task(acquired, **FEW_SHARDS), scenes.here)
        self.volume = volumes.open_volume(receipt.with_suffix(".ome.zarr"))
        self._finetuned(shot)
        self._predicted()

    def labels(self):
        return scenes.annotation(self.folder / "truth.tif", self.axes)

    def _finetuned(self, shot):
        region = {"t": [0, 1]} if shot is None and "t" in self.axes else shot or {}
        shots = [{"acquisition": ACQUISITION, "labels": self.labels(), "region": region}]
        shots = [] if shot == "elsewhere" else shots
        space = self.volume.space
        card = cards.Card(
            architecture={
                "axes": space,
                "group": "d4",
                "channels": 1,
                "fields": 2,
                "pooling": [[2] * len(space)],
            },
            diameter_um=self.given.get("diameter_um", 3.5),
            voxel_size_um=tuple(self.volume.voxel_size_um[a] for a in space),
            channel="DNA",
            optics=None,
            unit_voxels=(7.0,) * len(space),
            receptive_field=(11,) * len(space),
            reach=(9,) * len(space),
            base=None,
            origin="from nothing",
            gate=cards.Gate(promoted=True, reason="It learned from nothing."),
            shots=1,
            objects=9,
            loss=(3.0, 2.0, 1.0),
            certificate=cards.Certificate(
                equivariance=self.given.get("equivariance", 5e-7),
                equivariance_double=1e-15,
                between_lattice_turns=0.1,
                export=1e-6,
                beyond_receptive_field=0.0,
            ),
            recipe="none",
        )
        folder = self.results / "finetune"
        receipts.write(folder / f"{MODEL}.model" / cards.CARD, card.model_dump(mode="json"))
        recipe = receipts.recipe("finetune", {"shots": shots}, {})
        receipts.write(folder / f"{MODEL}.json", {"recipe": recipe, "facts": {}})

    def _predicted(self):
        frames = self.predicted if "t" in self.axes else self.predicted[None]
        store, axes = self.volume.store / "labels" / MODEL, self.volume.axes.replace("c", "")
        levels = self.volume.label_levels
        store.parent.mkdir()
        volumes.create(store, levels, axes, np.uint64, "labels")
        for level in levels:
            step = tuple(slice(None, None, factor) for factor in level.factors)
            coarse = self.predicted[step].astype(np.uint64)
            for box in boxes(level.shape, level.shard):
                volumes.write_shard(store, level, box, coarse[box.slices])
        space, start = self.volume.space, (0,) * len(self.volume.space)
        ids = [np.unique(labels[labels > 0]) for labels in frames]
        parts = [
            objects.parts(
                labels,
                [labels],
                np.full(labels.shape, labelling.CERTAIN, np.uint16),
                labels > 0,
                start,
                space,
                ["DNA"],
                t,
                ids[t],
            )
            for t, labels in enumerate(frames)
        ]
        rows = objects.combined(pd.concat(parts, ignore_index=True))
        table = objects.measured(rows, space, self.volume.voxel_size_um, ["DNA"])
        recipe = receipts.recipe(
            "predict",
            {
                "predict": {
                    "smallest_object": self.given.get("smallest_object", 0.15),
                    "tile_voxels": {"yx": [24, 40], "zyx": [4, 24, 40]},
                }
            },
            {"model": receipts.identity(self.results / "finetune" / f"{MODEL}.json")},
        )
        counts = [len(here) for here in ids]
        facts = {
            "objects": sum(counts),
            "objects_per_frame": counts,
            "orphans": self.given.get("orphans", 0),
        }
        volumes.annotate(
            store, {"equiscope": {"levels": [asdict(v) for v in levels], "recipe": recipe}}
        )
        volumes.write_table(self.volume.store / "tables" / MODEL, table, MODEL, {})
        receipts.write(self.predict_receipt, {"recipe": recipe, "facts": facts})

    @property
    def predict_receipt(self):
        return self.results / "predict" / MODEL / f"{ACQUISITION}.json"

    def page(self, name="report.html"):
        """The text of a page of the report."""
        return (self.receipt.parent / name).read_text(encoding="utf-8")

    @property
    def receipt(self):
        return self.results / "report" / "campaign.json"

    def report(self, origin="drawn by a person", viewer_url="none"):
        """Make the report; its facts about the one result, and the acquisition's page."""
        reference = {"acquisition": ACQUISITION, "labels": self.labels(), "origin": origin}
        task = config.ReportTask.model_validate({
            "campaign": "bench",
            "references": {MODEL: [reference] if origin else []},
            "linking_um": {},
            "report": {
                "pictures": 3, "overlap": 0.5, "windows": 0, "first": 20, "viewer_url": viewer_url,
            },
        })  # fmt: skip
        report.report(
            self.receipt, self.results, {(MODEL, ACQUISITION): self.predict_receipt}, task
        )
        page = self.page(f"acquisitions/{ACQUISITION}.html")
        return receipts.read(self.receipt)["facts"]["results"][f"{MODEL}/{ACQUISITION}"], page


def undraw(monkeypatch):
    """Let reports have blank pictures, but for the crops beside the scores.

    Scores and doubts owe nothing to pictures, which take most of a report's time.
    """
    blank = Picture("", "", b"")
    monkeypatch.setattr(report_pictures, "overlays", lambda *_: ([], blank))
    monkeypatch.setattr(report_pictures, "plots", lambda *_: {"sizes": blank})
    monkeypatch.setattr(report_montages, "montages", lambda *_: {})
    monkeypatch.setattr(report_montages, "scales", lambda *_: [])
    monkeypatch.setattr(report_pictures, "disagreement", lambda *_: blank)


def movie(frames=6):
    """A movie in which every frame has the grid, ids differing from frame to frame."""
    frame = squares(GRID, SIDES)
    stack = np.stack([np.where(frame > 0, frame + 100 * t, 0) for t in range(frames)])
    return stack.astype(np.uint64)


def without(labels, *ids):
    return np.where(np.isin(labels, ids), 0, labels)


class Page(HTMLParser):
    """What a page holds: images, headings, addresses, ids."""

    def __init__(self, text):
        super().__init__()
        self.images, self.headings, self.addresses, self.ids, self.text = [], [], [], [], []
        self._heading = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.ids += [said["id"]] if "id" in said else []
        self.addresses += [said[key] for key in ("src", "href", "action", "srcset") if key in said]
        if tag == "img":
            self.images.append(said)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append([int(tag[1]), ""])
            self._heading = tag

    def handle_endtag(self, tag):
        if tag == self._heading:
            self._heading = None

    def handle_data(self, data):
        self.text.append(data)
        if self._heading:
            self.headings[-1][1] += data
