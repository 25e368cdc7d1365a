"""Ways to write a stack as a pyramid, each in a process of its own: what they are given.

`python -m benchmarks.peers.written NAME JOB.json` runs one; see `WAYS`.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

WAYS = {
    "alone": "written_alone:write",
    "dask": "written_dask:write",
    "ome_zarr_pages": "written_ome_zarr:from_pages",
    "ome_zarr_shards": "written_ome_zarr:from_shards",
}
"""The module of each, and its function, which is called with a `Job`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One level as ours has it; all tuples follow `z, y, x`."""

    factors: tuple[int, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What all are given.

    Attributes
    ----------
    stack: the TIFF.
    levels: how to lay them out.
    voxels: files of each level's voxels, for the way that does not compute them.
    store: to write; none is there before.
    voxel_size_um: along `z, y, x`.
    """

    stack: Path
    levels: tuple[Layout, ...]
    voxels: tuple[Path, ...]
    store: Path
    voxel_size_um: tuple[float, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), default=str), "utf-8")


def read(path: Path) -> Job:
    """Read what `Job.write` wrote."""
    said = json.loads(path.read_text("utf-8"))
    return Job(
        stack=Path(said["stack"]),
        levels=tuple(
            Layout(**{key: tuple(value) for key, value in level.items()})
            for level in said["levels"]
        ),
        voxels=tuple(map(Path, said["voxels"])),
        store=Path(said["store"]),
        voxel_size_um=tuple(said["voxel_size_um"]),
    )


def codecs() -> list[Any]:
    """Those of ingest's images, made anew from what zarr offers."""
    made = import_module("zarr.codecs")
    blosc = made.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=2)
    return [blosc, made.Crc32cCodec()]


def layout(level: Layout) -> Mapping[str, Any]:
    """The arguments of `zarr.create_array` that lay out a level."""
    return {"chunks": level.chunk, "shards": level.shard, "compressors": codecs()}


def main() -> None:
    """Run one way."""
    name, path = sys.argv[1:]
    module, _, way = WAYS[name].partition(":")
    getattr(import_module(f"benchmarks.peers.{module}"), way)(read(Path(path)))


if __name__ == "__main__":
    main()
