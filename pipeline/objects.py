"""Objects: what is summed over the voxels of each, added over boxes, and made of the sums."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.labelling import CERTAIN

Array = npt.NDArray[Any]
PLACED = "placed_"
"""Begins the names of columns that one box alone knows of an object, and others have zeros in."""
Labels = npt.NDArray[np.integer[Any]]


def parts(
    labels: Labels,
    intensities: Sequence[Array],
    certainty: npt.NDArray[np.uint16],
    agrees: npt.NDArray[np.bool_],
    start: tuple[int, ...],
    axes: str,
    channels: Sequence[str],
    frame: int,
    owned: Labels,
) -> pd.DataFrame:
    """Sums over each object's voxels in one box, to be `combined` with those of other boxes.

    Parameters
    ----------
    labels: ids in the box, 0 where no object is; it has the spatial axes `axes`, as have the
        next three.
    intensities: of each channel.
    certainty: foreground probability, from 0 to `CERTAIN`: sums of integers are exact.
    agrees: whether a voxel points into the box in which its object's centre gathered votes.
    start: where the box lies in the volume.
    owned: ids whose centres lie in the box; they get a row even without a voxel.

    Returns
    -------
    One row per id, sorted: label, t, owned (0 or 1), voxels, sum_<axis> and sum_<axis><axis>
    (voxel indices and their products), first_<axis> and last_<axis>, sum_certainty, agreeing
    (voxels), total_<channel>, min_<channel>, max_<channel> (intensity). All are int64 but the
    intensities of images of float or 64-bit voxels, which are float64.
    Products of indices wrap at 2^63, which harms nothing: what is made of them is relative
    to the object's own first voxel.
    """
    flat = np.flatnonzero(labels)
    ids = labels.reshape(-1)[flat]
    # Voxels of one object lie side by side: what can be summed by runs is not summed by voxels.
    begins = np.ones(len(flat), bool)
    begins[1:] = (ids[1:] != ids[:-1]) | (np.diff(flat) != 1) | (flat[1:] % labels.shape[-1] == 0)
    runs = np.flatnonzero(begins)
    lengths = np.diff(runs, append=len(flat))

    columns: dict[str, Array] = {
        "label": ids[runs].astype(np.int64),
        "t": np.full(len(runs), frame),
        "owned": np.zeros(len(runs), np.int64),
        "voxels": lengths,
    }
    places = np.unravel_index(flat[runs], labels.shape)
    columns |= _moments(axes, [p + first for p, first in zip(places, start, strict=True)], lengths)
    for name, values in (("sum_certainty", certainty), ("agreeing", agrees)):
        here = values.reshape(-1)[flat].astype(np.int64)
        columns[name] = np.add.reduceat(here, runs)
    for channel, image in zip(channels, intensities, strict=True):
        exact = image.dtype.kind in "ui" and image.dtype.itemsize <= 4
        here = image.reshape(-1)[flat].astype(np.int64 if exact else np.float64)
        for name, how in (("total", np.add), ("min", np.minimum), ("max", np.maximum)):
            columns[f"{name}_{channel}"] = how.reduceat(here, runs)

    centres = np.unique(owned).astype(np.int64)
    known: dict[str, Any] = {"label": centres, "t": frame, "owned": 1}
    for name, values in columns.items():
        more = known.get(name, _nothing(name, values.dtype))
        columns[name] = np.concatenate([values, np.full(len(centres), more, values.dtype)])
    # Runs are in address order, and stay so within a label: sums of floats have one order.
    return _added(columns, np.argsort(columns["label"], kind="stable"))


def placed(rows: pd.DataFrame, ids: Labels, known: Mapping[str, Array]) -> pd.DataFrame:
    """Rows of `parts` with what is known of objects whose centres lie in the box, by their ids.

    By name: the place along each axis, `deviation` and, where it is known, `bound`, in voxels of
    the volume, `refined` (1 or 0), `depth_um` and `depth_deviation_um` (where these are asked for)
    and `score`. Of other objects there stand zeros, to which other boxes add what they know.
    """
    order = np.argsort(ids)
    at = np.searchsorted(rows["label"], ids[order].astype(np.int64))
    for name, values in known.items():
        column = np.zeros(len(rows))
        column[at] = values[order]
        rows[f"{PLACED}{name}"] = column
    return rows


def _moments(axes: str, firsts: Sequence[Array], lengths: Array) -> dict[str, Array]:
    """Sums of indices and of their products over runs along the last axis, and their ends."""
    n, head = lengths, firsts[-1]
    sums = dict(zip(axes, [place * n for place in firsts], strict=True))
    sums[axes[-1]] = n * head + n * (n - 1) // 2
    columns = {f"sum_{axis}": total for axis, total in sums.items()}
    for one, other in combinations_with_replacement(range(len(axes)), 2):
        name = f"sum_{axes[one]}{axes[other]}"
        if one == len(axes) - 1:
            columns[name] = n * head**2 + head * n * (n - 1) + (n - 1) * n * (2 * n - 1) // 6
        else:
            columns[name] = firsts[one] * sums[axes[other]]
    for axis, first in zip(axes, firsts, strict=True):
        columns[f"first_{axis}"] = first
        columns[f"last_{axis}"] = first + (n - 1 if axis == axes[-1] else 0)
    return columns


def _adding(name: str) -> np.ufunc:
    """How a column of two rows of one object becomes that of one."""
    if name.startswith(("min_", "first_")):
        return np.minimum
    return np.maximum if name.startswith(("max_", "last_")) else np.add


def _nothing(name: str, dtype: np.dtype[Any]) -> int | float:
    """What a column says of no voxels: it changes nothing that it is added to."""
    if _adding(name) is np.add:
        return 0
    if dtype.kind == "f":
        return math.inf if _adding(name) is np.minimum else -math.inf
    limits = np.iinfo(dtype)
    return int(limits.max if _adding(name) is np.minimum else limits.min)


def _added(columns: Mapping[str, Array], order: Array) -> pd.DataFrame:
    """Rows of the same label added up, in this order, which puts them side by side."""
    labels = columns["label"][order]
    begins = np.ones(len(labels), bool)
    begins[1:] = labels[1:] != labels[:-1]
    starts = np.flatnonzero(begins)
    added = {"label": labels[starts], "t": columns["t"][order][starts]}
    for name, values in columns.items():
        if name not in added:
            added[name] = _adding(name).reduceat(values[order], starts)
    return pd.DataFrame(added)


def combined(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `parts`, those of the same object added up, sorted by label.

    Floating-point sums depend on their order, so rows are put in one first: that of where the
    pieces lie. Boxes that share no voxel give the same bits in any order.
    """
    columns = {str(name): rows[name].to_numpy() for name in rows}
    firsts = [name for name in columns if name.startswith("first_")]
    order = np.lexsort([columns[name] for name in (*reversed(firsts), "label")])
    return _added(columns, order)


