"""Predict: a model and a volume become instance labels and a table of objects."""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import (
    cards,
    checksums,
    former,
    ngff,
    planning,
    publication,
    receipts,
    segment,
    shards,
    tiles,
    volumes,
)
from pipeline import view as views
from pipeline.cards import Card
from pipeline.config import PredictTask
from pipeline.planning import Plan
from pipeline.segment import Segment
from pipeline.tiles import Box, Level, Tree
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.predict")
REPAIRS = 3
"""Rounds in which shards that disagree on an object are made again, together."""


def _one(_work: shards.Shards, _units: Sequence[Tree]) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Means:
    """What a job may use.

    Attributes
    ----------
    workers: threads.
    memory_mb: 0 where nothing was promised.
    jobs: how many jobs the units of some work are dealt to.
    """

    workers: int = 1
    memory_mb: int = 0
    jobs: Callable[[shards.Shards, Sequence[Tree]], int] = _one


@dataclass(frozen=True, slots=True)
class Together:
    """Work whose missing units go to one job."""

    work: shards.Shards

    def missing(self) -> list[tuple[Tree, ...]]:
        """All that is missing, as one unit."""
        missing = tuple(self.work.missing())
        return [missing] if missing else []

    def trace(self) -> int:
        """How many shards are recorded."""
        return self.work.trace()

    def __call__(self, share: Sequence[Sequence[Tree]]) -> None:
        """Do it."""
        for trees in share:
            self.work(trees)


def predict(
    receipt: Path,
    image: Path,
    model: Path,
    task: PredictTask,
    means: Means,
    run: Callable[[Any], None],
) -> None:
    """Write labels and table into the volume, then the receipt.

    `image` and `model` are the receipts of ingest and finetune. `run` completes the units that a
    phase lacks, wherever that is.
    Raises ValueError where the volume has no level or channel that the model can look at, where
    the model's tiles would show seams, or where memory does not suffice.
    """
    # plan
    volume = volumes.open_volume(receipts.result(image, "volume"))
    bundle = receipts.result(model, "model")
    card = cards.read(bundle)
    view = views.view(volume, card.channel, card.voxel_size_um)
    recipe = receipts.recipe(
        "predict",
        task.model_dump(mode="json"),
        {"image": receipts.identity(image), "model": receipts.identity(model)},
    )
    levels = volume.label_levels
    target = volume.store / "labels" / model.stem
    building = receipt.with_suffix(".building")
    own = volumes.attributes(target).get("equiscope", {})
    table = volume.store / "tables" / model.stem / volumes.TABLE
    if (
        own.get("recipe") == recipe
        and receipts.bytes_digest(table) == own["facts"]["table"]
        and not checksums.harmed(target, levels, own["facts"]["digest"])
    ) or former.take_labels_back(volume.store, model.stem, recipe, levels):
        log.info("%s is there and whole, made from the same recipe", target)
        facts = volumes.attributes(target)["equiscope"]["facts"]
        receipts.write(receipt, {"recipe": recipe, "facts": facts})
        _sweep(building)
        return
    if math.prod(levels[0].shape) >= 2**63:
        raise ValueError(
            f"{volume.store.name} has {math.prod(levels[0].shape):,} voxels, and an id is the "
            "address of one in 63 bits. Split the acquisition."
        )
    publication.check_place(receipt.parent, volume.store)
    parts = _parts(building)
    axes = volume.axes.replace("c", "")
    sides = tuple(side for side, axis in zip(levels[0].shard, axes, strict=True) if axis in "zyx")
    labels = Segment(view, bundle, task.predict, sides, parts, means.workers, means.memory_mb)
    work = shards.Shards(building, levels, recipe["hash"], (), labels, "first")
    log.info("%s", plan(work, card, means))
    if why_not := labels.unrefined(card):
        log.warning("%s", why_not)

    # act
    shards.begin(building, recipe, levels, axes, np.uint64, "labels")
    parts.mkdir(parents=True, exist_ok=True)
    records = shards.complete(work, run, shards.MOST_SHARDS_PER_TREE)
    from pipeline import census  # its libraries are large, and a driver that waits needs none

    rows = building.with_name(f"{building.name}.table")
    shutil.rmtree(rows, ignore_errors=True)
    rows.mkdir(parents=True)
    finished = census.table(work, rows)
    repaired: set[int] = set()
    for _ in range(REPAIRS):
        if not finished.orphans:
            break
        repaired |= set(finished.orphans)
        log.info("%d objects without their centre: their shards again", len(finished.orphans))
        shards.forget(work, census.holders(work, finished.orphans))
        records = shards.complete(
            work, lambda phase: run(Together(phase)), shards.MOST_SHARDS_PER_TREE
        )
        finished = census.table(work, rows)
    facts = {
        "objects": finished.objects,
        "objects_per_frame": list(finished.per_frame),
        "orphans": len(finished.orphans),
        "repaired": len(repaired - set(finished.orphans)),
        "digest": checksums.keep(building, records),
        "table": finished.sha256,
    }
    cost = shards.cost(work.units)
    _publish(volume, model.stem, building, rows, target, levels, {"recipe": recipe, "facts": facts})

    # receipt
    receipts.write(receipt.with_suffix(".cost.json"), cost)
    receipts.write(receipt, {"recipe": recipe, "facts": facts})
    _sweep(building)


