"""Verify: whether a volume, its labels and tables are still what was written."""

import logging
from collections.abc import Iterator
from pathlib import Path

from pipeline import checksums, receipts, volumes

log = logging.getLogger("equiscope.verify")


def verify(store: Path) -> list[str]:
    """All that is harmed, a sentence each; empty where every byte is as it was written.

    Compares all bytes with the checksums that were kept when the store was published.
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
    remedy = f"delete its receipt of {stage} and run again: what is harmed is made anew."
    harmed = checksums.harmed(store, volumes.levels_of(own), own["facts"]["digest"])
    for file, how in harmed.items():
        yield f"{store / file} is {how}: {remedy}"


def _table_faults(store: Path, table: Path) -> Iterator[str]:
    labels = store / "labels" / table.parent.name
    own = volumes.attributes(labels).get("equiscope", {})
    if own and receipts.bytes_digest(table) != own["facts"]["table"]:
        yield (
            f"{table} has other bytes than were written: delete its receipt of predict and run "
            "again: it is made anew."
        )