def settled(
    labels: Labels,
    start: tuple[int, ...],
    stop: tuple[int, ...],
    margin: tuple[int, ...],
    shape: tuple[int, ...],
) -> npt.NDArray[np.bool_]:
    """Whether no voxel of an object can lie outside a box of the label volume.

    Parameters
    ----------
    labels: ids, each 1 + the address of the object's centre among the voxels of the volume.
    start, stop: the box, along the axes of the label volume, a time axis included.
    margin: an object has no voxel further from its centre than this, along each spatial axis.
    shape: sides of the label volume. Where the box ends with the volume, so do objects.
    """
    return settled_in([(start, stop)], labels, margin, shape)


def settled_in(
    boxes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]],
    labels: Labels,
    margin: tuple[int, ...],
    shape: tuple[int, ...],
) -> npt.NDArray[np.bool_]:
    """Whether no voxel of an object can lie outside all of these boxes, which share no voxel.

    Boxes are pairs of start and stop; else as `settled`.
    """
    sides = np.reshape(shape, (-1, 1))
    # No object spans frames.
    reach = np.reshape((0,) * (len(shape) - len(margin)) + margin, (-1, 1))
    centre = np.stack(np.unravel_index(np.asarray(labels).astype(np.int64) - 1, shape))
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, sides)
    unseen = (high - low).prod(axis=0)
    first, last = low.min(axis=1, initial=max(shape)), high.max(axis=1, initial=0)
    for start, stop in boxes:
        if (np.less(start, last) & np.greater(stop, first)).all():
            shared = np.minimum(high, np.reshape(stop, (-1, 1)))
            shared -= np.maximum(low, np.reshape(start, (-1, 1)))
            unseen -= np.maximum(shared, 0).prod(axis=0)
    return np.asarray(unseen == 0)


