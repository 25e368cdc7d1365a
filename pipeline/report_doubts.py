"""What not to trust about a prediction, and why."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import figures
from pipeline.report_prediction import Prediction
from pipeline.report_scores import ENOUGH_F1, STRICT
from pipeline.tiles import Box, placed

SAMPLED_PLANES, SAMPLED_SIDE = 16, 1024
"""Saturation is looked for in so many planes, in so many pixels amid each."""
SATURATED, INEXACT, SHARE_AT_BORDER = 1e-3, 1e-5, 0.05
"""Doubted beyond these: shares of voxels, error of equivariance, share of smallest objects."""
PLAIN_IS_BETTER = 0.05
"""Average precision by which a plain network must be better to be worth a doubt."""


def doubts(p: Prediction, scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What not to trust about a prediction with these scores, and why, a doubt in each text.

    Empty where nothing is suspicious. Reads a sample of the image.
    """
    facts, found = p.made["facts"], list[str]()
    if facts["orphans"]:
        found.append(
            f"{facts['orphans']} orphans: objects whose centre no shard found in itself, by "
            "rounding that differed between shards. They may be doubled, or cut where shards meet."
        )
    if p.table.empty:
        found.append("No object was found. Look at the pictures: is the channel the right one?")
    counts = facts["objects_per_frame"]
    if odd := figures.deviating(counts):
        said = ", ".join(f"{frame} ({counts[frame]} objects)" for frame in odd)
        found.append(
            f"The count leaps in frame {said}, away from the frames before and after: focus or "
            "illumination may have failed there."
        )
    found += [
        f"{share:.2%} of the sampled voxels of channel {name} are saturated: intensities are cut "
        "off there, and touching objects may look like one."
        for name, share in _saturated(p).items()
        if share > SATURATED
    ]
    sizes = p.table.get(p.size_column, np.full(len(p.table), np.inf))
    small = (sizes < 1.5 * p.smallest_size).sum() / max(1, len(p.table))
    if small > SHARE_AT_BORDER:
        found.append(
            f"{small:.0%} of the objects are hardly larger than the smallest accepted: many may "
            "be debris, or parts. Look at the sizes, and at predict.smallest_object."
        )
    gate = p.card.gate
    if p.card.shots and not gate.promoted:
        found.append(
            f"{gate.reason} More examples, or examples that differ more from one another, may help."
        )
    control, tuned = gate.control or 0.0, gate.tuned or 0.0
    if control > tuned + PLAIN_IS_BETTER:
        found.append(
            f"A plain network that learned from the same scored {control:.2f} on objects held "
            f"out, the equivariant one {tuned:.2f}: look at the pictures before you trust it."
        )
    error = p.card.certificate.equivariance
    if error > INEXACT:
        found.append(
            f"The network's equivariance holds to {error:.1e} only, not to {INEXACT:g}: turning "
            "the sample may change the result."
        )
    return found + [doubt for score in scores for doubt in _doubts_of(score, p.frames > 1)]


def _doubts_of(score: Mapping[str, Any], is_movie: bool) -> list[str]:
    """What not to trust about one score, or about the outlines or the reference it speaks of."""
    if score["not_scored"]:
        return [f"Not scored: {score['not_scored']}. Give a smaller reference."]
    found = []
    low = [row["frame"] for row in score["frames"] if row["at"][0]["f1"] < ENOUGH_F1]
    if low:
        where = f" in frame {', '.join(map(str, low))}" if is_movie else ""
        found.append(
            f"F1 is below {ENOUGH_F1:g}{where}, compared with labels {score['origin']}. The "
            "crops show whose error it is."
        )
    loose, strict = (at["f1"] for at in score["total"]["at"])
    if strict < loose / 2:
        found.append(
            f"F1 falls from {loose:.2f} to {strict:.2f} when objects must overlap by {STRICT:g}: "
            "they are found, but their outlines differ from the reference's."
        )
    if "algorithm" in score["origin"].lower():
        found.append(
            f"The scores compare with labels {score['origin']}. They say how far the two agree, "
            "not which one is right."
        )
    return found


def _saturated(p: Prediction) -> dict[str, float]:
    """Share of voxels, from 0 to 1, at the brightest value a camera can give, of each channel.

    A channel whose brightest voxel in the sample is not 2^n - 1 has none. Images of floating
    point, which no camera gives, have no shares.
    """
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
