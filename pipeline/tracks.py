"""Tracks: points of a movie linked from frame to frame, and how far they move."""

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import trackpy

Floats = npt.NDArray[np.float64]
MEMORY = 3
"""Frames for which an object may be missed and still be the same."""
LONG = 25
"""Frames of a track from which on it tells how objects move; of short movies, half of them."""
MOST_LAGS = 100
"""Frames between two places that are compared, at most; of short movies, a third of them."""


@dataclass(frozen=True, slots=True)
class Diffusion:
    """How objects move: their mean squared displacement in the plane is 4 D t^a.

    Attributes
    ----------
    coefficient: D, in um^2 per unit of time to the power of `exponent`.
    exponent: a; 1 of free diffusion.
    tracks: that it was measured on.
    lags: times that were compared; `squares`, in um^2, the mean squared displacement over each.
    """

    coefficient: float
    exponent: float
    tracks: int
    lags: Floats
    squares: Floats


def linked(table: pd.DataFrame, most_um: float) -> pd.DataFrame:
    """Objects of a table with the track that each belongs to, in a column `track`, from 0.

    Nearest neighbours, no further apart than `most_um` from frame to frame, such that the sum of
    squares is least (J. Crocker and D. Grier, Journal of Colloid and Interface Science 179, 298,
    1996), by trackpy.
    Raises ValueError where there are too many ways to link them.
    """
    columns = ["t", "y_um", "x_um"]
    if table.empty:
        return table[columns].assign(track=np.zeros(0, np.int64))
    logging.getLogger("trackpy").setLevel(logging.WARNING)
    try:
        found = trackpy.link(
            table[columns].reset_index(),
            most_um,
            pos_columns=["y_um", "x_um"],
            t_column="t",
            memory=MEMORY,
        )
    except trackpy.SubnetOversizeException as error:
        raise ValueError(
            f"objects lie so close that steps of {most_um:g} um link them in too many ways: lower "
            "the model's linking_um"
        ) from error
    found = found.rename(columns={"particle": "track"}).set_index("label")
    return found[[*columns, "track"]].astype({"track": np.int64})


def diffusion(tracks: pd.DataFrame, frames: int, step: float) -> Diffusion | None:
    """How objects of `linked` move, `step` being the time from frame to frame.

    Long tracks, less the drift that they share; the ensemble's mean squared displacement, and a
    line through its logarithm. None where there are fewer than two long tracks or three lags.
    """
    lengths = tracks.groupby("track")["t"].count()
    long = lengths.index[lengths >= min(LONG, max(3, frames // 2))]
    lags = min(MOST_LAGS, frames // 3)
    if len(long) < 2 or lags < 3:
        return None
    kept = tracks[tracks["track"].isin(long)].rename(columns={"t": "frame", "track": "particle"})
    places = ["x_um", "y_um"]
    kept = kept.reset_index(drop=True)
    still = trackpy.subtract_drift(kept, trackpy.compute_drift(kept, pos_columns=places))
    moved = trackpy.emsd(still, 1.0, 1.0 / step, lags, pos_columns=places).dropna()
    moved = moved[moved > 0]
    if len(moved) < 3:
        return None
    times, squares = moved.index.to_numpy(float), moved.to_numpy(float)
    exponent, height = np.polyfit(np.log(times), np.log(squares), 1)
    return Diffusion(math.exp(height) / 4, float(exponent), len(long), times, squares)
