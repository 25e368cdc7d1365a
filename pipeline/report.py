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

from pipeline import annotations, figures, metrics, receipts, volumes, weights
from pipeline.annotations import Annotated
from pipeline.config import ReportTask, Shot
from pipeline.figures import RGB
from pipeline.tiles import Box, placed
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.report")
TEMPLATE = Path(__file__).with_name("report.html.j2")
STRICT = 0.75
"""The second intersection over union that scores are given at: are outlines right, too?"""
LARGEST_VOXELS, MOST_OBJECTS = 2**27, 5000
"""A frame with more is not scored: memory for a match grows with either."""
SIDE, CELL_SIDE, COARSE_SIDE = 1000, 160, 1600
"""Pixels: of a picture, of a crop, and the side from which a coarser level is shown."""
CELLS = 6
"""Crops of false, and of missed, objects shown per frame."""
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
        """The picture as an address that needs no file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


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
        return self.volume.levels[0].shape[0] if "t" in self.volume.axes else 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.volume.spatial(self.volume.levels[0].shape)

    @property
    def size_column(self) -> str:
        return "volume_um3" if "z" in self.volume.axes else "area_um2"

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
            first, last = shot.region.get("t", (0, self.frames))
            if first <= frame < last:
                spans = (shot.region.get(axis, (0, None)) for axis in self.volume.space)  # type: ignore[call-overload]
                mask[tuple(slice(*span) for span in spans)] = True
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
    inputs = {f"{p.model}/{p.acquisition}": receipts.fingerprint(p.made) for p in found}
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
    partial.replace(receipt.with_name("report.html"))

    # receipt
    facts = {
        "scores": {f"{e['model']}/{e['acquisition']}": e["scores"] for e in shown},
        "doubts": {f"{e['model']}/{e['acquisition']}": e["doubts"] for e in shown},
    }
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def _open(results: Path, model: str, acquisition: str, receipt: Path) -> Prediction:
    made = receipts.read(receipt)
    volume = volumes.open_volume(results / "ingest" / f"{acquisition}.ome.zarr")
    labels = volumes.attributes(volume.store / "labels" / model).get("equiscope", {})
    learned = receipts.read(results / "finetune" / f"{model}.json")["recipe"]
    if labels.get("recipe") != made["recipe"] or learned["hash"] != made["recipe"]["inputs"]["model"]:
        raise ValueError(
            f"{receipt} speaks of other labels than {volume.store} holds, or of another model than "
            f"{results / 'finetune' / model}: run predict again."
        )
    return Prediction(
        model=model,
        acquisition=acquisition,
        volume=volume,
        card=weights.read_card(results / "finetune" / f"{model}.model"),
        table=volumes.read_table(volume.store, model),
        made=made,
        shots=tuple(
            shot
            for shot in map(Shot.model_validate, learned["settings"]["shots"])
            if shot.acquisition == acquisition
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
    scores, sheets = [], []
    for said, known in references:
        score, crops = _score(p, known, task.report.overlap)
        scores.append(said | score)
        sheets.append(crops)
    frames, pictures = _overlays(p, task.report.pictures)
    pictures |= _plots(p, scores)
    every = [crop for crops in sheets for crop in crops]
    if every:
        sheet = figures.montage([c["picture"] for c in every], [c["caption"] for c in every], 4)
        pictures["disagreement"] = Picture(
            "", f"All {len(every)} crops of objects that differ from the reference.", figures.png(sheet)
        )
    return {
        "model": p.model,
        "acquisition": p.acquisition,
        "name": f"{p.model}-{p.acquisition}",
        "p": p,
        "scores": scores,
        "sheets": sheets,
        "frames": frames,
        "pictures": pictures,
        "doubts": _doubts(p, scores),
    }


def _score(
    p: Prediction, known: Annotated, overlap: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
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
        "at": [
            {
                "overlap": threshold,
                **{key: getattr(score, key) for key in (*COUNTED, "f1", "average_precision")},
            }
            for threshold, score in zip(thresholds, scores, strict=True)
        ],
    }


def _crops(
    p: Prediction, frame: int, predicted: npt.NDArray[Any], reference: npt.NDArray[Any], overlap: float
) -> list[dict[str, Any]]:
    """The largest objects of a frame that only one side has: the image, and outlines over it."""
    either = (predicted != 0) | (reference != 0)
    lonely = figures.unmatched(predicted[either], reference[either], overlap)
    crops = []
    for kind, labels, ids in zip(("false", "missed"), (predicted, reference), lonely, strict=True):
        for number in ids[:CELLS]:
            middle = [round(float(np.median(places))) for places in np.nonzero(labels == number)]
            plane = middle[0] if len(middle) == 3 else None
            box = _around(p, middle)
            image = p.image(0, box, frame).reshape(box.shape[-2:])
            low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1)
            mine, theirs = (side[box.slices].reshape(image.shape) for side in (predicted, reference))
            crops.append(
                {
                    "frame": frame,
                    "kind": kind,
                    "left_out": max(0, len(ids) - CELLS),
                    "caption": f"{kind}, {_place(p, frame, plane)}",
                    "where": ", ".join(f"{a} {m}" for a, m in zip(p.volume.space, middle, strict=True)),
                    "picture": figures.beside(
                        figures.overlay(image, np.zeros_like(mine), low, high, CELL_SIDE),
                        figures.overlay(image, mine, low, high, CELL_SIDE, theirs),
                    ),
                }
            )
    return crops


def _around(p: Prediction, middle: Sequence[int]) -> Box:
    """A square of three diameters in the plane of an object's middle, moved into the image."""
    start, stop = [], []
    for axis, place, side in zip(p.volume.space, middle, p.shape, strict=True):
        half = 0 if axis == "z" else math.ceil(1.5 * p.card.diameter_um / p.volume.voxel_size_um[axis])
        first = max(0, min(place - half, side - 2 * half - 1))
        start.append(first)
        stop.append(min(side, first + 2 * half + 1))
    return Box(tuple(start), tuple(stop))


