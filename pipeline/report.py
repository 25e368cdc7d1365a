"""Report: one page that shows every result, scores it, and leads with what not to trust."""

import base64
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from pipeline import __version__, annotations, figures, metrics, receipts, volumes, weights
from pipeline.annotations import Annotated
from pipeline.config import ReportTask, Shot
from pipeline.figures import RGB
from pipeline.tiles import Box, placed
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.report")
TEMPLATE = Path(__file__).with_name("report.html.j2")
PAGE = "report.html"
STRICT = 0.75
"""The second intersection over union that scores are given at: are outlines right, too?"""
LARGEST_VOXELS, MOST_OBJECTS = 2**27, 5000
"""A frame with more is not scored: memory for a match grows with either."""
SIDE, CELL_SIDE, COARSE_SIDE = 1000, 160, 1600
"""Pixels: of a picture, of a crop, and the side from which a coarser level is shown."""
CELLS, SHEET = 6, 24
"""Crops shown: of false, and of missed, objects per frame; in the picture that holds them all."""
SAMPLED_PLANES, SAMPLED_SIDE = 16, 1024
"""Saturation is looked for in so many planes, in the middle of each."""
COUNTED = ("matched", "false", "missed")
ENOUGH_F1, SATURATED, INEXACT, SHARE_AT_BORDER = 0.8, 1e-3, 1e-5, 0.05
"""Beyond these the page warns."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with what it shows; `alt` says it to those who cannot see it."""

    caption: str
    alt: str
    png: bytes

    @property
    def uri(self) -> str:
        """An address that holds the whole picture."""
        return _uri(self.png)


@dataclass(frozen=True, slots=True)
class Crop:
    """The surroundings of an object that the prediction or the reference alone has.

    `left_out` counts the smaller ones of its frame that are not shown.
    """

    frame: int
    left_out: int
    array: RGB
    caption: str
    alt: str

    @property
    def uri(self) -> str:
        """An address that holds the whole picture."""
        return _uri(figures.png(self.array))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one model found in one acquisition, as it lies on disk."""

    model: str
    acquisition: str
    volume: Volume
    card: weights.Card
    table: pd.DataFrame
    made: dict[str, Any]
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """How many times the acquisition was imaged."""
        return self.volume.levels[0].shape[0] if "t" in self.volume.axes else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of a frame along its spatial axes, at full resolution."""
        return self.volume.spatial(self.volume.levels[0].shape)

    @property
    def size_column(self) -> str:
        """The column of the table that says how large objects are."""
        return "volume_um3" if "z" in self.volume.axes else "area_um2"

    @property
    def size_unit(self) -> str:
        """What that column counts."""
        return "µm³" if "z" in self.volume.axes else "µm²"

    @property
    def typical_size(self) -> float:
        """Area (um2) or volume (um3) of a typical object in the shots."""
        d = self.card.diameter_um
        return math.pi / 6 * d**3 if "z" in self.volume.axes else math.pi / 4 * d**2

    @property
    def smallest_size(self) -> float:
        """Below this, predict found no object, in the same unit."""
        return (
            float(self.made["recipe"]["settings"]["predict"]["smallest_object"]) * self.typical_size
        )

    def image(self, level: int, space: Box, frame: int) -> npt.NDArray[Any]:
        """The model's channel in a spatial box."""
        channel = self.volume.channel(self.card.channel)
        box = placed(self.volume.axes, space, frame, channel)
        return self.volume.read(level, box).reshape(space.shape)

    def labels(self, level: int, space: Box, frame: int) -> npt.NDArray[Any]:
        """The objects in a spatial box."""
        array = volumes.open_level(self.volume.store / "labels" / self.model, level)
        box = placed(self.volume.axes.replace("c", ""), space, frame, 0)
        return np.asarray(array[box.slices]).reshape(space.shape)

    def trained(self, frame: int) -> npt.NDArray[np.bool_]:
        """Which voxels of a frame the model learned from."""
        mask = np.zeros(self.shape, bool)
        for shot in self.shots:
            region: dict[str, tuple[int, int]] = dict(shot.region)
            first, last = region.get("t", (0, self.frames))
            if first <= frame < last:
                mask[tuple(slice(*region.get(axis, (None,))) for axis in self.volume.space)] = True
        return mask


