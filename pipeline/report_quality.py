"""Quality without labels: what to look at first in a prediction, and the F1 to expect of it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import figures, likeness, maps, report_windows, stability
from pipeline import view as views
from pipeline.calibrator import Calibrator
from pipeline.cards import Gate
from pipeline.likeness import Known
from pipeline.report_prediction import Crop, Picture, Prediction
from pipeline.report_windows import Window
from pipeline.tiles import Box

CALIBRATOR = "calibrator.json"
"""Shipped beside this module: see benchmarks, quality."""
CELL_SIDE, MARGIN = 160, 1.0
"""The least side of a crop in pixels, and what surrounds its object, in diameters."""
LEVEL = 0.01
"""At which objects are called unlike the shots'."""
LIKE, STABLE, SCORE, VOTES = "likeness", "stability", "score", "votes"
LIGHT, PLACE = "light", "place"
SAID = {
    LIKE: "unlike the shots' objects",
    STABLE: "changes when the image is changed a little",
    SCORE: "the network is hardly sure of it",
    VOTES: "its voxels point to different centres",
    LIGHT: "the image shows little light where it is",
    PLACE: "its light lies beside it",
}


@dataclass(frozen=True, slots=True)
class Quality:
    """What is said of a prediction without its labels.

    Attributes
    ----------
    places: in the table, of what to look at first; `reasons` say why.
    signals: a row per object, low where it is suspicious.
    unlike: share of objects that fewer than LEVEL of the shots' kind are as far from these as;
        None where the shots are too few to tell.
    expected: F1, and its interval; None where it is not known.
    off: what could not be told, and why.
    """

    places: tuple[int, ...]
    reasons: tuple[str, ...]
    signals: pd.DataFrame
    unlike: float | None
    expected: tuple[float, float, float] | None
    off: tuple[str, ...]


def known(found: Sequence[Prediction]) -> Known | str:
    """What objects that a model learned from are like, of its predictions; or why it is unknown."""
    if any(p.card.detector for p in found):
        return "points have no size or shape to be told by"
    parts = []
    for p in found:
        learned = _learned(p)
        if len(learned):
            parts.append(_features(p).loc[learned])
    if not parts:
        return "no acquisition with a shot was predicted"
    try:
        return likeness.known(pd.concat(parts))
    except ValueError as fault:
        return str(fault)


def _features(p: Prediction) -> pd.DataFrame:
    window = p.volume.windows[p.volume.channel(p.card.channel)]
    return likeness.features(p.table, p.card.channel, window, p.volume.space)


def _learned(p: Prediction) -> "pd.Index[Any]":
    """Objects of the table whose centre lies in a shot."""
    inside = np.zeros(len(p.table), bool)
    for shot in p.shots:
        here = np.ones(len(p.table), bool)
        for axis, (start, stop) in shot.region.items():
            here &= (p.table[axis] >= start) & (p.table[axis] < stop)
        inside |= here
    return p.table.index[inside]


def quality(p: Prediction, like: Known | str, bundle: Path, windows: int, most: int) -> Quality:
    """Rank objects by all that can be told of them, and say which F1 to expect."""
    off, signals = list[str](), pd.DataFrame(index=p.table.index)
    signals[SCORE], signals[VOTES] = p.table["score"], p.table["quality"]
    features = _features(p) if len(p.table) else pd.DataFrame()
    if isinstance(like, str):
        off.append(f"Likeness to the shots: {like}.")
    elif len(p.table):
        signals[LIKE] = like.probability(features)
    expected, unlike = None, None
    if isinstance(like, Known) and (like.count + 1) * LEVEL >= 1 and len(p.table):
        unlike = float((like.chance(features) <= LEVEL).mean())
    if not windows:
        off.append("Stability, and the F1 to expect: report.windows is 0.")
    elif len(p.table):
        view = views.view(p.volume, p.card.channel, p.card.voxel_size_um)
        seen = report_windows.windows(p, view, bundle, windows)
        _spread(signals, STABLE, [(w, w.stable.overlap.mean(axis=0)) for w in seen])
        tested = report_windows.explained(p, view, seen)
        if isinstance(tested, str):
            off.append(tested)
        else:
            both = list(zip(seen, tested, strict=True))
            _spread(signals, LIGHT, [(w, light["certainty"]) for w, light in both])
            _spread(signals, PLACE, [(w, -light["displaced"]) for w, light in both])
        expected = _expected(seen, like, features, p.card.gate)
        if expected is None:
            off.append(
                "The F1 to expect: it needs likeness to the shots, a gate that asked about objects "
                "held out, and base models of the same network."
            )
    places = likeness.first(signals, most)
    reasons = []
    for place in places:
        signal = likeness.reason(signals, place)
        said = SAID[signal]
        if signal == LIKE and isinstance(like, Known):
            said = f"{like.unlike(features.iloc[place])}"
        reasons.append(said)
    return Quality(tuple(places), tuple(reasons), signals, unlike, expected, tuple(off))


def of_points(p: Prediction, most: int) -> Quality:
    """The same of points, which have a score, and no outline that all else is told of."""
    signals = pd.DataFrame({SCORE: p.table["score"]})
    places = likeness.first(signals, most)
    off = ("Of points, likeness to the shots, stability and the F1 to expect.",)
    return Quality(tuple(places), (SAID[SCORE],) * len(places), signals, None, None, off)


