"""Checksums of a finished store's shards, which lie in it and tell which of them are harmed."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import xxhash
from tqdm import tqdm

from pipeline import receipts, records, volumes
from pipeline.tiles import Level

FILE = "0/checksums.json"
"""In the folder of the finest level, where no reader of Zarr looks for arrays."""
PIECE_BYTES = 2**18
QUIET_S = 2.0
"""A check that takes no longer shows no progress."""


def of(path: Path) -> str:
    """XXH3 of a file's bytes, of 128 bits.

    It finds any accident, at the speed of memory. A CRC would not do: that of parts which end in
    their own CRC tells nothing but their lengths.
    """
    checksum = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(PIECE_BYTES):
            checksum.update(piece)
    return checksum.hexdigest()


def keep(store: Path, written: Iterable[records.Written]) -> str:
    """Write down the checksum of every shard. Returns one hash over them all."""
    sums = {said.file: said.checksum for said in written}
    receipts.write(store / FILE, sums)
    return receipts.fingerprint(sums)


def kept(store: Path, expected: str) -> dict[str, str]:
    """The checksum of every shard by its file; empty where they are not those of `expected`."""
    try:
        sums = receipts.read(store / FILE)
    except ValueError:
        return {}
    return sums if receipts.fingerprint(sums) == expected else {}


def harmed(store: Path, levels: Sequence[Level], expected: str) -> dict[str, str]:
    """Shards, by file, that are not what was written, and what they are: lost or damaged.

    Reads every byte. Where the checksums themselves are not those of `expected`, all are.
    """
    sums, found = kept(store, expected), {}
    files = [file for file, _, _ in volumes.shard_files(levels)]
    for file in tqdm(files, desc=f"checking {store.name}", unit="shard", delay=QUIET_S):
        if not (store / file).is_file():
            found[file] = "lost"
        elif of(store / file) != sums.get(file):
            found[file] = "damaged"
    return found


def reopen(store: Path, building: Path, units: Path, harmed: Mapping[str, str]) -> None:
    """Take a published store apart, so that its harmed shards, by file, are made again alone.

    It becomes `building`, with labels and tables in it, and gets records of what is whole.
    """
    for folder in (building, units):
        shutil.rmtree(folder, ignore_errors=True)
    own = volumes.attributes(store)["equiscope"]
    sums = kept(store, own["facts"]["digest"])
    for file, level, box in volumes.shard_files(volumes.levels_of(own)):
        if file in sums and file not in harmed:
            size = (store / file).stat().st_size
            said = {"file": file, "bytes": size, "checksum": sums[file]}
            said |= {"recipe": own["recipe"]["hash"], "facts": {}, "beside": {}}
            receipts.write(units / records.name(level, box), said, durable=False)
    store.rename(building)
