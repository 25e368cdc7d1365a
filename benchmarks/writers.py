"""All who write a raw stack as a pyramid: ours, peers, and the least that any of them does."""

import json
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
import zarr

from benchmarks import pyramids, stack, staging
from benchmarks.apart import spent
from benchmarks.peers.written import Job, Layout
from benchmarks.peers.written_alone import SPENT
from benchmarks.pyramids import Checked
from benchmarks.stack import VOXEL_UM, Stack

NGFF = staging.ROOT / ".venv-peers" / "ngff"
"""Where `make peers` puts ngff-zarr, with all that it needs."""
SHOWN_LINES = 15
ABSENT = "{}: not measured, it is not installed. To install: make peers."
OURS, ALONE = "ours", "writing alone"
PEERS = {
    "ome-zarr-py from pages": "ome_zarr_pages",
    "ome-zarr-py from shards": "ome_zarr_shards",
    "dask": "dask",
    "ngff-zarr": "ngff",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What one writer took; `seconds` and `cpu_s` are what counts."""

    seconds: float
    cpu_s: float
    peak_mb: float
    together_mb: float


class Writers:
    """A folder with a raw stack, and all who write it there, one after another."""

    def __init__(self, folder: Path, raw: Stack, shard: tuple[int, ...] | None) -> None:
        self.folder, self.raw = folder, raw
        self.receipt = folder / "ours" / "ingest" / "stack.json"
        self.store = folder / "written" / "stack.ome.zarr"
        self.levels: tuple[Layout, ...] = ()
        _configure(folder / "config.yaml", raw.file, shard)

    def all(
        self, repetitions: int, peers: Sequence[str]
    ) -> tuple[dict[str, list[Run]], dict[str, Checked], list[str]]:
        """Runs and pyramids by writer, and sentences on peers that gave none."""
        runs: dict[str, list[Run]] = {OURS: [], ALONE: []}
        found, left_out = {}, []
        for repetition in range(repetitions):
            runs[OURS].append(self.ours())
            published = self.receipt.with_suffix(".ome.zarr")
            if repetition == 0:
                found[OURS] = pyramids.checked(published, self.raw)
                self.levels = layouts(published)
            shutil.rmtree(self.receipt.parent)
            runs[ALONE].append(self.alone())
        for peer in peers:
            if PEERS[peer] == "ngff" and not NGFF.is_dir():
                left_out.append(ABSENT.format(peer))
                continue
            try:
                run = self.peer(peer)
                found[peer] = pyramids.checked(self.store, self.raw)
                runs[peer] = [run]
            except RuntimeError as fault:
                left_out.append(f"{peer}: not measured, it failed: {str(fault).splitlines()[-1]}.")
            shutil.rmtree(self.store.parent, ignore_errors=True)
        return runs, found, left_out

    def ours(self) -> Run:
        """Ingest, as a user does."""
        words = ["pipeline", "ingest", str(self.receipt), "--config", "config.yaml"]
        return self._run(OURS, [*words, "--place", "local", "--jobs", "1"])

    def alone(self) -> Run:
        """Compress and write alone: what the process says of itself."""
        run = self._written(ALONE, "alone")
        said = json.loads(self.store.with_name(SPENT).read_text("utf-8"))
        shutil.rmtree(self.store.parent)
        return Run(said["seconds"], said["cpu_s"], run.peak_mb, run.together_mb)

    def peer(self, name: str) -> Run:
        """A peer's writer."""
        if PEERS[name] != "ngff":
            return self._written(name, PEERS[name])
        finest = self.levels[0]
        ratio = (s // c for s, c in zip(finest.shard, finest.chunk, strict=True))
        words = ["ngff_zarr.cli", "--quiet", "--input", str(self.raw.file)]
        words += ["--output", str(self.store), "--method", "dask_bin_shrink"]
        words += ["--chunks", *map(str, finest.chunk), "--chunks-per-shard", *map(str, ratio)]
        words += ["--codec", "blosc:zstd", "--compression-level", "3"]
        cache = self.store.with_name("cache")
        cache.mkdir(parents=True)
        words += ["--cache-dir", str(cache)]
        return self._run(name, words, NGFF)

    def _written(self, name: str, way: str) -> Run:
        voxels = tuple(self.raw.path(level.factors) for level in self.levels)
        self.store.parent.mkdir(exist_ok=True)
        job = Job(self.raw.file, self.levels, voxels, self.store, tuple(VOXEL_UM.values()))
        job.write(self.folder / "job.json")
        return self._run(name, ["benchmarks.peers.written", way, str(self.folder / "job.json")])

    def _run(self, name: str, words: Sequence[str], *places: Path) -> Run:
        """Run a module, the disk at rest.

        Raises RuntimeError where it fails.
        """
        os.sync()
        log = self.folder / "log.txt"
        path = os.pathsep.join(map(str, (*places, staging.ROOT)))
        used = spent(
            [sys.executable, "-m", *words],
            log,
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": path},
        )
        if used.code:
            last = log.read_text("utf-8", "replace").splitlines()[-SHOWN_LINES:]
            raise RuntimeError("\n".join([f"{name} failed:", *last]))
        print(f"{name}: {used.seconds:.1f} s, {used.cpu_s:.1f} CPU s", flush=True)
        return Run(used.seconds, used.cpu_s, used.peak_mb, used.together_mb)


def _configure(path: Path, raw: Path, shard: Sequence[int] | None) -> None:
    """Write the settings of a campaign of one stack: config.yaml's, but for the shards."""
    settings = yaml.safe_load((staging.ROOT / "config.yaml").read_text("utf-8"))
    settings["acquisitions"] = {"stack": {"path": str(raw)}}
    model = {"channel": "channel_0", "diameter_um": stack.DIAMETER_UM, "acquisitions": ["stack"]}
    settings["models"] = {"objects": model}
    if shard:
        settings["ingest"]["shard_voxels"]["zyx"] = list(shard)
    path.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")


def layouts(store: Path) -> tuple[Layout, ...]:
    """How ours laid out its levels, without the channel."""
    count = len(list(store.glob("[0-9]*/zarr.json")))
    arrays = [zarr.open_array(store / str(number), mode="r") for number in range(count)]
    finest = arrays[0].shape
    found = []
    for array in arrays:
        ratios = (n / side for n, side in zip(finest, array.shape, strict=True))
        found.append(
            Layout(
                factors=tuple(2 ** round(math.log2(ratio)) for ratio in ratios)[1:],
                shape=array.shape[1:],
                chunk=array.chunks[1:],
                shard=(array.shards or array.chunks)[1:],
            )
        )
    return tuple(found)
