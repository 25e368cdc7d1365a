"""Tables: one row per object, gathered from the shards that it lies in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Labels = npt.NDArray[np.integer[Any]]


def parts(
    labels: Labels,
    intensities: Sequence[npt.NDArray[Any]],
    start: tuple[int, ...],
    axes: str,
    channels: Sequence[str],
    frame: int,
    owned: Labels,
) -> pd.DataFrame:
    """Sums over each object's voxels in one box, to be added to those of other boxes.

    `labels` and each of `intensities` have the spatial axes `axes`; `start` is where the box
    lies in the volume; `owned` are the ids whose centres lie in the box, which get a row even
    without a voxel. Columns: label, t, owned, voxels, sum_<axis>, first_<axis>, last_<axis> (voxel
    indices), sum_<channel> (intensity).
    """
    inside = labels != 0
    ids = np.union1d(labels[inside], owned)
    index = np.searchsorted(ids, labels[inside])
    columns: dict[str, Any] = {
        "label": ids.astype(np.int64),
        "t": np.full(len(ids), frame),
        "owned": np.isin(ids, owned).astype(np.int64),
        "voxels": np.bincount(index, minlength=len(ids)),
    }
    for axis, place, first in zip(axes, np.nonzero(inside), start, strict=True):
        place = place.astype(np.int64) + first
        columns[f"sum_{axis}"] = np.bincount(index, place, minlength=len(ids)).astype(np.int64)
        low = np.full(len(ids), np.iinfo(np.int64).max)
        high = np.full(len(ids), -1)
        np.minimum.at(low, index, place)
        np.maximum.at(high, index, place)
        columns[f"first_{axis}"], columns[f"last_{axis}"] = low, high
    for channel, values in zip(channels, intensities, strict=True):
        total = np.bincount(index, values[inside].astype(np.float64), minlength=len(ids))
        columns[f"sum_{channel}"] = total
    return pd.DataFrame(columns)


def orphans(pieces: Sequence[pd.DataFrame]) -> int:
    """Objects whose centre no box found in itself: rounding that differed between boxes."""
    whole = pd.concat(pieces, ignore_index=True)
    return int((whole.groupby("label")["owned"].sum() == 0).sum())


def table(
    pieces: Sequence[pd.DataFrame],
    axes: str,
    voxel_size_um: dict[str, float],
    channels: Sequence[str],
) -> pd.DataFrame:
    """One row per object, indexed by label.

    Columns: t (frame), z, y, x (centroid, voxels), z_um, y_um, x_um (centroid), voxels,
    area_um2 or volume_um3, first_/last_ per axis (bounding box, voxels, both included),
    mean_<channel> (intensity).
    """
    whole = pd.concat(pieces, ignore_index=True)
    whole = whole[whole["voxels"] > 0]
    how = dict.fromkeys([c for c in map(str, whole) if c.startswith(("sum_", "voxels"))], "sum")
    how["t"] = "first"
    how |= {f"first_{axis}": "min" for axis in axes} | {f"last_{axis}": "max" for axis in axes}
    # Floating-point sums depend on their order: rows are put in one before they are added.
    whole = whole.sort_values(["label", *(f"first_{axis}" for axis in axes)])
    sums = whole.groupby("label", sort=True).agg(how)
    result = pd.DataFrame({"t": sums["t"].astype(np.int64)}, index=sums.index)
    for axis in axes:
        result[axis] = sums[f"sum_{axis}"] / sums["voxels"]
    for axis in axes:
        result[f"{axis}_um"] = result[axis] * voxel_size_um[axis]
    result["voxels"] = sums["voxels"].astype(np.int64)
    size = float(np.prod([voxel_size_um[axis] for axis in axes]))
    result["area_um2" if len(axes) == 2 else "volume_um3"] = result["voxels"] * size
    for axis in axes:
        result[f"first_{axis}"] = sums[f"first_{axis}"].astype(np.int64)
        result[f"last_{axis}"] = sums[f"last_{axis}"].astype(np.int64)
    for channel in channels:
        result[f"mean_{channel}"] = sums[f"sum_{channel}"] / sums["voxels"]
    return result