def farthest(rows: pd.DataFrame, axes: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """How far any voxel lies from the centre of its object, along each spatial axis.

    `shape` is that of the label volume, whose addresses the ids are.
    """
    rows = rows[rows["voxels"] > 0]
    centre = np.unravel_index(rows["label"].to_numpy() - 1, shape)[-len(axes) :]
    return tuple(
        int(np.maximum(place - rows[f"first_{axis}"], rows[f"last_{axis}"] - place).max())
        if len(rows)
        else 0
        for axis, place in zip(axes, centre, strict=True)
    )


def measured(
    rows: pd.DataFrame, axes: str, voxel_size_um: Mapping[str, float], channels: Sequence[str]
) -> pd.DataFrame:
    """One row per object that has voxels, from `combined` rows, indexed by label (int64).

    Columns, in this order; where one is named for an axis or a channel there is one for each:

    ====================== ============= ===================================================
    column                 unit          meaning
    ====================== ============= ===================================================
    t                      frame         when, from 0
    z, y, x                voxel         centroid
    z_um, y_um, x_um       um            centroid
    voxels                 voxel         size
    area_um2, volume_um3   um^2, um^3    size: the first in the plane, the second in depth
    first_<axis>           voxel         bounding box, its first voxel
    last_<axis>            voxel         bounding box, its last voxel
    equivalent_diameter_um um            of the disc or ball of the same size
    major_um               um            longest axis of the ellipse (ellipsoid in depth) with
                                         the same second moments, from end to end
    middle_um              um            its middle axis, in depth alone
    minor_um               um            its shortest axis
    elongation             1             major_um / minor_um
    score                  0 to 1        mean foreground probability
    quality                0 to 1        share of voxels that point into the box of votes of
                                         the object's own centre
    mean_<channel>         intensity     mean over the voxels
    min_, max_<channel>    intensity     least and greatest
    ====================== ============= ===================================================

    A full axis is 2 sqrt((d + 2) v) for a variance v along it, in d dimensions: a filled
    ellipse of semi-axis a has v = a^2 / 4, a filled ellipsoid a^2 / 5. A voxel is no point: its
    own variance, a twelfth of its size squared, is added along each axis (Haralick and Shapiro,
    Computer and Robot Vision, volume 1, appendix A, 1992).
    """
    rows = rows[rows["voxels"] > 0]
    if f"{PLACED}{axes[0]}" in rows:
        return _points(rows, axes, voxel_size_um, channels)
    voxels = rows["voxels"]
    columns: dict[str, Any] = {"t": rows["t"].astype(np.int64)}
    for axis in axes:
        columns[axis] = rows[f"sum_{axis}"] / voxels
    for axis in axes:
        columns[f"{axis}_um"] = columns[axis] * voxel_size_um[axis]
    size = voxels * math.prod(voxel_size_um[axis] for axis in axes)
    columns |= {"voxels": voxels, "area_um2" if len(axes) == 2 else "volume_um3": size}
    for axis in axes:
        columns |= {f"{end}_{axis}": rows[f"{end}_{axis}"] for end in ("first", "last")}
    ball = {2: math.pi / 4, 3: math.pi / 6}[len(axes)]
    columns["equivalent_diameter_um"] = (size / ball) ** (1 / len(axes))
    full = 2 * np.sqrt((len(axes) + 2) * _variances_um2(rows, axes, voxel_size_um))
    named = ("minor_um", "middle_um", "major_um") if len(axes) == 3 else ("minor_um", "major_um")
    for name, values in reversed(list(zip(named, full.T, strict=True))):
        columns[name] = values
    columns["elongation"] = columns["major_um"] / columns["minor_um"]
    columns["score"] = rows["sum_certainty"] / (voxels * CERTAIN)
    columns["quality"] = rows["agreeing"] / voxels
    return _indexed(columns | _intensities(rows, channels), rows)


def _points(
    rows: pd.DataFrame, axes: str, voxel_size_um: Mapping[str, float], channels: Sequence[str]
) -> pd.DataFrame:
    """The same of points, whose voxels are those of a disc that was drawn around each.

    Columns, in this order: t, then y and x of the place in voxels, y_um and x_um in um,
    deviation_um (standard deviation of the place along one axis), bound_um (the least that it can
    be, where optics and camera are known), refined (where that is asked for: whether the place is
    that of maximum likelihood), depth_um and depth_deviation_um (where these are asked for:
    distance from focus and its standard deviation, NaN where the place is not refined), score (0 to
    1; objects have 0.5 and more), voxels and bounding box of the disc, and the intensities in it. A
    disc has no size or shape of an object's, so there are no columns of these.
    """
    columns: dict[str, Any] = {"t": rows["t"].astype(np.int64)}
    columns |= {axis: rows[f"{PLACED}{axis}"] for axis in axes}
    columns |= {f"{axis}_um": columns[axis] * voxel_size_um[axis] for axis in axes}
    columns["deviation_um"] = rows[f"{PLACED}deviation"] * voxel_size_um[axes[-1]]
    if f"{PLACED}bound" in rows:
        columns["bound_um"] = rows[f"{PLACED}bound"] * voxel_size_um[axes[-1]]
    if f"{PLACED}refined" in rows:
        columns["refined"] = rows[f"{PLACED}refined"] > 0
    for name in ("depth_um", "depth_deviation_um"):
        if f"{PLACED}{name}" in rows:
            columns[name] = rows[f"{PLACED}{name}"]
    columns |= {"score": rows[f"{PLACED}score"], "voxels": rows["voxels"]}
    for axis in axes:
        columns |= {f"{end}_{axis}": rows[f"{end}_{axis}"] for end in ("first", "last")}
    return _indexed(columns | _intensities(rows, channels), rows)


def _intensities(rows: pd.DataFrame, channels: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for channel in channels:
        columns[f"mean_{channel}"] = rows[f"total_{channel}"] / rows["voxels"]
        columns |= {f"{end}_{channel}": rows[f"{end}_{channel}"] for end in ("min", "max")}
    return columns


def _indexed(columns: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(columns, index=rows.index).set_axis(
        pd.Index(rows["label"], name="label"), axis="index"
    )


def _variances_um2(rows: pd.DataFrame, axes: str, voxel_size_um: Mapping[str, float]) -> Array:
    """Variances of each object's filled voxels along its principal axes, ascending."""
    voxels = rows["voxels"].to_numpy()
    first = {axis: rows[f"first_{axis}"].to_numpy() for axis in axes}
    raw = {axis: rows[f"sum_{axis}"].to_numpy() for axis in axes}
    matrix = np.zeros((len(rows), len(axes), len(axes)))
    for i, j in combinations_with_replacement(range(len(axes)), 2):
        one, other = axes[i], axes[j]
        # Integers, relative to the object's first voxel: exact wherever in the volume it lies.
        product = (
            rows[f"sum_{one}{other}"].to_numpy()
            - first[one] * raw[other]
            - first[other] * raw[one]
            + voxels * first[one] * first[other]
        )
        shift = [(raw[a] - voxels * first[a]) / voxels for a in (one, other)]
        own = 1 / 12 if i == j else 0.0
        unit = voxel_size_um[one] * voxel_size_um[other]
        matrix[:, j, i] = (product / voxels - shift[0] * shift[1] + own) * unit
    return np.linalg.eigvalsh(matrix)  # reads the lower triangle
