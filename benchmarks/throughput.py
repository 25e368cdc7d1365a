"""Whole predictions against forward passes alone and against peers with the same network."""

import argparse
import importlib.util
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import contenders, expanse, staging
from benchmarks.apart import Apart, apart
from benchmarks.contenders import Contender, Task
from benchmarks.measurement import Figure, Measurement, Target, environment

CLOSE, AHEAD, FLAT = Target(">=", 0.9), Target(">=", 2.0), Target("<=", 1.1)
WORKERS, MEMORY_MB = 2, 8000
QUICK_MVOXELS = 0.4
GIGABYTES = (1.0, 4.0, 16.0, 32.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of volume.

    Attributes
    ----------
    axes: spatial.
    base: the base model that is fine-tuned for it.
    flat: sides along z, where it has any; the others follow from the number of voxels.
    step: sides are multiples of this.
    crowd: voxels per object.
    chunk: sides of what peers label at once.
    mvoxels: million voxels of a volume.
    """

    axes: str
    base: str
    flat: tuple[int, ...]
    step: int
    crowd: int
    chunk: tuple[int, ...]
    mvoxels: float

    def sides(self, mvoxels: float) -> tuple[int, ...]:
        """Sides of a volume of so many million voxels, about."""
        plane = mvoxels * 1e6 / math.prod(self.flat)
        side = self.step * max(1, round(math.sqrt(plane) / self.step))
        return (*self.flat, side, side)


KINDS = {
    "2-D": Kind("yx", "nuclei_2d", (), 64, 400, (1024, 1024), 64.0),
    "3-D": Kind("zyx", "nuclei_3d", (128,), 64, 2500, (64, 256, 256), 32.0),
}
LIMIT, OURS = "forward passes alone", "ours"
CONTENDERS: dict[str, Contender] = {
    LIMIT: contenders.limit,
    OURS: contenders.ours,
    "map_overlap and dask-image": contenders.dask,
    "ngio": contenders.ngio,
}
NEEDS = {"map_overlap and dask-image": "dask_image", "ngio": "ngio"}
PEERS = tuple(NEEDS)
SAME = (
    f"One network, {WORKERS} threads with one core each, one volume in Zarr with the codecs of "
    "ingest; each contender in a process of its own, whose start and imports do not count. "
    "Repetitions are interleaved, and peers run in the first alone; ratios to the limit are taken "
    "within a repetition, and values are medians."
)
EACH = (
    f"'{LIMIT}': each tile's context lies in memory and is passed once through the network as "
    "predict runs it. 'ours': the whole stage, plan, labels with pyramid, checks, table and "
    "publication. Peers: the exported network called eagerly on chunks that overlap by its "
    "receptive field and an object's reach, labelled by our own functions for whole images; they "
    "write labels, ngio with a pyramid, and no table."
)
ABSENT = (
    "Cellpose's distributed segmentation is not measured: its workers make a CellposeModel from "
    "that class' own arguments (cellpose 4.1.0, contrib/distributed_segmentation.py), so that it "
    "takes no other network; its merge is dask-image's."
)
SCORED = (
    "F1 at intersection over union above 0.5, objects of the whole volume, against the simulated "
    "objects, and of peers against ours."
)
GROWN = (
    "Memory: volumes of so many GB of 16-bit voxels, shards of config.yaml. "
    f"{' x '.join(map(str, expanse.FULL))} shards at one corner have {len(expanse.FILLED)} blocks "
    "of objects each, so that passes, labels and writing coincide in the smallest as in the "
    "largest; the other voxels are zeros, whose forward passes are shared. Labels are written for "
    "all. The time per voxel is that of such a volume, with its reading, labels and checks, not "
    "of the network. What a denser volume keeps in memory for later shards is no more than what "
    "lies around one."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--repetitions", type=int, default=3, help="peers run once (default: 3); --quick takes 1"
    )
    parser.add_argument(
        "--mvoxels",
        type=float,
        help="million voxels of a volume (default: 64 in 2-D, 32 in 3-D); --quick takes 0.4",
    )
    parser.add_argument(
        "--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="of volumes (default: all)"
    )
    parser.add_argument(
        "--memory-gb",
        type=float,
        nargs="*",
        default=list(GIGABYTES),
        help="sizes whose memory is compared (default: 1 4 16 32); --quick takes none",
    )


def measure(options: argparse.Namespace) -> Measurement:
    """Run all contenders on each kind of volume, then ours on ever larger ones."""
    here, repetitions = environment(), 1 if options.quick else options.repetitions
    mvoxels = QUICK_MVOXELS if options.quick else options.mvoxels
    figures: list[Figure] = []
    told = [SAME, EACH, ABSENT, SCORED]
    present, lacking = _present()
    told += lacking
    sizes = [] if options.quick else options.memory_gb
    with tempfile.TemporaryDirectory(prefix="equiscope-throughput-") as temporary:
        for name in options.kinds:
            kind, folder = KINDS[name], Path(temporary) / name
            model = staging.tuned_model(Path(temporary) / "models", kind.base, kind.axes)
            sides = kind.sides(mvoxels or kind.mvoxels)
            told.append(
                f"{name}: {' x '.join(map(str, sides))} simulated voxels; {kind.base}, "
                "fine-tuned on one simulated image; peers label chunks of "
                f"{' x '.join(map(str, kind.chunk))}."
            )
            volume = staged(folder, kind, sides)
            task = Task(volume.image, model, WORKERS, MEMORY_MB, kind.chunk, folder / "out")
            figures += compared(name, task, volume.truth, present, repetitions)
            shutil.rmtree(folder)
        if sizes:
            told.append(GROWN)
            kind = KINDS["3-D"]
            model = staging.tuned_model(Path(temporary) / "models", kind.base, kind.axes)
            figures += flatness(Path(temporary), model, sizes)
    return Measurement("throughput", tuple(told), here, tuple(figures))


def _present() -> tuple[dict[str, Contender], list[str]]:
    """The contenders that can run here, and what to tell of the others."""
    found, lacking = {}, []
    for name, contender in CONTENDERS.items():
        package = NEEDS.get(name)
        inside = contenders.TILED_PEERS / str(package)
        if package and not (importlib.util.find_spec(package) or inside.is_dir()):
            lacking.append(
                f"{name}: not measured, {package} is not installed. To install: make peers."
            )
        else:
            found[name] = contender
    return found, lacking


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that was ingested, and the labels of the objects that it shows."""

    image: Path
    truth: npt.NDArray[Any]


def staged(folder: Path, kind: Kind, sides: tuple[int, ...]) -> Volume:
    """A simulated volume with the chunks and shards of config.yaml."""
    count = math.prod(sides) // kind.crowd
    image, truth = staging.scattered(sides, count, np.random.default_rng(0))
    settings = staging.campaign().ingest
    chunk, shard = (s.of(kind.axes) for s in (settings.chunk_voxels, settings.shard_voxels))
    receipt = folder / "ingest" / "volume.json"
    return Volume(staging.ingested(receipt, image, kind.axes, chunk, shard), truth)


def compared(
    name: str,
    task: Task,
    truth: npt.NDArray[Any],
    present: Mapping[str, Contender],
    repetitions: int,
) -> Iterator[Figure]:
    """All contenders on one volume, in turns."""
    runs: dict[str, list[Apart[float]]] = {contender: [] for contender in present}
    labels: dict[str, npt.NDArray[Any]] = {}
    for repetition, contender in itertools.product(range(repetitions), present):
        if repetition and contender in PEERS:
            continue
        task.out.mkdir()
        runs[contender].append(apart(present[contender], task))
        print(f"{name}, {contender}: {runs[contender][-1].result:.1f} s", flush=True)
        if repetition == 0 and contender != LIMIT:
            labels[contender] = contenders.labels_of(task)
        shutil.rmtree(task.out)
        if contender == OURS:
            contenders.forget(task)
    yield from _speeds(name, truth.size / 1e6, runs)
    for contender, found in labels.items():
        yield Figure.of(f"{name}, {contender}: F1", [f1(found, truth)], "")
        if contender != OURS:
            again = f1(found, labels[OURS])
            yield Figure.of(f"{name}, {contender}: F1 against ours", [again], "")


def _speeds(
    name: str, mvoxels: float, runs: Mapping[str, Sequence[Apart[float]]]
) -> Iterator[Figure]:
    rates = {c: [mvoxels / run.result for run in some] for c, some in runs.items()}
    for contender, values in rates.items():
        yield _of_median(f"{name}, {contender}", values, "Mvoxel/s")
    close = [a / b for a, b in zip(rates[OURS], rates[LIMIT], strict=True)]
    yield _of_median(f"{name}: ours against {LIMIT}", close, "times", CLOSE)
    peers = [rates[peer] for peer in PEERS if peer in rates]
    if peers:
        best = max(rate for (rate,) in peers)
        ahead = [rate / best for rate in rates[OURS]]
        yield _of_median(f"{name}: ours against the best peer", ahead, "times", AHEAD)
    for contender, some in runs.items():
        yield _of_median(f"{name}, {contender}: peak memory", [r.peak_mb for r in some], "MB")


def _of_median(
    name: str, values: Sequence[float], unit: str, target: Target | None = None
) -> Figure:
    return replace(Figure.of(name, values, unit, target), value=median(values))


def f1(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """F1 of labels at an overlap above half, where no object can match two."""
    sizes = [np.unique(labels[labels > 0], return_counts=True) for labels in (found, expected)]
    both = (found > 0) & (expected > 0)
    pairs, shared = np.unique(
        np.stack([found[both], expected[both]]).astype(np.uint64), axis=1, return_counts=True
    )
    one, other = (
        count[np.searchsorted(names, pair)]
        for (names, count), pair in zip(sizes, pairs, strict=True)
    )
    matched = int((shared / (one + other - shared) > 0.5).sum())
    total = len(sizes[0][0]) + len(sizes[1][0])
    return 2 * matched / total if total else 1.0


def flatness(folder: Path, model: Path, sizes: Sequence[float]) -> Iterator[Figure]:
    """Memory and time of ours on volumes of these sizes in GB."""
    peaks = []
    for gigabytes in sizes:
        place = folder / "expanse"
        image = expanse.written(place / "ingest" / "volume.json", gigabytes)
        task = Task(image, model, WORKERS, MEMORY_MB, (), place / "out")
        run = apart(contenders.ours, task)
        shutil.rmtree(place)
        print(f"{gigabytes:g} GB: {run.result:.0f} s, {run.peak_mb:.0f} MB", flush=True)
        peaks.append(run.peak_mb)
        yield Figure.of(f"{gigabytes:g} GB: peak memory", [run.peak_mb], "MB")
        yield Figure.of(f"{gigabytes:g} GB: time per Gvoxel", [run.result / gigabytes * 2], "s")
    yield Figure.of("largest peak memory over smallest", [max(peaks) / min(peaks)], "times", FLAT)
