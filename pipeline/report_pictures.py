"""Pictures of a prediction: outlines over the image, plots, objects that differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline import figures
from pipeline.cards import Card
from pipeline.charts import Chart
from pipeline.figures import RGB
from pipeline.report_prediction import Crop, Picture, Prediction
from pipeline.report_scores import ENOUGH_F1
from pipeline.tiles import Box

SIDE, COARSE_SIDE = 1000, 1600
"""Pixels: of a picture, and the side from which a coarser level is shown."""
SHEET = 24
"""Crops in the one picture that shows objects that differ from the reference."""


def overlays(p: Prediction, most: int) -> tuple[list[Picture], Picture]:
    """Evenly spaced frames, or planes of a single stack, with outlines; and all in one picture.

    There are at most `most` of them.
    """
    level = next(
        (v for v in p.volume.levels if max(p.volume.spatial(v.shape)[-2:]) <= COARSE_SIDE),
        p.volume.levels[-1],
    )
    height, width = p.volume.spatial(level.shape)[-2:]
    low, high = p.volume.windows[p.volume.channel(p.card.channel)]
    pictures, arrays = [], list[RGB]()
    for frame, plane in _places(p, most):
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
        single = figures.montage(arrays[-1:], [""], 1, p.width_um)
        pictures.append(Picture(f"{caption}: {count} objects", alt, figures.png(single)))
    columns = 1 if p.shape[-1] > 2 * p.shape[-2] else 2
    whole = figures.montage(arrays, [x.caption for x in pictures], columns, p.width_um)
    alt = f"Objects that {p.model} found in {p.acquisition}, outlined over the image."
    return pictures, Picture("", alt, figures.png(whole))


def _places(p: Prediction, most: int) -> list[tuple[int, int | None]]:
    """Frames, each with its plane where there is depth; none of planes without objects."""
    frames = np.unique(np.linspace(0, p.frames - 1, min(most, p.frames)).round().astype(int))
    if "z" not in p.volume.axes:
        return [(int(frame), None) for frame in frames]
    first, last = (
        (0, p.shape[0] - 1)
        if p.table.empty
        else (int(p.table["first_z"].min()), int(p.table["last_z"].max()))
    )
    count = min(most, last - first + 1) if p.frames == 1 else 1
    planes = np.linspace(first, last, count + 2).round().astype(int)[1:-1]
    return [(int(frame), int(plane)) for frame in frames for plane in planes]


def _place(p: Prediction, frame: int, plane: int | None) -> str:
    """Time and depth (um) of a picture, as far as the acquisition has them."""
    parts = []
    if p.frames > 1:
        unit, times = p.times
        parts.append(
            f"frame {frame}" if unit == "frame" else f"frame {frame}, {times[frame]:.3g} {unit}"
        )
    if plane is not None:
        parts.append(f"z {plane}, {plane * p.volume.voxel_size_um['z']:.1f} µm")
    return ", ".join(parts) or "the whole image"


def plots(p: Prediction, scores: Sequence[Mapping[str, Any]]) -> dict[str, Picture]:
    """What can be plotted, by name: counts and gaps of movies, sizes, scores."""
    unit, times = p.times
    x_label = unit if unit == "frame" else f"time ({unit})"
    drawn = _courses(p, times, x_label) if p.frames > 1 else {}
    if not p.table.empty and p.size_column in p.table:
        sizes = p.table[p.size_column].tolist()
        kind = "volume" if "z" in p.volume.axes else "area"
        figure = figures.histogram(
            sizes, f"{kind} ({p.size_unit})", p.smallest_size, p.typical_size
        )
        alt = f"Histogram: half of the {kind}s are below {np.median(sizes):.0f} {p.size_unit}."
        drawn["sizes"] = Picture(f"Objects by {kind}", alt, figures.png(figure))
    for number, score in enumerate(scores):
        if score["frames"]:
            first = score["total"]["at"][0]
            alt = f"F1 {first['f1']:.2f} in all at overlap {first['overlap']:g}."
            png = figures.png(_scores_plot(score["frames"], times, x_label))
            name = f"scores-{number}" if number else "scores"
            drawn[name] = Picture(f"Against labels {score['origin']}", alt, png)
    return drawn


def learning(card: Card) -> dict[str, Picture]:
    """How a model's loss fell, and what it scored after learning from more and more objects."""
    drawn = {}
    if loss := card.loss:
        done = [100 * (i + 1) / len(loss) for i in range(len(loss))]
        figure = figures.curves(done, {"loss": loss}, "training done (%)", "loss")
        alt = f"Line: from {loss[0]:.2f} down to {loss[-1]:.2f}."
        drawn["loss"] = Picture("Training loss", alt, figures.png(figure))
    if curve := card.gate.learning_curve:
        objects, scores = zip(*curve, strict=True)
        label = "average precision"
        figure = figures.curves(objects, {label: scores}, "objects learned from", label)
        alt = "; ".join(f"{count} objects: {score:.2f}" for count, score in curve) + "."
        drawn["learning"] = Picture("Learning curve, on objects held out", alt, figures.png(figure))
    return drawn


def _courses(p: Prediction, times: Sequence[float], x_label: str) -> dict[str, Picture]:
    """How counts and gaps of a movie go over time."""
    counts, gaps = p.made["facts"]["objects_per_frame"], p.widest_gaps_um
    counted = figures.curves(times, {"objects": counts}, x_label, "objects")
    measured = figures.curves(times, {"gap": gaps}, x_label, "widest gap (µm)")
    return {
        "counts": Picture(
            "Objects in each frame",
            f"Line: {counts[0]} objects at first, {counts[-1]} at last, {max(counts)} at most.",
            figures.png(counted),
        ),
        "gap": Picture(
            "Widest stretch along x without an object's centre",
            f"Line: {gaps[0]:.0f} µm at first, {gaps[-1]:.0f} µm at last, of {p.width_um:.0f} µm.",
            figures.png(measured),
        ),
    }


def charts(found: Sequence[Chart]) -> list[Picture]:
    """A control chart for each feature of acquisitions that has two values or more."""
    drawn = []
    for chart in found:
        known = [value for value in chart.values if value is not None]
        if len(known) < 2:
            continue
        limits = chart.limits
        beyond = [] if limits is None else [v for v in known if not limits[0] <= v <= limits[2]]
        alt = f"Control chart of {len(known)} acquisitions, from {min(known):.3g} to "
        alt += f"{max(known):.3g}" + (f", {len(beyond)} beyond its limits." if limits else ".")
        png = figures.png(figures.chart(chart.values, chart.name, limits))
        drawn.append(Picture(chart.name, alt, png))
    return drawn


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


def disagreement(crops: Sequence[Crop]) -> Picture:
    """A sample of the crops, at most SHEET, in one picture. There has to be one."""
    spread = crops[:: -(-len(crops) // SHEET)]
    sheet = figures.montage([c.array for c in spread], [c.caption for c in spread], 4)
    alt = f"{len(spread)} of {len(crops)} crops of objects that differ from the reference."
    return Picture("", alt, figures.png(sheet))
