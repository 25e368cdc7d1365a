"""Verify: whether a volume, its labels and tables are still what was written."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from pipeline import receipts, shards, volumes
from pipeline.tiles import Level, boxes

log = logging.getLogger("equiscope.verify")


def verify(store: Path) -> list[str]:
    """All that is harmed, a sentence each; empty where every byte is as it was written.

    Decodes every chunk, whose checksums tell which shards are harmed, and compares all bytes with
    what was recorded when the store was published.
    Raises ValueError where there is no such store.
    """
    volumes.open_volume(store)
    faults = list(_faults(store, "ingest"))
    for labels in sorted((store / "labels").glob("*/zarr.json")):
        faults += _faults(labels.parent, "predict")
    for table in sorted((store / "tables").glob(f"*/{volumes.TABLE}")):
        faults += _table_faults(store, table)
    return faults


def _faults(store: Path, stage: str) -> Iterator[str]:
    own = volumes.attributes(store).get("equiscope")
    if own is None:
        log.info("%s was not made here: passed over", store)
        return
    levels = volumes.levels_of(own)
    harmed = list(_harmed(store, levels))
    remedy = f"delete its receipt of {stage} and run again: it is made anew."
    for path, how in harmed:
        yield f"{path} is {how}: {remedy}"
    if not harmed and not shards.is_whole(store, levels, own["facts"]["digest"]):
        yield f"{store} has other bytes than were written, though all of them decode: {remedy}"


def _harmed(store: Path, levels: Sequence[Level]) -> Iterator[tuple[Path, str]]:
    bar = tqdm(total=sum(level.shards for level in levels), unit="shard", desc=store.name)
    with bar:
        for level in levels:
            array = volumes.open_level(store, level.number)
            for box in boxes(level.shape, level.shard):
                path = store / volumes.shard_file(level, box)
                if not path.is_file():
                    yield path, "lost"
                elif not volumes.decodes(array, box):
                    yield path, "damaged"
                bar.update()


def _table_faults(store: Path, table: Path) -> Iterator[str]:
    labels = store / "labels" / table.parent.name
    own = volumes.attributes(labels).get("equiscope", {})
    if own and receipts.bytes_digest(table) != own["facts"]["table"]:
        yield (
            f"{table} has other bytes than were written: delete its receipt of predict and run "
            "again: it is made anew."
        )