def _expected(
    seen: Sequence[Window], like: Known | str, features: pd.DataFrame, gate: Gate
) -> tuple[float, float, float] | None:
    held_out = gate.tuned if gate.promoted else gate.base
    if isinstance(like, str) or held_out is None or not all(w.members for w in seen):
        return None
    told = stability.seen(
        [w.stable for w in seen],
        [w.members for w in seen],
        [w.probability for w in seen],
        [w.labels for w in seen],
    )
    rows = np.unique(np.concatenate([w.rows for w in seen]))
    told |= {LIKE: like.typical(features.iloc[rows[rows >= 0]]), "gate": held_out}
    text = resources.files("pipeline").joinpath(CALIBRATOR).read_text("utf-8")
    return Calibrator.read(json.loads(text)).expected(told)


def _spread(signals: pd.DataFrame, name: str, values: Sequence[tuple[Window, Any]]) -> None:
    """Put what was measured in windows beside the objects of the table that it is about."""
    column = np.full(len(signals), np.nan)
    for window, measured in values:
        good = window.rows >= 0
        column[window.rows[good]] = np.asarray(measured, np.float64)[good]
    signals[name] = column


def crops(p: Prediction, found: Quality) -> list[Crop]:
    """A picture of each object to look at first: the image, and outlines over it."""
    return [
        _crop(p, place, number, reason)
        for number, (place, reason) in enumerate(zip(found.places, found.reasons, strict=True), 1)
    ]


def _crop(p: Prediction, place: int, number: int, reason: str) -> Crop:
    row, space = p.table.iloc[place], p.volume.space
    middle = [round(float(row[axis])) for axis in space]
    half = [
        math.ceil((0.5 + MARGIN) * p.card.diameter_um / p.volume.voxel_size_um[axis])
        for axis in space
    ]
    half[:-2] = [0] * (len(half) - 2)
    box = Box(
        tuple(m - h for m, h in zip(middle, half, strict=True)),
        tuple(m + h + 1 for m, h in zip(middle, half, strict=True)),
    ).clipped(p.shape)
    frame = int(row["t"])
    image = p.image(0, box, frame).reshape(box.shape[-2:])
    labels = p.labels(0, box, frame).reshape(box.shape[-2:])
    low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1e-9)
    where = ", ".join(f"{a} {m}" for a, m in zip(space, middle, strict=True))
    at = f"frame {frame}, {where}" if p.frames > 1 else where
    return Crop(
        array=figures.beside(
            figures.overlay(image, np.zeros_like(labels), low, high, CELL_SIDE),
            figures.overlay(image, labels, low, high, CELL_SIDE),
        ),
        caption=f"{number}. {at}: {reason}",
        alt=f"Object {p.table.index[place]} at voxel {at}: {reason}.",
    )


def pictures(p: Prediction, found: Quality) -> dict[str, Picture]:
    """A map of suspicion over the field, and how it is distributed."""
    if p.table.empty:
        return {}
    values = likeness.suspicion(found.signals).to_numpy(float)
    worst = np.zeros(len(values), bool)
    worst[list(found.places)] = True
    shown = {}
    for axis, side in zip(p.volume.space[:-1], p.shape, strict=False):
        places = [p.table[f"{one}_um"].to_numpy(float) for one in ("x", axis)]
        sides = (side * p.volume.voxel_size_um[axis], p.width_um)
        drawn = maps.suspicion(places[0], places[1], values, worst, sides, axis)
        caption = f"Where suspicious objects lie, {axis} down and x across"
        alt = f"Map of {len(values)} objects; the {int(worst.sum())} most suspicious are ringed."
        shown[f"suspicion-map-{axis}x"] = Picture(caption, alt, figures.png(drawn))
    spread = maps.distribution(values)
    return shown | {
        "suspicion": Picture(
            "How suspicious objects are",
            f"Histogram: half of the objects are below {np.median(values):.1f}.",
            figures.png(spread),
        ),
    }


def facts(p: Prediction, found: Quality) -> dict[str, Any]:
    """What the receipt says of it."""
    names = ("expected", "low", "high")
    return {
        "expected_f1": dict(zip(names, found.expected, strict=True)) if found.expected else None,
        "unlike_the_shots": found.unlike,
        "look_first": [int(p.table.index[place]) for place in found.places],
        "off": list(found.off),
    }


def regions(p: Prediction, found: Quality) -> bytes:
    """What to look at first as a table of regions, in CSV, worst first, as ngio has them."""
    table = p.table.iloc[list(found.places)]
    sizes = p.volume.voxel_size_um
    rows = likeness.regions(table, p.volume.space, sizes, MARGIN * p.card.diameter_um / 2)
    rows["label"] = table.index.to_numpy()
    if p.frames > 1:
        step = p.volume.time_step_s or 1.0
        rows["t_second"], rows["len_t_second"] = table["t"].to_numpy() * step, step
    rows["why"] = list(found.reasons)
    return rows.to_csv(lineterminator="\n").encode()