def report(
    receipt: Path, results: Path, predictions: Mapping[tuple[str, str], Path], task: ReportTask
) -> None:
    """Write `report.html` and `pictures/` beside the receipt, then the receipt.

    `predictions` gives the predict receipt of each (model, acquisition).
    Raises ValueError where results do not belong together: a stage has yet to run again.
    """
    # plan
    found = [_open(results, *pair, path) for pair, path in sorted(predictions.items())]
    known = {(p.model, p.acquisition): _references(p, task) for p in found}
    inputs = {f"{m}/{a}": receipts.identity(path) for (m, a), path in sorted(predictions.items())}
    inputs |= {
        said["labels"]: receipts.file_fingerprint(labels.source.path)
        for references in known.values()
        for said, labels in references
    }
    recipe = receipts.recipe("report", task.model_dump(mode="json"), inputs)

    # act
    shown, pictures = [], dict[str, Picture]()
    for prediction in found:
        log.info("%s on %s", prediction.model, prediction.acquisition)
        entry = _entry(prediction, known[prediction.model, prediction.acquisition], task)
        pictures |= {f"{entry['name']}-{key}": p for key, p in entry["pictures"].items()}
        shown.append(entry)
    folder = receipt.parent / "pictures"
    building = folder.with_name(".pictures.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name, picture in pictures.items():
        (building / f"{name}.png").write_bytes(picture.png)
    volumes.publish(building, folder)
    partial = receipt.with_name(".report.html.partial")
    partial.write_text(_page(task, shown), encoding="utf-8")
    partial.replace(receipt.with_name(PAGE))

    # receipt
    facts = {
        "page": PAGE,
        "results": {
            f"{entry['model']}/{entry['acquisition']}": {
                "objects": entry["p"].made["facts"]["objects"],
                "scores": entry["scores"],
                "doubts": entry["doubts"],
            }
            for entry in shown
        },
    }
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def summary(receipt: Path) -> str:
    """What a campaign found and what not to trust, in a few lines, and where the page is.

    Raises ValueError where there is no report.
    """
    lines = []
    for name, result in receipts.read(receipt)["facts"]["results"].items():
        lines.append(f"{name}: {result['objects']:,} objects")
        for score in result["scores"]:
            if score["total"]:
                first = score["total"]["at"][0]
                lines.append(
                    f"  F1 {first['f1']:.2f} at overlap {first['overlap']:g}, "
                    f"compared with labels {score['origin']}"
                )
        lines += [f"  doubt: {doubt}" for doubt in result["doubts"]]
    return "\n".join([*lines, f"Look at {receipts.result(receipt, 'page')}"])


def _open(results: Path, model: str, acquisition: str, receipt: Path) -> Prediction:
    made = receipts.read(receipt)
    volume = volumes.open_volume(results / "ingest" / f"{acquisition}.ome.zarr")
    labels = volumes.attributes(volume.store / "labels" / model).get("equiscope", {})
    learned = results / "finetune" / f"{model}.json"
    is_same_model = made["recipe"]["inputs"]["model"] == receipts.identity(learned)
    if labels.get("recipe") != made["recipe"] or not is_same_model:
        raise ValueError(
            f"{receipt} speaks of other labels than {volume.store} holds, or of another model than "
            f"{learned}: run predict again."
        )
    shots = receipts.read(learned)["recipe"]["settings"]["shots"]
    return Prediction(
        model=model,
        acquisition=acquisition,
        volume=volume,
        card=weights.read_card(results / "finetune" / f"{model}.model"),
        table=volumes.read_table(volume.store, model),
        made=made,
        shots=tuple(
            shot for shot in map(Shot.model_validate, shots) if shot.acquisition == acquisition
        ),
    )


def _references(p: Prediction, task: ReportTask) -> list[tuple[dict[str, str], Annotated]]:
    """Path and origin of each label image to score against, and the opened image."""
    return [
        (
            {"labels": reference.labels.path, "origin": reference.origin},
            annotations.annotated(
                f"models.{p.model}.references.{number}",
                reference.labels,
                {},
                p.volume.axes,
                p.volume.levels[0].shape,
            ),
        )
        for number, reference in enumerate(task.references[p.model])
        if reference.acquisition == p.acquisition
    ]


def _entry(
    p: Prediction, references: Sequence[tuple[dict[str, str], Annotated]], task: ReportTask
) -> dict[str, Any]:
    """All that the page shows of one prediction."""
    scores, crops = [], []
    for said, known in references:
        score, differing = _score(p, known, task.report.overlap)
        scores.append(said | score)
        crops.append(differing)
    frames, pictures = _overlays(p, task.report.pictures)
    pictures |= _plots(p, scores)
    every = [crop for differing in crops for crop in differing]
    if every:
        spread = every[:: -(-len(every) // SHEET)]
        captions = [f"frame {c.frame}: {c.caption}" if p.frames > 1 else c.caption for c in spread]
        sheet = figures.montage([c.array for c in spread], captions, 4)
        alt = f"{len(spread)} of {len(every)} crops of objects that differ from the reference."
        pictures["disagreement"] = Picture("", alt, figures.png(sheet))
    return {
        "model": p.model,
        "acquisition": p.acquisition,
        "name": f"{p.model}-{p.acquisition}",
        "p": p,
        "scores": scores,
        "crops": crops,
        "frames": frames,
        "pictures": pictures,
        "doubts": _doubts(p, scores),
    }


def _score(p: Prediction, known: Annotated, overlap: float) -> tuple[dict[str, Any], list[Crop]]:
    """Scores frame by frame and in total, without what the model learned from; crops of errors."""
    thresholds = (overlap, STRICT)
    facts: dict[str, Any] = {"not_scored": None, "trained_frames": [], "frames": [], "total": None}
    if math.prod(p.shape) > LARGEST_VOXELS:
        facts["not_scored"] = f"a frame has more than {LARGEST_VOXELS:,} voxels"
        return facts, []
    whole, crops = Box((0,) * len(p.shape), p.shape), []
    for frame in range(p.frames):
        trained = p.trained(frame)
        if trained.all():
            facts["trained_frames"].append(frame)
            continue
        predicted = figures.untrained(p.labels(0, whole, frame), trained)
        reference = figures.untrained(known.labels(frame), trained)
        either = (predicted != 0) | (reference != 0)
        found, wanted = predicted[either], reference[either]
        if max(len(np.unique(found)), len(np.unique(wanted))) > MOST_OBJECTS:
            facts["not_scored"] = f"frame {frame} has more than {MOST_OBJECTS:,} objects"
            return facts, []
        scores = [metrics.match(found, wanted, threshold) for threshold in thresholds]
        facts["frames"].append({"frame": frame} | _row(thresholds, scores))
        crops += _crops(p, frame, predicted, reference, overlap)
    sums = [
        metrics.Score(*(sum(row["at"][i][key] for row in facts["frames"]) for key in COUNTED))
        for i in range(len(thresholds))
    ]
    facts["total"] = _row(thresholds, sums)
    return facts, crops


def _row(thresholds: Sequence[float], scores: Sequence[metrics.Score]) -> dict[str, Any]:
    first = scores[0]
    return {
        "predicted": first.matched + first.false,
        "reference": first.matched + first.missed,
        "count_error": first.false - first.missed,
        "at": [
            {
                "overlap": threshold,
                **{key: getattr(score, key) for key in (*COUNTED, "f1", "average_precision")},
            }
            for threshold, score in zip(thresholds, scores, strict=True)
        ],
    }


def _crops(
    p: Prediction,
    frame: int,
    predicted: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    overlap: float,
) -> list[Crop]:
    """The largest objects of a frame that only one side has: the image, and outlines over it."""
    either = (predicted != 0) | (reference != 0)
    lonely = figures.unmatched(predicted[either], reference[either], overlap)
    left_out = sum(max(0, len(ids) - CELLS) for ids in lonely)
    voxel = math.prod(p.volume.voxel_size_um.values())
    crops = []
    for kind, labels, ids in zip(("false", "missed"), (predicted, reference), lonely, strict=True):
        for number in ids[:CELLS]:
            places = np.nonzero(labels == number)
            middle = [round(float(np.median(place))) for place in places]
            box, pads = _around(p, middle)
            image = p.image(0, box, frame).reshape(box.shape[-2:])
            low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1)
            image = np.pad(image, pads, constant_values=image.min())
            mine, theirs = (
                np.pad(side[box.slices].reshape(box.shape[-2:]), pads)
                for side in (predicted, reference)
            )
            where = ", ".join(f"{a} {m}" for a, m in zip(p.volume.space, middle, strict=True))
            size = f"{len(places[0]) * voxel:.0f} {p.size_unit}"
            crops.append(
                Crop(
                    frame=frame,
                    left_out=left_out,
                    array=figures.beside(
                        figures.overlay(image, np.zeros_like(mine), low, high, CELL_SIDE),
                        figures.overlay(image, mine, low, high, CELL_SIDE, theirs),
                    ),
                    caption=f"{kind}, {size}: {where}",
                    alt=f"A {kind} object of {size} at voxel {where} of frame {frame}.",
                )
            )
    return crops


def _around(p: Prediction, middle: Sequence[int]) -> tuple[Box, list[tuple[int, int]]]:
    """The part of a square, three diameters wide, that lies in the image; what it lacks."""
    sides = [p.volume.voxel_size_um[axis] for axis in p.volume.space]
    half = [math.ceil(1.5 * p.card.diameter_um / side) for side in sides]
    half[:-2] = [0] * (len(half) - 2)
    square = Box(tuple(middle), tuple(place + 1 for place in middle)).grown(tuple(half))
    inside = square.clipped(p.shape)
    pads = [
        (a - wanted, last - b)
        for wanted, last, a, b in zip(
            square.start, square.stop, inside.start, inside.stop, strict=True
        )
    ]
    return inside, pads[-2:]


def _place(p: Prediction, frame: int, plane: int | None) -> str:
    """Time and depth of a picture, as far as the acquisition has them."""
    parts = []
    if p.frames > 1:
        unit, times = _times(p)
        parts.append(
            f"frame {frame}" if unit == "frame" else f"frame {frame}, {times[frame]:.3g} {unit}"
        )
    if plane is not None:
        parts.append(f"z {plane}, {plane * p.volume.voxel_size_um['z']:.1f} µm")
    return ", ".join(parts) or "the whole image"


def _times(p: Prediction) -> tuple[str, list[float]]:
    """When each frame was taken, in the unit that suits; frame numbers where nothing is known."""
    step = p.volume.time_step_s
    if step is None:
        return "frame", [float(frame) for frame in range(p.frames)]
    unit, seconds = next(
        (u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if s == 1 or step * p.frames > 2 * s
    )
    return unit, [frame * step / seconds for frame in range(p.frames)]


def _overlays(p: Prediction, most: int) -> tuple[list[Picture], dict[str, Picture]]:
    """Evenly spaced frames, or planes of a single stack, with outlines; and all in one picture."""
    frames = np.unique(np.linspace(0, p.frames - 1, min(most, p.frames)).round().astype(int))
    places: list[tuple[int, int | None]] = [(int(frame), None) for frame in frames]
    if "z" in p.volume.axes:
        depth = p.shape[0]
        first, last = (
            (0, depth - 1)
            if p.table.empty
            else (int(p.table["first_z"].min()), int(p.table["last_z"].max()))
        )
        count = min(most, last - first + 1) if p.frames == 1 else 1
        planes = np.linspace(first, last, count + 2).round().astype(int)[1:-1]
        places = [(frame, int(plane)) for frame, _ in places for plane in planes]
    level = next(
        (v for v in p.volume.levels if max(p.volume.spatial(v.shape)[-2:]) <= COARSE_SIDE),
        p.volume.levels[-1],
    )
    low, high = p.volume.windows[p.volume.channel(p.card.channel)]
    pictures, arrays = [], list[RGB]()
    for frame, plane in places:
        height, width = p.volume.spatial(level.shape)[-2:]
        at = () if plane is None else (plane // p.volume.spatial(level.factors)[0],)
        box = Box((*at, 0, 0), (*(a + 1 for a in at), height, width))
        image, labels = (
            read(level.number, box, frame).reshape(height, width) for read in (p.image, p.labels)
        )
        arrays.append(figures.overlay(image, labels, low, high, SIDE))
        caption = _place(p, frame, plane)
        here = p.table["t"] == frame
        if plane is not None:
            here &= (p.table["first_z"] <= plane) & (p.table["last_z"] >= plane)
        count = int(here.sum())
        alt = f"{p.acquisition}, {caption}: {p.card.channel} in grey, {count} objects outlined."
        single = figures.montage(arrays[-1:], [""], 1, p.shape[-1] * p.volume.voxel_size_um["x"])
        pictures.append(Picture(f"{caption}: {count} objects", alt, figures.png(single)))
    width_um = p.shape[-1] * p.volume.voxel_size_um["x"]
    columns = 1 if p.shape[-1] > 2 * p.shape[-2] else 2
    whole = figures.montage(arrays, [x.caption for x in pictures], columns, width_um)
    alt = f"Objects that {p.model} found in {p.acquisition}, outlined over the image."
    return pictures, {"overlay": Picture("", alt, figures.png(whole))}


def _plots(p: Prediction, scores: Sequence[Mapping[str, Any]]) -> dict[str, Picture]:
    """What can be plotted: counts and gaps of movies, sizes, scores."""
    unit, times = _times(p)
    x_label = unit if unit == "frame" else f"time ({unit})"
    counts = p.made["facts"]["objects_per_frame"]
    plots: dict[str, Picture] = {}

    def add(name: str, caption: str, alt: str, figure: Figure) -> None:
        plots[name] = Picture(caption, alt, figures.png(figure))

    if p.frames > 1:
        figure = figures.curves(times, {"objects": counts}, x_label, "objects")
        alt = f"Line: {counts[0]} objects at first, {counts[-1]} at last, {max(counts)} at most."
        add("counts", "Objects in each frame", alt, figure)
        width = p.shape[-1] * p.volume.voxel_size_um["x"]
        in_frame = [p.table.loc[p.table["t"] == frame, "x_um"] for frame in range(p.frames)]
        gaps = [figures.widest_gap_um(x.to_numpy(float), width) for x in in_frame]
        figure = figures.curves(times, {"gap": gaps}, x_label, "widest gap (µm)")
        alt = f"Line: {gaps[0]:.0f} µm at first, {gaps[-1]:.0f} µm at last, of {width:.0f} µm."
        add("gap", "Widest stretch along x without an object's centre", alt, figure)
    if not p.table.empty:
        sizes = p.table[p.size_column].tolist()
        kind, power = ("volume", "³") if "z" in p.volume.axes else ("area", "²")
        figure = figures.histogram(sizes, f"{kind} (µm{power})", p.smallest_size, p.typical_size)
        alt = f"Histogram: half of the {kind}s are below {np.median(sizes):.0f} µm{power}."
        add("sizes", f"Objects by {kind}", alt, figure)
    loss = p.card.loss
    done = [100 * (i + 1) / len(loss) for i in range(len(loss))]
    figure = figures.curves(done, {"loss": loss}, "training done (%)", "loss")
    add("loss", "Training loss", f"Line: from {loss[0]:.2f} down to {loss[-1]:.2f}.", figure)
    for number, score in enumerate(scores):
        if score["frames"]:
            first = score["total"]["at"][0]
            alt = f"F1 {first['f1']:.2f} in all at overlap {first['overlap']:g}."
            caption = f"Against labels {score['origin']}"
            name = f"scores-{number}" if number else "scores"
            add(name, caption, alt, _scores_plot(score["frames"], times, x_label))
    return plots


def _scores_plot(rows: Sequence[Mapping[str, Any]], times: Sequence[float], x_label: str) -> Figure:
    """F1 over time; of a single frame, F1 and average precision."""
    if len(rows) == 1:
        values = {
            f"{name} {at['overlap']:g}": at[key]
            for at in rows[0]["at"]
            for name, key in (("F1", "f1"), ("AP", "average_precision"))
        }
        return figures.bars(values, "score", ENOUGH_F1)
    series = {
        f"F1 at overlap {at['overlap']:g}": [row["at"][number]["f1"] for row in rows]
        for number, at in enumerate(rows[0]["at"])
    }
    moments = [times[row["frame"]] for row in rows]
    return figures.curves(moments, series, x_label, "F1", threshold=ENOUGH_F1)


def _saturated(p: Prediction) -> dict[str, float]:
    """Share of the brightest value a camera can give, 2^n - 1, in a sample of each channel."""
    if p.volume.facts["dtype"].startswith("float"):
        return {}
    planes = [
        (t, z) for t in range(p.frames) for z in range(p.shape[0] if len(p.shape) == 3 else 1)
    ]
    chosen = np.unique(np.linspace(0, len(planes) - 1, SAMPLED_PLANES).round().astype(int))
    sides = p.shape[-2:]
    start = tuple(max(0, (side - SAMPLED_SIDE) // 2) for side in sides)
    stop = tuple(min(side, a + SAMPLED_SIDE) for side, a in zip(sides, start, strict=True))
    shares = {}
    for channel, name in enumerate(p.volume.channels):
        brightest, count, seen = 255, 0, 0
        for frame, plane in (planes[i] for i in chosen):
            depth = (plane,) if len(p.shape) == 3 else ()
            box = Box((*depth, *start), (*(z + 1 for z in depth), *stop))
            values = p.volume.read(0, placed(p.volume.axes, box, frame, channel))
            top = int(values.max())
            if top > brightest:
                brightest, count = top, 0
            count += int((values == brightest).sum())
            seen += values.size
        is_ceiling = brightest & (brightest + 1) == 0
        shares[name] = count / seen if is_ceiling else 0.0
    return shares


def _doubts(p: Prediction, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What not to trust about a prediction, and why, a sentence each."""
    facts, doubts = p.made["facts"], []
    if facts["orphans"]:
        doubts.append(
            f"{facts['orphans']} orphans: objects whose centre no shard found in itself, by "
            "rounding that differed between shards. They may be doubled, or cut where shards meet."
        )
    if p.table.empty:
        doubts.append("No object was found. Look at the pictures: is the channel the right one?")
    counts = facts["objects_per_frame"]
    if odd := figures.deviating(counts):
        said = ", ".join(f"{frame} ({counts[frame]} objects)" for frame in odd)
        doubts.append(
            f"The count leaps in frame {said}, away from the frames before and after: focus or "
            "illumination may have failed there."
        )
    doubts += [
        f"{share:.2%} of the sampled voxels of channel {name} are saturated: intensities are cut "
        "off there, and touching objects may look like one."
        for name, share in _saturated(p).items()
        if share > SATURATED
    ]
    small = (p.table[p.size_column] < 1.5 * p.smallest_size).sum() / max(1, len(p.table))
    if small > SHARE_AT_BORDER:
        doubts.append(
            f"{small:.0%} of the objects are hardly larger than the smallest accepted: many may "
            "be debris, or parts. Look at the sizes, and at predict.smallest_object."
        )
    error = p.card.certificate.equivariance
    if error > INEXACT:
        doubts.append(
            f"The network's equivariance holds to {error:.1e} only, not to {INEXACT:g}: turning "
            "the sample may change the result."
        )
    return doubts + [doubt for score in scores for doubt in _doubts_of(score, p.frames > 1)]


def _doubts_of(score: Mapping[str, Any], is_movie: bool) -> list[str]:
    if score["not_scored"]:
        return [f"Not scored: {score['not_scored']}. Give a smaller reference."]
    doubts = []
    low = [row["frame"] for row in score["frames"] if row["at"][0]["f1"] < ENOUGH_F1]
    if low:
        where = f" in frame {', '.join(map(str, low))}" if is_movie else ""
        doubts.append(
            f"F1 is below {ENOUGH_F1:g}{where}, compared with labels {score['origin']}. The "
            "crops show whose error it is."
        )
    loose, strict = (at["f1"] for at in score["total"]["at"])
    if strict < loose / 2:
        doubts.append(
            f"F1 falls from {loose:.2f} to {strict:.2f} when objects must overlap by {STRICT:g}: "
            "they are found, but their outlines differ from the reference's."
        )
    if "algorithm" in score["origin"].lower():
        doubts.append(
            f"The scores compare with labels {score['origin']}. They say how far the two agree, "
            "not which one is right."
        )
    return doubts


def _page(task: ReportTask, shown: Sequence[Mapping[str, Any]]) -> str:
    """The page as HTML, its pictures inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        campaign=task.campaign,
        overlap=task.report.overlap,
        strict=STRICT,
        enough=ENOUGH_F1,
        version=__version__,
        shown=shown,
    )


def _uri(png: bytes) -> str:
    """A picture as an address that needs no file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