def _place(p: Prediction, frame: int, plane: int | None) -> str:
    """Time and depth of a picture, as far as the acquisition has them."""
    parts = []
    if p.frames > 1:
        unit, times = _times(p)
        parts.append(f"frame {frame}" if unit == "frame" else f"frame {frame}, {times[frame]:.3g} {unit}")
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
        first, last = (0, depth - 1) if p.table.empty else (
            int(p.table["first_z"].min()), int(p.table["last_z"].max())
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
        count = len(np.unique(labels[labels != 0]))
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

    def add(name: str, caption: str, alt: str, figure: figures.Figure) -> None:
        plots[name] = Picture(caption, alt, figures.png(figure))

    if p.frames > 1:
        figure = figures.curves(times, {"objects": counts}, x_label, "objects")
        alt = f"Line: {counts[0]} objects at first, {counts[-1]} at last, {min(counts)} to {max(counts)}."
        add("counts", "Objects in each frame", alt, figure)
        width = p.shape[-1] * p.volume.voxel_size_um["x"]
        in_frame = [p.table.loc[p.table["t"] == frame, "x_um"] for frame in range(p.frames)]
        gaps = [figures.widest_gap_um(x.to_numpy(float), width) for x in in_frame]
        figure = figures.curves(times, {"gap": gaps}, x_label, "widest gap (µm)")
        alt = f"Line: {gaps[0]:.0f} µm at first, {gaps[-1]:.0f} µm at last; the field is {width:.0f} µm wide."
        add("gap", "Widest stretch along x without an object's centre", alt, figure)
    if not p.table.empty:
        sizes = p.table[p.size_column].tolist()
        kind, power = ("volume", "³") if "z" in p.volume.axes else ("area", "²")
        figure = figures.histogram(sizes, f"{kind} (µm{power})", p.smallest_size, p.typical_size)
        alt = f"Histogram: half of the {kind}s are below {np.median(sizes):.0f} µm{power}."
        add("sizes", f"Objects by {kind}", alt, figure)
    for number, score in enumerate(scores):
        rows = score["frames"]
        if not rows:
            continue
        if len(rows) > 1:
            series = {
                f"F1 at overlap {at['overlap']:g}": [row["at"][i]["f1"] for row in rows]
                for i, at in enumerate(rows[0]["at"])
            }
            at = [times[row["frame"]] for row in rows]
            figure = figures.curves(at, series, x_label, "F1", threshold=ENOUGH_F1)
        else:
            values = {f"{key} {at['overlap']:g}": at[name] for at in rows[0]["at"]
                      for key, name in (("F1", "f1"), ("AP", "average_precision"))}
            figure = figures.bars(values, "score", ENOUGH_F1)
        first = score["total"]["at"][0]
        alt = f"F1 {first['f1']:.2f} in all at overlap {first['overlap']:g}."
        add(f"scores-{number}" if number else "scores", f"Against labels {score['origin']}", alt, figure)
    return plots


def _saturated(p: Prediction) -> dict[str, float]:
    """Share of the brightest value a camera can give, 2^n - 1, in a sample of each channel."""
    if p.volume.facts["dtype"].startswith("float"):
        return {}
    planes = [(t, z) for t in range(p.frames) for z in range(p.shape[0] if len(p.shape) == 3 else 1)]
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
            f"{facts['orphans']} orphans: objects whose centre no shard found in itself, by rounding "
            "that differed between shards. They may be doubled or cut where shards meet."
        )
    if p.table.empty:
        doubts.append("No object was found. Look at the pictures: is the channel the right one?")
    counts = facts["objects_per_frame"]
    odd = figures.deviating(counts)
    if odd:
        said = ", ".join(f"{frame} ({counts[frame]} objects)" for frame in odd)
        doubts.append(
            f"The count leaps in frame {said}, away from the frames before and after: focus or "
            "illumination may have failed there."
        )
    doubts += [
        f"{share:.2%} of the sampled voxels of channel {name} are saturated: intensities are cut off "
        "there, and touching objects may look like one."
        for name, share in _saturated(p).items()
        if share > SATURATED
    ]
    small = float((p.table[p.size_column] < 1.5 * p.smallest_size).mean()) if len(p.table) else 0.0
    if small > SHARE_AT_BORDER:
        doubts.append(
            f"{small:.0%} of the objects are hardly larger than the smallest accepted: many may be "
            "debris, or parts. Look at the sizes, and at predict.smallest_object."
        )
    if p.card.certificate.equivariance > INEXACT:
        doubts.append(
            f"The network's equivariance holds to {p.card.certificate.equivariance:.1e} only, not to "
            f"{INEXACT:g}: turning the sample may change the result."
        )
    for score in scores:
        low = [r["frame"] for r in score["frames"] if r["at"][0]["f1"] < ENOUGH_F1]
        if low:
            where = f" in frame {', '.join(map(str, low))}" if p.frames > 1 else ""
            doubts.append(
                f"F1 is below {ENOUGH_F1:g}{where}, compared with labels {score['origin']}. The crops "
                "show whose error it is."
            )
        if score["not_scored"]:
            doubts.append(f"Not scored: {score['not_scored']}. Give a smaller reference.")
        if "algorithm" in score["origin"].lower():
            doubts.append(f"These scores compare with labels {score['origin']}: no ground truth.")
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
        campaign=task.campaign, overlap=task.report.overlap, shown=shown, strict=STRICT
    )
