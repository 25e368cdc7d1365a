"""The census of a volume: what shards left of their objects becomes the table of all."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline import cards, shards, tables, tiles, volumes
from pipeline.segment import Segment
from pipeline.tiles import Box


def table(work: shards.Shards, folder: Path) -> tables.Finished:
    """Merge the parts of all shards into the table that will be published."""
    labels: Segment = work.fill  # type: ignore[assignment]
    volume, shape = labels.view.volume, work.levels[0].shape
    card = cards.read(labels.bundle)
    owning = labels.geometry(card).owning
    step = labels.view.lattice.step
    measure = tables.Measure(
        axes=volume.space,
        voxel_size_um=volume.voxel_size_um,
        channels=volume.channels,
        shape=shape,
        margin=tuple(math.ceil((o + 2) * s) for o, s in zip(owning, step, strict=True)),
    )
    return tables.finish(_groups(work), folder / volumes.TABLE, measure)


def _groups(work: shards.Shards) -> Iterator[tables.Group]:
    finest = work.levels[0]
    labels: Segment = work.fill  # type: ignore[assignment]
    for tree in tiles.phases(work.levels, shards.MOST_SHARDS_PER_TREE)[0]:
        box = tree.box.refined(work.levels[tree.last].factors).clipped(finest.shape)
        inside = tiles.boxes(finest.shape, finest.shard, box)
        parts = [tables.part(labels.parts, shard) for shard in inside]
        yield tables.Group(box.start, box.stop, parts)


def holders(work: shards.Shards, orphans: Sequence[int]) -> list[Box]:
    """Shards that have voxels of these objects, or should have their centres."""
    finest = work.levels[0]
    labels: Segment = work.fill  # type: ignore[assignment]
    centres = np.stack(np.unravel_index(np.asarray(orphans) - 1, finest.shape))
    found = []
    for shard in tiles.boxes(finest.shape, finest.shard):
        start, stop = np.reshape(shard.start, (-1, 1)), np.reshape(shard.stop, (-1, 1))
        owns = bool(((centres >= start) & (centres < stop)).all(axis=0).any())
        part = tables.part(labels.parts, shard)
        if owns or np.isin(tables.labels_of(part), orphans).any():
            found.append(shard)
    return found
