"""Ways to run the exported network on a CPU: how fast each is, and whether it stays as exact."""

import argparse
import copy
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from statistics import median

import torch
from torch import Tensor

from benchmarks import engines
from benchmarks.engines import CHOSEN, Mode, Run, sides
from benchmarks.measurement import Figure, Measurement, Target, environment
from pipeline import certificate, grids, steerable
from pipeline.grids import Grid
from pipeline.network import UNet
from pipeline.topology import Architecture, receptive_field

EXACT = Target("<=", 1e-5)
NOTHING = Target("<=", 0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A network and its tiles: one to time, and one small enough for double precision."""

    architecture: Architecture
    tile: tuple[int, ...]
    quick_tile: tuple[int, ...]
    small_tile: tuple[int, ...]


CASES = {
    "2-D": Case(Architecture("yx", "d4", 1, 4, ((2, 2), (2, 2))), (512, 512), (128, 128), (64, 64)),
    "3-D": Case(
        Architecture("zyx", "d4", 1, 3, ((1, 2, 2), (2, 2, 2))),
        (32, 128, 128),
        (8, 32, 32),
        (4, 16, 16),
    ),
}
MODES = (
    Mode("1 thread", 1, 1),
    Mode("2 threads", 2, 1),
    Mode("2 tiles at once on 1 thread each", 1, 2),
)


def owned(output: Tensor, grid: Grid) -> Tensor:
    """The part of an output that the tile owns."""
    inside = (
        slice((side - tile) // 2, (side + tile) // 2)
        for side, tile in zip(output.shape[2:], grid.tile, strict=True)
    )
    return output[(slice(None), slice(None), *inside)]


@cache
def network_of(architecture: Architecture) -> UNet:
    """An exported network of random filters, its normalisations fitted to noise."""
    torch.manual_seed(0)
    network = steerable.build(architecture)
    side = [8 * step for step in architecture.stride]
    side[-2:] = [max(side[-2:])] * 2
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.rand(2, architecture.channels, *side))
    return steerable.export(network.eval())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--repetitions", type=int, default=3, help="of each timing (default: 3); --quick takes 1"
    )


def measure(options: argparse.Namespace) -> Measurement:
    """Check every way on small tiles, then time it on those of `config.yaml`."""
    here, threads = environment(), torch.get_num_threads()
    repetitions = 1 if options.quick else options.repetitions
    figures: list[Figure] = []
    try:
        for (name, case), mode in itertools.product(CASES.items(), MODES):
            print(f"{name}, {mode.name}", flush=True)
            if mode is MODES[0]:
                figures += exactness(name, case)
            figures += speed(name, case, mode, repetitions, options.quick)
    finally:
        torch.set_num_threads(threads)
    return Measurement("inference", _protocol(repetitions, options.quick), here, tuple(figures))


def speed(name: str, case: Case, mode: Mode, repetitions: int, quick: bool) -> Iterator[Figure]:
    """Voxels that tiles own, per second, in interleaved repetitions; one first, not counted."""
    network = network_of(case.architecture)
    grid = _grid(network, case.quick_tile if quick else case.tile)
    torch.set_num_threads(mode.threads)
    torch.compiler.reset()
    image = torch.rand(1, 1, *sides(grid))
    runs = dict(engines.ways(network, grid, mode))
    voxels = mode.at_once * torch.Size(grid.tile).numel() / 1e6
    rates: dict[str, list[float]] = {way: [] for way in runs}
    for repetition, way in itertools.product(range(repetitions + 1), runs):
        seconds = _seconds(runs[way], image, mode)
        if repetition:
            rates[way].append(voxels / seconds)
    for way, values in rates.items():
        ratios = [a / b for a, b in zip(values, rates["eager"], strict=True)]
        yield _of_median(f"{name}, {mode.name}: {way}", values, "Mvoxel/s")
        yield _of_median(f"{name}, {mode.name}: {way}, against eager", ratios, "times")


def _of_median(name: str, values: Sequence[float], unit: str) -> Figure:
    return dataclasses.replace(Figure.of(name, values, unit), value=median(values))


def _seconds(run: Run, image: Tensor, mode: Mode) -> float:
    """Wall-clock of as many tiles as are worked on at once, each in a thread of its own."""

    def forward(_: int) -> None:
        with torch.inference_mode():
            run(image)

    with ThreadPoolExecutor(mode.at_once) as pool:
        began = time.perf_counter()
        list(pool.map(forward, range(mode.at_once)))
        return time.perf_counter() - began


def exactness(name: str, case: Case) -> Iterator[Figure]:
    """What the certificate promises, of every way, on a small tile."""
    network = network_of(case.architecture)
    whole = _grid(network, case.small_tile)
    part = _grid(network, tuple(t // 2 for t in whole.tile))
    torch.set_num_threads(1)
    torch.compiler.reset()
    image = torch.rand(1, 1, *sides(whole), generator=torch.Generator().manual_seed(0))
    parts = dict(engines.ways(network, part, MODES[0]))
    with torch.inference_mode():
        exact = owned(copy.deepcopy(network).double()(image.double()), whole)
        for way, run in engines.ways(network, whole, MODES[0]):
            found = owned(run(image), whole)
            for what, error, target in (
                ("deviation from double precision", _relative(found - exact, exact), EXACT),
                ("equivariance error", _equivariance(run, image, found, network, whole), EXACT),
                ("change beyond the receptive field", _beyond(run, image, network), NOTHING),
                ("tile against its parts", _seam(parts[way], image, found, part), None),
            ):
                wanted = target if way == CHOSEN else None
                yield Figure.of(f"{name}: {way}, {what}", [error], "", wanted)


def _grid(network: UNet, tile: tuple[int, ...]) -> Grid:
    return grids.grid(network.architecture, tile, tile)


def _relative(difference: Tensor, to: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float(difference.abs().max() / to.abs().max())


def _equivariance(run: Run, image: Tensor, found: Tensor, network: UNet, grid: Grid) -> float:
    """Largest ||f(gx) - g f(x)|| / ||f(x)|| over the group's lattice elements."""
    errors = []
    for turn in certificate.lattice_turns(network.architecture):
        turned = owned(run(turn.image(image).contiguous()), grid)
        difference = torch.linalg.vector_norm(turned - turn.output(found))
        errors.append(float(difference / torch.linalg.vector_norm(found)))
    return max(errors)


def _beyond(run: Run, image: Tensor, network: UNet) -> float:
    """Change of the output's middle voxel when all beyond its receptive field changes."""
    stride, radius = network.architecture.stride, receptive_field(network.architecture)
    middle = [s * (side // (2 * s)) for s, side in zip(stride, image.shape[2:], strict=True)]
    near = tuple(slice(max(0, m - r), m + r + 1) for m, r in zip(middle, radius, strict=True))
    other = torch.rand(image.shape, generator=torch.Generator().manual_seed(1))
    other[(slice(None), slice(None), *near)] = image[(slice(None), slice(None), *near)]
    before = run(image)
    changed = run(other) - before
    lost = [(a - b) // 2 for a, b in zip(image.shape[2:], before.shape[2:], strict=True)]
    for axis, (m, n) in enumerate(zip(middle, lost, strict=True), start=2):
        changed = changed.narrow(axis, m - n, 1)
    return _relative(changed, before)


def _seam(run: Run, image: Tensor, found: Tensor, part: Grid) -> float:
    """Largest difference of a tile's output to that of the smaller tiles it divides into."""
    worst = 0.0
    corners = (range(0, n, t) for n, t in zip(found.shape[2:], part.tile, strict=True))
    for corner in itertools.product(*corners):
        reads = (slice(a, a + n) for a, n in zip(corner, sides(part), strict=True))
        owns = (slice(a, a + n) for a, n in zip(corner, part.tile, strict=True))
        again = run(image[(slice(None), slice(None), *reads)].contiguous())
        difference = owned(again, part) - found[(slice(None), slice(None), *owns)]
        worst = max(worst, _relative(difference, found))
    return worst


def _protocol(repetitions: int, quick: bool) -> tuple[str, ...]:
    def written(tiles: Mapping[str, tuple[int, ...]]) -> str:
        return ", ".join(f"{name} {' x '.join(map(str, tile))}" for name, tile in tiles.items())

    timed = written({n: case.quick_tile if quick else case.tile for n, case in CASES.items()})
    small = written({n: case.small_tile for n, case in CASES.items()})
    networks = "; ".join(f"{name}: {case.architecture}" for name, case in CASES.items())
    absent = [
        f"{engine} was not measured: {', '.join(names)} not installed."
        for engine in engines.ENGINES
        if (names := engines.missing(engine))
    ]
    speed_said = (
        f"Speed: voxels of tiles of {timed} per second, with the context to compute but not to "
        f"count; {repetitions} interleaved repetitions after one that is not counted, medians; "
        "'against eager' compares within a repetition."
    )
    errors_said = (
        f"Errors, relative, in single precision on tiles of {small}: that of equivariance is of "
        "norms, the others are the largest difference over the largest output."
    )
    return (
        f"The exported network with random equivariant filters, {networks}.",
        f"'{CHOSEN}' is what predict runs (pipeline.fields.prepared).",
        speed_said,
        errors_said,
        *absent,
    )
