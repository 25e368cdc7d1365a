"""Tiles against the whole: labels, tables and fields, over random volumes, tilings and shares."""

import argparse
import contextlib
import io
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage

from benchmarks import staging
from benchmarks.cases import AXES, TYPES, Case, drawn
from benchmarks.measurement import Figure, Measurement, Target, environment
from pipeline import cards, distances, fields, grids, predict, receipts, tiles, volumes, weights
from pipeline import view as views
from pipeline.tiles import Box
from pipeline.view import View

Ids = npt.NDArray[np.uint64]
EQUAL = Target("<=", 0.0)
EXACT = Target("<=", 1e-5)
"""Of fields; and of what tables say of them: an object's score is a mean of probabilities."""
ENOUGH = Target(">=", 200.0)
QUICK_CASES = 8
CHECKED = (
    "Each volume goes twice through the stages, from its raw file to published labels: cut as "
    "drawn, and in one tile, one shard and one job. Labels are compared voxel by voxel with their "
    "ids, tables row by row, fields wherever the same network saw the same voxel in either tiling."
)
CUT = (
    "Drawn for each: axes, sides (primes, odd and even ones, some smaller than a tile), type of "
    "voxels, voxel size (the model's, or finer, so that the image is resampled), tiles, chunks, "
    "shards, jobs, threads, memory, and the order in which jobs get and make their units; each job "
    "gets its work through pickle."
)
OBJECTS = (
    "Objects lie at random; more are put over corners where shards or tiles meet, in part side by "
    "side, and cut into what lies there. Those found in the whole image are counted by what they "
    "cross: seams of the drawn shards, or of its tiles where the image is not resampled; a corner "
    "is crossed by an object that has voxels on either side of two seams."
)
NETWORKS = (
    "The networks are small ones, trained for seconds on one simulated image each. In every second "
    "16 cases objects are taken for long ones, whose votes are followed."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one case found.

    Attributes
    ----------
    crossing: of the objects in the whole image, how many touch what.
    labels: voxels whose labels differ.
    cells: cells of the table that count, name or place in whole voxels, and differ.
    measures: largest relative difference of the table's other cells.
    fields: largest difference of what the network says.
    orphans: objects without a centre, in either table.
    """

    case: Case
    crossing: Counter[str]
    labels: int
    cells: int
    measures: float
    fields: float
    orphans: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--cases", type=int, default=210, help="how many (default: 210); --quick takes 8"
    )
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")


def measure(options: argparse.Namespace) -> Measurement:
    """Draw the cases, and predict each in pieces and whole."""
    here, count = environment(), QUICK_CASES if options.quick else options.cases
    generator = np.random.default_rng(options.seed)
    began, outcomes = time.monotonic(), []
    # Each of hundreds of stages would show its progress.
    with (
        tempfile.TemporaryDirectory(prefix="equiscope-exactness-") as temporary,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        folder = Path(temporary)
        models = {
            (space, hops): _model(folder / str(hops), space, hops)
            for space in ("yx", "zyx")
            for hops in (0, distances.HOPS)
        }
        for number in range(count):
            case = drawn(generator, number)
            hops = distances.HOPS * (number // (len(AXES) * len(TYPES)) % 2)
            model = models[case.space, hops]
            outcomes.append(compared(folder / "case", case, model, generator))
            shutil.rmtree(folder / "case")
            if outcomes[-1].labels:
                print(f"{outcomes[-1].labels} voxels differ in {case}", flush=True)
            if (number + 1) % 20 == 0:
                print(f"{number + 1} of {count}, {time.monotonic() - began:.0f} s", flush=True)
    kinds = Counter(o.case.axes for o in outcomes)
    protocol = (
        f"{count} cases, drawn with seed {options.seed}: "
        + ", ".join(f"{kinds[axes]} {axes}" for axes in AXES),
        CHECKED,
        CUT,
        OBJECTS,
        NETWORKS,
    )
    return Measurement("exactness", protocol, here, figures(outcomes))


def _model(folder: Path, space: str, hops: int) -> Path:
    """A small model whose pointers are followed so often, whatever its shots were. Its receipt."""
    receipt = staging.small_model(folder, space)
    card = receipts.result(receipt, "model") / cards.CARD
    receipts.write(card, receipts.read(card) | {"hops": hops})
    return receipt


def compared(folder: Path, case: Case, model: Path, generator: np.random.Generator) -> Outcome:
    """Predict a case in pieces and whole, and tell how they differ."""
    image = case.image(generator)
    cut = _predicted(folder / "cut", image, case, case, model)
    whole = _predicted(folder / "whole", image, case, _uncut(case), model)
    seams = [case.shard] if case.scale != 1 else [case.shard, case.tile]
    cells, measures = tables_differ(cut.table, whole.table)
    return Outcome(
        case=case,
        crossing=crossing(whole.labels, seams, "t" in case.axes),
        labels=int((cut.labels != whole.labels).sum()),
        cells=cells,
        measures=measures,
        fields=float(np.abs(cut.says - whole.says).max(initial=0.0)),
        orphans=cut.orphans + whole.orphans,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What a prediction made; `says` is what the network says of the first frame."""

    labels: Ids
    table: pd.DataFrame
    says: npt.NDArray[np.float32]
    orphans: int


def _uncut(case: Case) -> Case:
    """The same image in one piece; tiles count voxels of the model's size, of which are fewer."""
    sides = case.sides
    return replace(
        case, tile=tuple(n + 16 for n in sides), chunk=sides, shard=sides, jobs=1, workers=1
    )


def _predicted(folder: Path, image: npt.NDArray[Any], case: Case, cut: Case, model: Path) -> _Found:
    receipt = staging.ingested(
        folder / "ingest" / "case.json", image, case.axes, cut.chunk, cut.shard, case.scale
    )
    task, result = staging.predicting(cut.tile), folder / "predict" / model.stem / "case.json"
    means = predict.Means(cut.workers, cut.memory_mb)
    predict.predict(result, receipt, model, task, means, cut.run())
    store = receipts.result(receipt, "volume")
    bundle = receipts.result(model, "model")
    card = cards.read(bundle)
    view = views.view(volumes.open_volume(store), card.channel, card.voxel_size_um)
    return _Found(
        labels=np.asarray(volumes.open_level(store / "labels" / model.stem, 0)[:]),
        table=volumes.read_table(store, model.stem),
        says=_said(view, bundle, cut.tile),
        orphans=receipts.read(result)["facts"]["orphans"],
    )


def _said(view: View, bundle: Path, tile: Sequence[int]) -> npt.NDArray[np.float32]:
    """The network's output for all of the first frame, `(outputs, *view.shape)`, from tiles."""
    network, card = weights.load(bundle)
    grid = grids.grid(card.network, view.shape, tuple(tile))
    ready = fields.prepared(network, grid)
    torch.set_num_threads(1)
    said = np.empty((1 + len(view.shape), *view.shape), np.float32)
    for box in tiles.boxes(grid.shape, grid.tile):
        [output] = fields.forward(ready, [view.read(grid.reads(box), 0)])
        owned = Box((0,) * len(box.shape), box.shape).slices
        said[(slice(None), *box.slices)] = output[(slice(None), *owned)]
    return said


def tables_differ(table: pd.DataFrame, expected: pd.DataFrame) -> tuple[int, float]:
    """Cells of integers that differ, and the largest relative difference of the others.

    A row that one table lacks counts with all its cells.
    """
    lacking = table.index.symmetric_difference(expected.index)
    both = table.index.intersection(expected.index)
    one, other = table.loc[both], expected.loc[both]
    cells, measures = len(lacking) * expected.shape[1], 0.0
    for name in expected.columns:
        a, b = one[name].to_numpy(), other[name].to_numpy()
        if expected[name].dtype.kind == "f":
            cells += int((np.isfinite(a) != np.isfinite(b)).sum())
            off = np.isfinite(a) & np.isfinite(b) & (a != b)
            far = np.abs(a[off] - b[off]) / np.maximum(np.abs(a[off]), np.abs(b[off]))
            measures = max(measures, float(far.max(initial=0.0)))
        else:
            cells += int((a != b).sum())
    return cells, measures


def crossing(labels: Ids, seams: Sequence[Sequence[int]], in_time: bool) -> Counter[str]:
    """How many objects there are, and how many cross seams, corners and touch another object.

    `seams` has the sides of boxes that cut each frame of `labels`.
    """
    counts: Counter[str] = Counter()
    for frame in labels if in_time else labels[np.newaxis]:
        names, dense = np.unique(frame, return_inverse=True)
        numbers = dense.reshape(frame.shape) + (0 if names[0] == 0 else 1)
        boxes = ndimage.find_objects(numbers)
        touching = _touching(numbers)
        for number, box in enumerate(boxes, start=1):
            if box is None:
                continue
            most = max(
                sum(
                    (s.stop - 1) // side > s.start // side for s, side in zip(box, cut, strict=True)
                )
                for cut in seams
            )
            counts["objects"] += 1
            counts["across seams"] += most >= 1
            counts["across corners"] += most >= 2
            counts["touching another"] += number in touching
    return counts


def _touching(numbers: npt.NDArray[Any]) -> set[int]:
    """Numbers of objects that have a voxel beside one of another."""
    found: set[int] = set()
    for axis in range(numbers.ndim):
        moved = np.moveaxis(numbers, axis, 0)
        a, b = moved[:-1], moved[1:]
        meet = (a != b) & (a > 0) & (b > 0)
        found |= set(a[meet].tolist()) | set(b[meet].tolist())
    return found


def figures(outcomes: Sequence[Outcome]) -> tuple[Figure, ...]:
    """What all cases found together."""

    def largest(of: Callable[[Outcome], float]) -> list[float]:
        return [max(map(of, outcomes))]

    crossed = sum((outcome.crossing for outcome in outcomes), Counter[str]())
    differing = sum(outcome.labels for outcome in outcomes)
    cells = sum(outcome.cells for outcome in outcomes)
    return (
        Figure.of("cases", [len(outcomes)], "cases", ENOUGH),
        Figure.of("differing labels", [differing], "voxels", EQUAL),
        Figure.of("largest difference of fields", largest(lambda o: o.fields), "", EXACT),
        Figure.of("differing ids, counts and places in tables", [cells], "cells", EQUAL),
        Figure.of(
            "largest relative difference in tables", largest(lambda o: o.measures), "", EXACT
        ),
        Figure.of("orphans", [sum(o.orphans for o in outcomes)], "objects"),
        *(
            Figure.of(name, [crossed[name]], "objects")
            for name in ("objects", "across seams", "across corners", "touching another")
        ),
    )
