"""Ingest of a raw stack against compressing and writing alone, and against other writers."""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import pyramids, stack
from benchmarks.measurement import Figure, Measurement, Target, environment
from benchmarks.pyramids import Checked
from benchmarks.stack import PLANES, QUICK_PLANES
from benchmarks.writers import ALONE, OURS, PEERS, Run, Writers

GIGABYTES, QUICK_GIGABYTES = 4.3, 0.064
QUICK_SHARD = (64, 256, 256)
NEAR, AHEAD, SMALL = Target(">=", 0.8), Target(">=", 2.0), Target("<=", 1000.0)
FAULTLESS = Target("<=", 0.0)
SAME = (
    "From one raw stack on one disk, in one run: OME-TIFF (BigTIFF), uncompressed, a plane a page, "
    "just written and thus in the page cache. Each writer is a process of its own and is measured "
    "with all that it starts, from the start of the process to its end. CPU time is the user's and "
    "the system's. GB and MB are of the stack's voxels; values are means."
)
EACH = (
    f"'{OURS}': `python -m pipeline ingest --place local --jobs 1`, whole: reading, all levels, "
    "each shard made durable, read back and compared, intensities, checksums, publication. "
    f"'{ALONE}': zarr-python writes voxels of all levels that lie in memory, shard by shard, and "
    "does nothing else; neither its start nor how the voxels came there counts. Peers neither "
    "wait for the disk nor read back. 'dask': pages rechunked to shards, then each level from the "
    "one below by `coarsen`. 'ome-zarr-py': `write_image` with `local_mean`, from an array of "
    "pages as tifffile gives it, and from one that is cut into shards beforehand."
)
SHAPED = (
    "All write the same levels in the same chunks and shards, with blosc (zstd 3, bitshuffle) and "
    "crc32c, but for ngff-zarr: its command chooses levels of its own, and its blosc (zstd 3) "
    "shuffles bytes, not bits, without crc32c. It ran with `--method dask_bin_shrink`."
)
MEMORY = (
    "Memory is resident, mapped pages of files included, looked at every 50 ms: of the process "
    "that had most, and of all at once, where what they share counts for each."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--repetitions",
        type=int,
        default=2,
        help="of ours and of writing alone, in turns (default: 2); --quick takes 1; peers run once",
    )
    parser.add_argument(
        "--gb", type=float, default=GIGABYTES, help="of the stack (default: 4.3); --quick: 0.064"
    )
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, default=list(PEERS), help="(default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the stack (default: 0)")
    parser.add_argument("--work", type=Path, help="folder for all files (default: a temporary one)")


def measure(options: argparse.Namespace) -> Measurement:
    """Make the stack, then let each write it.

    Raises RuntimeError where ours fails, or the writing alone.
    """
    here, repetitions = environment(), 1 if options.quick else options.repetitions
    gigabytes = QUICK_GIGABYTES if options.quick else options.gb
    shape = stack.sides(gigabytes, QUICK_PLANES if options.quick else PLANES)
    work = options.work.resolve() if options.work else None
    if work:
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="equiscope-ingest-", dir=work) as temporary:
        print(f"a stack of {' x '.join(map(str, shape))} voxels", flush=True)
        raw = stack.made(Path(temporary), shape, options.seed)
        writers = Writers(Path(temporary), raw, QUICK_SHARD if options.quick else None)
        runs, found, left_out = writers.all(repetitions, options.peers)
    size = (
        f"{' x '.join(map(str, shape))} voxels (z y x) of 16 bits, {raw.megabytes / 1e3:.3g} GB: "
        "blurred objects with shot and read noise, seed "
        f"{options.seed}. {repetitions} repetitions of '{OURS}' and '{ALONE}', in turns; peers "
        "once."
    )
    told = (SAME, size, EACH, SHAPED, MEMORY, pyramids.RIGHT, *of_pyramids(found), *left_out)
    return Measurement("ingest", told, here, tuple(figures(raw.megabytes, runs, found)))


def of_pyramids(found: Mapping[str, Checked]) -> Iterator[str]:
    """What is wrong with each writer's pyramid, or to remark on it, in a sentence."""
    for name, one in found.items():
        verdict = "not right" if one.faults else "right"
        said = "; ".join([*one.faults, *one.remarks])
        yield f"{name}: a pyramid of {one.levels} levels, {verdict}{f': {said}' if said else ''}."


def figures(
    megabytes: float, runs: Mapping[str, Sequence[Run]], found: Mapping[str, Checked]
) -> Iterator[Figure]:
    """All that was measured."""
    for name, some in runs.items():
        ours = name == OURS
        yield Figure.of(name, [megabytes / run.seconds for run in some], "MB/s")
        cpu = [run.cpu_s / megabytes * 1e3 for run in some]
        yield Figure.of(f"{name}: CPU time", cpu, "s/GB")
        peaks = [run.peak_mb for run in some]
        yield Figure.of(f"{name}: peak memory of a process", peaks, "MB")
        together = [run.together_mb for run in some]
        yield Figure.of(f"{name}: peak memory", together, "MB", SMALL if ours else None)
        if one := found.get(name):
            far = [float(one.largest)]
            yield Figure.of(f"{name}: largest difference of a level", far, "grey levels")
            count = [float(len(one.faults))]
            none = FAULTLESS if ours else None
            yield Figure.of(f"{name}: faults of the pyramid", count, "faults", none)
    yield from against(ALONE, runs[OURS], runs[ALONE], NEAR)
    right = [name for name in runs if name in PEERS and not found[name].faults]
    if right:
        best = min(right, key=lambda name: runs[name][0].cpu_s)
        yield from against(best, runs[OURS], list(runs[best]) * len(runs[OURS]), AHEAD)


def against(
    name: str, ours: Sequence[Run], others: Sequence[Run], target: Target
) -> Iterator[Figure]:
    """How much faster ours is, in pairs of runs."""
    pairs = list(zip(ours, others, strict=True))
    by_cpu = [other.cpu_s / mine.cpu_s for mine, other in pairs]
    yield Figure.of(f"ours against {name}, per CPU second", by_cpu, "times", target)
    by_wall = [other.seconds / mine.seconds for mine, other in pairs]
    yield Figure.of(f"ours against {name}, per second", by_wall, "times")
