"""Records of shards: one small file each, written after the shard, says what has to lie there."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import receipts
from pipeline.sentences import listed
from pipeline.tiles import Box, Level, boxes

log = logging.getLogger("equiscope.records")

NAMED = 8
"""Damaged shards that a line of the log names; of more it says how many."""


@dataclass(frozen=True, slots=True)
class Written:
    """A shard as it was written. Slim, since a volume may have millions."""

    file: str
    checksum: str


def name(level: Level, box: Box) -> str:
    """The file name of a shard's record."""
    return "-".join(map(str, (level.number, *box.start))) + ".json"


def shard(levels: Sequence[Level], record: str) -> tuple[Level, Box]:
    """The shard that a record of this name is of."""
    number, *start = map(int, record.removesuffix(".json").split("-"))
    level = levels[number]
    stop = tuple(a + side for a, side in zip(start, level.shard, strict=True))
    return level, Box(tuple(start), stop).clipped(level.shape)


def above(levels: Sequence[Level], level: Level, box: Box) -> Iterator[str]:
    """Names of the records of a shard and of all that are made from it."""
    for coarse in levels[level.number :]:
        for over in boxes(coarse.shape, coarse.shard, box.coarsened(coarse.per(level))):
            yield name(coarse, over)


def names(units: Path) -> set[str]:
    """Names of the records that there are."""
    if not units.is_dir():
        return set()
    with os.scandir(units) as entries:
        return {e.name for e in entries if e.name.endswith(".json") and not e.name.startswith(".")}


def fault(record: str, recipe: str, store: Path, units: Path) -> str:
    """Why the shard with this record is not done; empty where it is."""
    try:
        said = receipts.read(units / record)
        return "of another recipe" if said["recipe"] != recipe else harm(said, store, units)
    except (ValueError, KeyError):
        return "without a whole record"


def harm(said: Mapping[str, Any], store: Path, units: Path) -> str:
    """Which of the files that a record speaks of is missing or torn, judged by size."""
    sizes = {store / said["file"]: said["bytes"]}
    sizes |= {units / file: size for file, size in said["beside"].items()}
    for file, size in sizes.items():
        try:
            found = file.stat().st_size
        except FileNotFoundError:
            return f"{file} missing"
        if found != size:
            return f"{file} torn"
    return ""


def warn(damaged: Mapping[str, str]) -> None:
    """Say which shards have to be made again, and why."""
    if damaged:
        said = [f"{record.removesuffix('.json')} ({harm})" for record, harm in damaged.items()]
        log.warning("damaged, so made again: %s", listed(said, NAMED))
