"""Pictures of a prediction: outlines over the image, plots, objects that differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline import figures
from pipeline.figures import RGB
from pipeline.report_prediction import Crop, Picture, Prediction
from pipeline.report_scores import ENOUGH_F1
from pipeline.tiles import Box

SIDE, COARSE_SIDE = 1000, 1600
"""Pixels: of a picture, and the side from which a coarser level is shown."""
SHEET = 24
"""Crops in the one picture that shows objects that differ from the reference."""


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


def _times(p: Prediction) -> tuple[str, list[float]]:
    """When each frame was taken, in the unit that suits; frame numbers where nothing is known."""
    step = p.volume.time_step_s
    if step is None:
        return "frame", [float(frame) for frame in range(p.frames)]
    unit, seconds = next(
        (u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if s == 1 or step * p.frames > 2 * s
    )
    return unit, [frame * step / seconds for frame in range(p.frames)]
