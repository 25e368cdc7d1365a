"""Scores of a prediction against reference labels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline import agreement, changes, figures, metrics
from pipeline.annotations import Annotated
from pipeline.changes import Shared
from pipeline.report_errors import Errors
from pipeline.report_prediction import Prediction
from pipeline.tiles import Box

STRICT = 0.75
"""The second intersection over union that scores are given at: are outlines right, too?"""
ENOUGH_F1 = 0.8
"""Below this, plots and page mark a score, and doubts name it."""
LARGEST_VOXELS, MOST_OBJECTS = 2**27, 5000
"""A frame with more is not scored: memory for a match grows with either."""
COUNTED = ("matched", "false", "missed")


def score(p: Prediction, known: Annotated, overlap: float) -> tuple[dict[str, Any], Errors]:
    """Scores frame by frame and in total, without what the model learned from; and all errors.

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
        return facts, Errors()
    whole, wrong = Box((0,) * len(p.shape), p.shape), Errors()
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
            return facts, Errors()
        scores = [metrics.match(found, wanted, threshold) for threshold in thresholds]
        facts["frames"].append({"frame": frame} | _comparison(thresholds, scores))
        counted.append(changes.shared(reference, predicted))
        wrong.add(p, frame, predicted, reference, agreement.errors(counted[-1], overlap))
    sums = [
        metrics.Score(*(sum(row["at"][i][key] for row in facts["frames"]) for key in COUNTED))
        for i in range(len(thresholds))
    ]
    facts["total"] = _comparison(thresholds, sums) | _detail(counted, overlap)
    facts["total"]["errors"] = wrong.counts()
    return facts, wrong


def _detail(counted: Sequence[Shared], overlap: float) -> dict[str, Any]:
    """F1 over overlaps, kinds of errors, and scores by size, as numbers for a receipt."""
    frames = [agreement.objects(one) for one in counted]
    return {
        "curve": agreement.curve(frames),
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
