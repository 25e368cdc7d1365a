"""What the report shows of points beyond what it shows of all objects: errors, and tracks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import figures, points, tracks
from pipeline.annotations import Annotated
from pipeline.report_prediction import Picture, Prediction
from pipeline.report_scores import ENOUGH_F1, MOST_OBJECTS
from pipeline.tracks import Diffusion

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tracked:
    """Tracks of a movie.

    Attributes
    ----------
    table: a line for each point, in CSV: label, t, place in um, track.
    count: of tracks.
    diffusion: None where too few tracks are long enough; `unit` is of its time.
    fault: why there are no tracks; "" where there are.
    """

    table: bytes
    count: int
    diffusion: Diffusion | None
    unit: str
    fault: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a receipt says of them."""
        moved = self.diffusion
        said: dict[str, Any] = {"count": self.count, "fault": self.fault, "diffusion": None}
        if moved:
            said["diffusion"] = {
                "coefficient_um2": moved.coefficient,
                "per": self.unit,
                "exponent": moved.exponent,
                "tracks": moved.tracks,
            }
        return said


def tracked(p: Prediction, linking_um: float | None) -> Tracked | None:
    """The tracks of a prediction's points; None where none are asked for, or nothing moves."""
    if linking_um is None or p.card.detector is None or p.frames < 2:
        return None
    step, unit = (p.volume.time_step_s, "s") if p.volume.time_step_s else (1.0, "frame")
    try:
        found = tracks.linked(p.table, linking_um)
    except ValueError as fault:
        return Tracked(b"", 0, None, unit, str(fault))
    text = found.sort_values(["track", "t"]).to_csv(lineterminator="\n")
    moved = tracks.diffusion(found, p.frames, step)
    return Tracked(text.encode(), int(found["track"].nunique()), moved, unit)


def scored(p: Prediction, known: Annotated) -> dict[str, Any]:
    """How points agree with a reference, over all frames, as numbers for a receipt.

    One to one within half of the diameter of the model's object. `error_um` is the root mean
    square distance along one axis of those that match. Where memory would not suffice for a frame,
    `not_scored` says so, and nothing else is said.
    Raises ValueError where the reference does not tell all objects.
    """
    known, within_um = known.as_places(), p.card.diameter_um / 2
    voxel = np.array([p.volume.voxel_size_um[axis] for axis in p.volume.space])
    hits = said = wanted = 0
    squares = 0.0
    for frame in range(p.frames):
        here = p.table.loc[p.table["t"] == frame, [f"{a}_um" for a in p.volume.space]].to_numpy()
        expected = known.places(frame) * voxel
        if max(len(here), len(expected)) > MOST_OBJECTS:
            return {"not_scored": f"frame {frame} has more than {MOST_OBJECTS:,} objects"}
        own, theirs = points.matched(here, expected, within_um)
        squares += float(np.square(here[own] - expected[theirs]).mean(axis=1).sum())
        hits, said, wanted = hits + len(own), said + len(here), wanted + len(expected)
    return {
        "not_scored": None,
        "within_um": within_um,
        "matched": hits,
        "false": said - hits,
        "missed": wanted - hits,
        "f1": 2 * hits / (said + wanted) if said + wanted else 1.0,
        "error_um": math.sqrt(squares / hits) if hits else None,
    }


def doubts(places: Sequence[Mapping[str, Any]]) -> list[str]:
    """What not to trust, given these scores."""
    return [
        f"F1 is {one['f1']:.2f}, below {ENOUGH_F1:g}, compared with labels {one['origin']}."
        for one in places
        if not one["not_scored"] and one["f1"] < ENOUGH_F1
    ]


def pictures(p: Prediction, moving: Tracked | None) -> dict[str, Picture]:
    """How well places are known, how far from focus objects are, and how far they move."""
    if p.card.detector is None or p.table.empty:
        return {}
    errors = 1000 * p.table["deviation_um"].to_numpy(float)
    shown = {
        "deviations": _spread(
            "How well places are known",
            "the standard deviations",
            errors,
            "standard deviation along one axis (nm)",
        )
    }
    if "depth_um" in p.table and (depths := 1000 * p.table["depth_um"].dropna()).size:
        shown["depths"] = _spread(
            "How far from focus objects are", "the objects", depths.to_numpy(), "distance (nm)"
        )
    if moving and moving.diffusion:
        shown["displacements"] = _displacements(moving.diffusion, moving.unit)
    return shown


def _spread(title: str, what: str, values_nm: Floats, x_label: str) -> Picture:
    half = float(np.median(values_nm))
    alt = f"Histogram: half of {what} are below {half:.0f} nm."
    return Picture(title, alt, figures.png(figures.spread(values_nm.tolist(), x_label, half)))


def _displacements(moved: Diffusion, unit: str) -> Picture:
    line = 4 * moved.coefficient * moved.lags**moved.exponent
    drawn = figures.logarithmic(
        moved.lags.tolist(),
        moved.squares.tolist(),
        line.tolist(),
        f"time ({unit})",
        "mean squared displacement (µm²)",
    )
    alt = f"Points and a line of slope {moved.exponent:.2f} on logarithmic axes."
    return Picture("How far objects move", alt, figures.png(drawn))
