"""Scores of a prediction against reference labels, and crops of the objects that differ."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import agreement, changes, figures, metrics
from pipeline.annotations import Annotated
from pipeline.changes import Shared
from pipeline.report_prediction import Crop, Prediction
from pipeline.tiles import Box

STRICT = 0.75
"""The second intersection over union that scores are given at: are outlines right, too?"""
ENOUGH_F1 = 0.8
"""Below this, plots and page mark a score, and doubts name it."""
LARGEST_VOXELS, MOST_OBJECTS = 2**27, 5000
"""A frame with more is not scored: memory for a match grows with either."""
CELLS, CELL_SIDE = 6, 160
"""Crops shown of false, and of missed, objects per frame; the least side of one, in pixels."""
COUNTED = ("matched", "false", "missed")


def score(p: Prediction, known: Annotated, overlap: float) -> tuple[dict[str, Any], list[Crop]]:
    """Scores frame by frame and in total, without what the model learned from; crops of errors.

    Objects match that reach `overlap`, and then STRICT, in intersection over union. Frames wholly
    learned from are named and not scored; where memory would not suffice, `not_scored` says why
    and `total` is None.
    Raises ValueError where the labels cannot be read, or are no outlines of all objects.
    """
    known = known.as_reference()
    thresholds = (overlap, STRICT)
    facts: dict[str, Any] = {"not_scored": None, "trained_frames": [], "frames": [], "total": None}
    counted = list[Shared]()
    if math.prod(p.shape) > LARGEST_VOXELS:
        facts["not_scored"] = f"a frame has more than {LARGEST_VOXELS:,} voxels"
        return facts, []
    whole, differing = Box((0,) * len(p.shape), p.shape), list[Crop]()
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
        facts["frames"].append({"frame": frame} | _comparison(thresholds, scores))
        counted.append(changes.shared(reference, predicted))
        differing += _crops(p, frame, predicted, reference, overlap)
    sums = [
        metrics.Score(*(sum(row["at"][i][key] for row in facts["frames"]) for key in COUNTED))
        for i in range(len(thresholds))
    ]
    facts["total"] = _comparison(thresholds, sums) | _detail(counted, overlap)
    return facts, differing


def _detail(counted: Sequence[Shared], overlap: float) -> dict[str, Any]:
    """F1 over overlaps, kinds of errors, and scores by size, as numbers for a receipt."""
    frames = [agreement.objects(one) for one in counted]
    return {
        "curve": agreement.curve(frames),
        "errors": agreement.errors(counted, overlap),
        "sizes": [
            {"least_voxels": part.least, "f1": part.score.f1}
            | {key: getattr(part.score, key) for key in COUNTED}
            for part in agreement.by_size(frames, max(overlap, agreement.OVERLAPS[0]))
        ],
    }


def _comparison(thresholds: Sequence[float], scores: Sequence[metrics.Score]) -> dict[str, Any]:
    """Objects on either side, and what matches at each threshold, as numbers for a receipt."""
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
    """The largest objects of a frame that only one side has: the image, and outlines over it.

    `predicted` and `reference` hold the whole frame's ids; `overlap` is the intersection over
    union from which objects are the same.
    """
    either = (predicted != 0) | (reference != 0)
    lonely = figures.unmatched(predicted[either], reference[either], overlap)
    left_out = sum(max(0, len(ids) - CELLS) for ids in lonely)
    voxel = math.prod(p.volume.voxel_size_um.values())
    shown = []
    for kind, labels, ids in zip(("false", "missed"), (predicted, reference), lonely, strict=True):
        for number in ids[:CELLS]:
            places = np.nonzero(labels == number)
            middle = [round(float(np.median(place))) for place in places]
            box, pads = around(p, middle)
            image = p.image(0, box, frame).reshape(box.shape[-2:])
            low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1)
            image = np.pad(image, pads, constant_values=image.min())
            mine, theirs = (
                np.pad(side[box.slices].reshape(box.shape[-2:]), pads)
                for side in (predicted, reference)
            )
            where = ", ".join(f"{a} {m}" for a, m in zip(p.volume.space, middle, strict=True))
            size = f"{len(places[0]) * voxel:.0f} {p.size_unit}"
            shown.append(
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
    return shown


def around(p: Prediction, middle: Sequence[int]) -> tuple[Box, list[tuple[int, int]]]:
    """The part of a square, three diameters wide, that lies in the image; what it lacks.

    `middle` is in voxels, along the spatial axes; the square lies in its plane. What it lacks
    are the voxels before and after, of y and of x.
    """
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
