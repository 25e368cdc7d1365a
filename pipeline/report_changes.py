"""What became of objects when labels of another recipe took the place of earlier ones."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pipeline import changes, figures, former, prospects, volumes
from pipeline.changes import Fates, Shared
from pipeline.report_errors import around
from pipeline.report_prediction import Crop, Prediction
from pipeline.tiles import Box, boxes

MOST_VOXELS = 2**33
"""Larger volumes are not compared: both would be read whole, by one process."""
CELLS, CELL_SIDE = 6, 160
"""Objects shown of each fate, and the least side of a picture in pixels."""
KINDS = ("gained", "lost", "split", "merged", "moved")


@dataclass(frozen=True, slots=True)
class Compared:
    """Present labels beside those whose place they took.

    Attributes
    ----------
    facts: for the receipt: name of the earlier labels, what differs in the recipes, counts.
    crops: pictures of what changed, by kind.
    """

    facts: Mapping[str, Any]
    crops: Mapping[str, list[Crop]]


def inputs(found: Sequence[Prediction]) -> dict[str, str]:
    """For the report's recipe: the earlier labels of each prediction that has any."""
    return {
        f"{p.model}/{p.acquisition}{former.BEFORE}": name
        for p in found
        if (name := former.before(p.volume.store, p.model))
    }


def compared(p: Prediction, overlap: float) -> Compared | None:
    """Compare a prediction with the labels before it; None where there are none."""
    name = former.before(p.volume.store, p.model)
    if not name:
        return None
    own = former.labels(p.volume.store, p.model)[name]
    facts: dict[str, Any] = {
        "labels": name,
        "objects": own["facts"]["objects"],
        "differs": list(_differing(own["recipe"], p.made["recipe"])),
        "counts": None,
    }
    old = replace(p, model=name)
    comparable = own["levels"][0]["shape"] == list(p.volume.label_levels[0].shape)
    if not comparable or math.prod(p.volume.label_levels[0].shape) > MOST_VOXELS:
        return Compared(facts, {})
    found = changes.fates(changes.joined(_shared(p, old)), overlap)
    crops = {kind: list(_crops(p, old, kind, found)) for kind in KINDS}
    return Compared(facts | {"counts": found.counts()}, crops)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    if old["version"] != new["version"]:
        yield f"version: {old['version']} → {new['version']}"
    for place, before, now in prospects.changed(old["settings"], new["settings"]):
        yield f"{place}: {before} → {now}"
    for kind in ("image", "model"):
        if old["inputs"][kind] != new["inputs"][kind]:
            yield f"another {kind}"


def _shared(p: Prediction, old: Prediction) -> Iterator[Shared]:
    """Pairs of ids, shard by shard: memory does not grow with the volume."""
    sides = p.volume.label_levels[0].shard[-len(p.shape) :]
    for frame in range(p.frames):
        for box in boxes(p.shape, sides):
            yield changes.shared(old.labels(0, box, frame), p.labels(0, box, frame))


def _crops(p: Prediction, old: Prediction, kind: str, found: Fates) -> Iterator[Crop]:
    """The first objects of a fate: the image, and outlines before and after over it."""
    chosen = list(getattr(found, kind))
    after = kind in ("gained", "merged")
    table = p.table if after else volumes.read_table(old.volume.store, old.model)
    for one in chosen[:CELLS]:
        row = table.loc[one[0] if kind == "moved" else one]
        yield _crop(p, old, kind, row)


def _crop(p: Prediction, old: Prediction, kind: str, row: "pd.Series[Any]") -> Crop:
    frame, middle = int(row["t"]), [round(float(row[axis])) for axis in p.volume.space]
    box, pads = around(p, middle)
    image = p.image(0, box, frame).reshape(box.shape[-2:])
    low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1)
    image = np.pad(image, pads, constant_values=image.min())
    before, after = (np.pad(_plane(one, box, frame), pads) for one in (old, p))
    none = np.zeros_like(before)
    drawn = [
        figures.overlay(image, labels, low, high, CELL_SIDE) for labels in (none, before, after)
    ]
    where = ", ".join(f"{a} {m}" for a, m in zip(p.volume.space, middle, strict=True))
    size = f", {row[p.size_column]:.0f} {p.size_unit}" if p.size_column in row else ""
    return Crop(
        array=figures.beside(figures.beside(drawn[0], drawn[1]), drawn[2]),
        caption=f"{kind}{size}: {where}" + (f", frame {frame}" if p.frames > 1 else ""),
        alt=f"An object that was {kind}{size}, at voxel {where} of frame {frame}: the image, "
        "outlines before, outlines now.",
    )


def _plane(p: Prediction, box: Box, frame: int) -> Any:
    return p.labels(0, box, frame).reshape(box.shape[-2:])
