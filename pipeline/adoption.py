"""OME-Zarr that is fit as it is becomes a volume without a copy of its voxels."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import checksums, receipts, records, spot_checks, volumes
from pipeline.readers import Source
from pipeline.tiles import Level

INNER = (["bytes", "blosc", "crc32c"], ["bytes", "zstd", "crc32c"])
"""Codecs of chunks that can be checked by their own bytes, and are read as fast as our own."""


class UnfitError(Exception):
    """Why a source has to be converted."""


def fit(source: Source) -> tuple[Level, ...]:
    """The levels of a source that can be used as it is.

    That is OME-Zarr 0.5 of our axes, sharded, with checksums of chunks, exact factors, and a file
    for every shard. Raises UnfitError where it is not.
    """
    folder = _folder(source)
    said = _json(folder / "zarr.json").get("attributes", {}).get("ome", {})
    if str(said.get("version", "")) != "0.5":
        raise UnfitError("it is not OME-Zarr 0.5")
    if source.file_axes != source.axes or source.takes != tuple(range(len(source.channels))):
        raise UnfitError(f"its axes are {source.file_axes} and not {source.axes}")
    if len(source.takes) != source.shape[source.axes.index("c")]:
        raise UnfitError("not all of its channels are asked for")
    datasets = said["multiscales"][0]["datasets"]
    first = _scale(datasets[0])
    levels = tuple(
        _level(_json(folder / entry["path"] / "zarr.json"), number, first, _scale(entry), source)
        for number, entry in enumerate(datasets)
    )
    for name, level, _ in volumes.shard_files(levels):
        _, _, place = name.partition("/")
        file = folder / datasets[level.number]["path"] / place
        if not file.is_file() or not file.stat().st_size:
            raise UnfitError(f"{file} is not there, which may be zeros or a loss")
    return levels


def adopt(source: Source, levels: Sequence[Level], building: Path) -> str:
    """Make a store whose arrays lead to those of the source. Returns the hash of all shards.

    Raises UnfitError where a level is not the mean of the one below it.
    """
    folder = _folder(source)
    datasets = _json(folder / "zarr.json")["attributes"]["ome"]["multiscales"][0]["datasets"]
    for level, entry in zip(levels, datasets, strict=True):
        array, there = building / str(level.number), folder / entry["path"]
        receipts.write(array / "zarr.json", _json(there / "zarr.json"))
        (array / "c").symlink_to(os.path.relpath((there / "c").resolve(), array.resolve()))
    volumes.write_group(building, {})
    try:
        strange = spot_checks.faults(building, levels, source)
    except (OSError, ValueError) as error:
        raise UnfitError(f"it cannot be read: {error}") from error
    if strange:
        raise UnfitError(strange[0])
    files = (name for name, _, _ in volumes.shard_files(levels))
    return checksums.keep(
        building,
        (records.Written(name, checksums.of(building / name)) for name in files),
    )


def _folder(source: Source) -> Path:
    return source.path if source.series == "image" else source.path / source.series


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UnfitError(f"{path} is no Zarr of version 3") from error
    return dict(found)


def _scale(entry: Mapping[str, Any]) -> list[float]:
    found = [one["scale"] for one in entry["coordinateTransformations"] if one["type"] == "scale"]
    return [float(value) for value in found[0]]


def _level(
    array: Mapping[str, Any], number: int, first: list[float], scale: list[float], source: Source
) -> Level:
    ratio = [a / b for a, b in zip(scale, first, strict=True)]
    factors = tuple(2 ** round(math.log2(value)) for value in ratio)
    shape = tuple(array.get("shape", ()))
    if any(not math.isclose(a, b, rel_tol=1e-6) for a, b in zip(ratio, factors, strict=True)):
        raise UnfitError(f"level {number} is {ratio} times as coarse, no powers of two")
    if shape != tuple(-(-n // f) for n, f in zip(source.shape, factors, strict=True)):
        raise UnfitError(f"level {number} has the shape {shape}, which its scale does not explain")
    codecs = array["codecs"]
    inner = codecs[0].get("configuration", {})
    named = [step["name"] for step in inner.get("codecs", [])]
    key = array["chunk_key_encoding"]
    if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed" or named not in INNER:
        raise UnfitError(f"level {number} is not sharded, or its chunks have no checksums")
    if key["name"] != "default" or key.get("configuration", {}).get("separator", "/") != "/":
        raise UnfitError(f"level {number} names its shards otherwise")
    if inner.get("index_location", "end") != "end" or array["fill_value"] != 0:
        raise UnfitError(f"level {number} has its index elsewhere, or is filled with other than 0")
    shard = tuple(array["chunk_grid"]["configuration"]["chunk_shape"])
    chunk = tuple(inner["chunk_shape"])
    if shard[source.axes.index("c")] != 1 or ("t" in source.axes and chunk[0] != 1):
        raise UnfitError(f"level {number} has several channels in a shard, or frames in a chunk")
    return Level(number, factors, shape, chunk, shard)