def plan(work: shards.Shards, card: Card, means: Means) -> Plan:
    """What the work will take; `work` is that of a `Segment`.

    Raises ValueError where tiles of this model would show seams, or a job has too little memory.
    """
    if card.certificate.beyond_receptive_field:
        raise ValueError(
            f"the certificate of the model says that voxels beyond its receptive field change it "
            f"by {card.certificate.beyond_receptive_field:g}: its tiles would show seams. Train it "
            "again: delete its receipt in results/finetune, and run."
        )
    labels: Segment = work.fill  # type: ignore[assignment]
    volume, grid, geometry = labels.view.volume, labels.grid(card), labels.geometry(card)
    takes = labels.footprint(card)
    if means.memory_mb and takes.total_mb(1) > means.memory_mb:
        raise ValueError(segment.too_little(takes, means.memory_mb))
    axes = volume.axes.replace("c", "")
    shard_count, units, tile_count, passes = planning.count(
        work.levels, axes, labels.view.lattice, grid, geometry, shards.MOST_SHARDS_PER_TREE
    )
    voxels = math.prod(work.levels[0].shape)
    read = math.prod(grid.reads(Box((0,) * len(grid.tile), grid.tile)).shape)
    return Plan(
        voxels=voxels,
        shards=shard_count,
        units=units,
        jobs=means.jobs(work, tiles.phases(work.levels, shards.MOST_SHARDS_PER_TREE)[0]),
        tiles=tile_count,
        context=read / math.prod(grid.tile),
        passes=passes,
        files=shard_count + len(work.levels) + 4,
        label_bytes=8 * sum(math.prod(level.shape) for level in work.levels),
        memory_mb=takes.total_mb(1),
    )


def _parts(building: Path) -> Path:
    """Where shards leave their parts of the table: beside their records, to be swept with them."""
    return shards.units_folder(building) / "parts"


def _publish(
    volume: Volume,
    model: str,
    building: Path,
    rows: Path,
    target: Path,
    levels: Sequence[Level],
    own: dict[str, Any],
) -> None:
    """Describe labels and table, and put both where readers look."""
    axes = volume.axes.replace("c", "")
    blocks = ngff.multiscales(model, axes, levels, volume.calibration, "first")
    described = {"levels": [asdict(level) for level in levels], **own}
    volumes.annotate(building, {"ome": ngff.image_label(blocks), "equiscope": described})
    volumes.describe_table(rows, model, own)
    publication.find_room(volume.store)
    former.put_labels_aside(volume.store, model, own["recipe"]["hash"])
    publication.publish(rows, volume.store / "tables" / model)
    publication.publish(building, target)
    publication.list_children(volume.store / "tables", "tables")
    publication.list_children(volume.store / "labels", "labels")


def _sweep(building: Path) -> None:
    shutil.rmtree(shards.units_folder(building), ignore_errors=True)
