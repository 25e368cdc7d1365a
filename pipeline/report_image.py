"""What the report says of an acquisition itself: channels, intensities, planes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import figures, maps
from pipeline.report_checks import statistics
from pipeline.report_prediction import Picture, Prediction


@dataclass(frozen=True, slots=True)
class Image:
    """An acquisition, whatever models found in it.

    Attributes
    ----------
    source: the raw file, and its series if it holds several.
    channels: what ingest measured of each, by name.
    """

    source: str
    channels: Mapping[str, Mapping[str, Any]]
    pictures: Sequence[Picture]


def image(p: Prediction) -> Image:
    """What is known of the acquisition that a prediction was made in."""
    given = p.ingested
    series = "" if given["series"] == "only" else f", {given['series']}"
    said = statistics(p)
    drawn = [_intensities(said)] if said else []
    if any(len(one["plane_means"]) > 1 for one in said.values()):
        drawn.append(_planes(p, said))
    return Image(f"{given['path']}{series}", said, drawn)


def _intensities(said: Mapping[str, Mapping[str, Any]]) -> Picture:
    shares = {
        name: (one["histogram"]["values"], np.divide(counts, max(1, sum(counts))).tolist())
        for name, one in said.items()
        for counts in [one["histogram"]["counts"]]
    }
    told = "; ".join(
        f"{name} from {one['minimum']:g} to {one['maximum']:g}, {one['mean']:.3g} on average"
        for name, one in said.items()
    )
    png = figures.png(maps.intensities(shares))
    return Picture("Intensities of each channel", f"Histogram: {told}.", png)


def _planes(p: Prediction, said: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Mean intensity over time, or over depth where there is one time."""
    series = {}
    for name, one in said.items():
        means = np.asarray(one["plane_means"], np.float64)
        count = p.frames if p.frames > 1 else len(means)
        series[name] = means.reshape(count, -1).mean(axis=1).tolist()
    over = "frame" if p.frames > 1 else "plane"
    count = len(next(iter(series.values())))
    png = figures.png(figures.curves(range(count), series, over, "mean intensity"))
    told = "; ".join(
        f"{name} {v[0]:.3g} at first, {v[-1]:.3g} at last" for name, v in series.items()
    )
    return Picture(f"Mean intensity of each {over}", f"Line: {told}.", png)
