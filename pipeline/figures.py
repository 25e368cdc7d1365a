"""What a report shows: arrays and numbers in, pictures and telling numbers out."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

RGB = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]

PALETTE = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167)],
    np.uint8,
)
"""The colours of Okabe and Ito that stand out on a dark image; colour-blind readers tell them."""
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
DASH = 4
"""Pixels of a reference outline that are drawn, and then left out, in turn."""


def overlay(
    image: npt.NDArray[Any],
    labels: Labels,
    low: float,
    high: float,
    side: int,
    reference: Labels | None = None,
) -> RGB:
    """A plane in grey, `low` black and `high` white, each object outlined in a colour of its id.

    Objects of `reference` are outlined in dashed white. Planes whose longer side is less than
    `side` pixels are enlarged by the whole factor that comes closest to it.
    """
    factor = max(1, round(side / max(image.shape)))
    grey = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1)
    picture = np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    picture = _enlarged(picture, factor)
    large = _enlarged(labels, factor)
    edge = _two_pixels(large)
    picture[edge] = PALETTE[colour_numbers(large[edge])]
    if reference is not None:
        y, x = np.indices(large.shape)
        drawn = (y + x) % (2 * DASH) < DASH
        picture[_two_pixels(_enlarged(reference, factor)) & drawn] = 255
    return picture


def outlines(labels: Labels) -> npt.NDArray[np.bool_]:
    """The pixels of objects that touch something else above, below, left or right."""
    edge: npt.NDArray[np.bool_] = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        differs = np.diff(labels, axis=axis) != 0
        pads = [(0, 0)] * labels.ndim
        for pads[axis] in ((0, 1), (1, 0)):
            edge |= np.pad(differs, pads)
    edge &= labels != 0
    return edge


def _two_pixels(labels: Labels) -> npt.NDArray[np.bool_]:
    edge = outlines(labels)
    return edge | outlines(np.where(edge, 0, labels))


def colour_numbers(ids: Labels) -> npt.NDArray[np.int64]:
    """Which colour of the palette an id has: the same in every picture.

    Neighbouring ids are scattered, for objects beside each other often have them.
    """
    scattered = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)
    return (scattered % np.uint64(len(PALETTE))).astype(np.int64)


def _enlarged(plane: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    return np.repeat(np.repeat(plane, factor, axis=0), factor, axis=1)


def beside(left: RGB, right: RGB) -> RGB:
    """Two pictures of one size, side by side."""
    gap = np.full((left.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def montage(
    pictures: Sequence[RGB], captions: Sequence[str], columns: int, width_um: float | None = None
) -> Figure:
    """Pictures in rows, pixel for pixel, each under its caption; an empty caption takes no room.

    With `width_um`, which is the width of each picture, the last one carries a scale bar.
    """
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    letter = max(11, width // 44)
    gap, head = letter // 2, 2 * letter if any(captions) else 0
    whole = (columns * (width + gap) - gap, rows * (height + head + gap) - gap)
    dpi = 100
    figure = Figure(figsize=(whole[0] / dpi, whole[1] / dpi), dpi=dpi, facecolor="white")
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = column * (width + gap), row * (height + head + gap) + head
        high, wide = picture.shape[:2]
        place = (left / whole[0], 1 - (top + high) / whole[1], wide / whole[0], high / whole[1])
        axes = figure.add_axes(place)
        axes.imshow(picture, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        figure.text(
            left / whole[0], 1 - (top - letter / 2) / whole[1], caption, size=letter * 72 / dpi
        )
        if width_um is not None and number == len(pictures) - 1:
            _scale_bar(axes, wide, high, width_um, letter)
    return figure


def _scale_bar(axes: Axes, wide: int, high: int, width_um: float, letter: int) -> None:
    length = round_length(width_um / 5)
    pixels = length / width_um * wide
    right, bottom = wide - letter, high - letter
    halo = [patheffects.withStroke(linewidth=letter / 5, foreground="black")]
    axes.plot(
        [right - pixels, right],
        [bottom, bottom],
        color="white",
        linewidth=letter / 5,
        solid_capstyle="butt",
        path_effects=halo,
    )
    axes.text(
        right - pixels / 2,
        bottom - letter / 2,
        f"{length:g} µm",
        color="white",
        size=letter * 0.72,
        ha="center",
        va="bottom",
        path_effects=halo,
    )
    axes.set_xlim(-0.5, wide - 0.5)
    axes.set_ylim(high - 0.5, -0.5)


def round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... (and 0.5, 0.2, ...) that is at most `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most)


def curves(
    positions: Sequence[float],
    series: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    threshold: float | None = None,
) -> Figure:
    """Values over positions, a line for each name, from zero upwards; `threshold` is dashed."""
    figure, axes = _plot(x_label, y_label)
    highest = max((value for values in series.values() for value in values), default=0.0)
    for colour, (name, values) in zip(LINES, series.items(), strict=False):
        axes.plot(positions, values, "o-", color=colour, label=name, markersize=4)
    if threshold is not None:
        axes.axhline(threshold, color="#666666", linestyle="--", linewidth=1)
        highest = max(highest, threshold)
    axes.set_ylim(0, 1.08 * highest if highest > 0 else 1)
    if all(float(place).is_integer() for place in positions):
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def chart(
    values: Sequence[float | None], label: str, limits: tuple[float, float, float] | None
) -> Figure:
    """A control chart: a value for each acquisition in order; centre and limits are lines."""
    figure, axes = _plot("acquisition", label)
    known = [(i + 1, value) for i, value in enumerate(values) if value is not None]
    axes.plot(*zip(*known, strict=True), "o-", color=LINES[0], markersize=4, linewidth=1)
    if limits is not None:
        low, centre, high = limits
        axes.axhline(centre, color="#666666", linewidth=1)
        for limit in (low, high):
            axes.axhline(limit, color="#666666", linestyle="--", linewidth=1)
        beyond = [(i, value) for i, value in known if not low <= value <= high]
        if beyond:
            axes.plot(*zip(*beyond, strict=True), "D", color=LINES[1], markersize=6)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return figure


def bars(values: Mapping[str, float], y_label: str, threshold: float) -> Figure:
    """One bar with its number for each name, on a scale from 0 to 1; `threshold` is dashed."""
    figure, axes = _plot("", y_label)
    drawn = axes.bar(list(values), list(values.values()), color=LINES[0], width=0.6)
    axes.bar_label(drawn, fmt="%.2f", fontsize=8)
    axes.axhline(threshold, color="#666666", linestyle="--", linewidth=1)
    axes.set_ylim(0, 1.1)
    return figure


def histogram(sizes: Sequence[float], x_label: str, smallest: float, typical: float) -> Figure:
    """How many objects have which size. Marks the smallest accepted and the shots' typical one."""
    figure, axes = _plot(x_label, "objects")
    last = 1.05 * max([*sizes, 1.2 * typical])
    axes.hist(sizes, bins=np.linspace(0, last, 31).tolist(), color=LINES[0])
    for place, colour, name in (
        (smallest, LINES[1], "smallest accepted"),
        (typical, "#666666", "typical in the shots"),
    ):
        axes.axvline(place, color=colour, linestyle="--", linewidth=1.2, label=name)
    axes.legend(frameon=False, fontsize=8)
    return figure


def spread(values: Sequence[float], x_label: str, middle: float) -> Figure:
    """How many objects have which value; the median is marked."""
    figure, axes = _plot(x_label, "objects")
    axes.hist(values, bins=30, color=LINES[0])
    axes.axvline(middle, color="#666666", linestyle="--", linewidth=1.2, label="median")
    axes.legend(frameon=False, fontsize=8)
    return figure


def logarithmic(
    positions: Sequence[float],
    values: Sequence[float],
    line: Sequence[float],
    x_label: str,
    y_label: str,
) -> Figure:
    """Values and a line fitted to them, both axes logarithmic."""
    figure, axes = _plot(x_label, y_label)
    axes.plot(positions, values, "o", color=LINES[0], markersize=4)
    axes.plot(positions, line, color=LINES[1], linewidth=1.2, label="power law")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.tick_params(which="both", labelsize=8)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """An empty plot: small, so that its letters can still be read on a phone."""
    figure = Figure(figsize=(4.6, 2.8), dpi=200, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def png(picture: Figure | RGB) -> bytes:
    """A picture or figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(stream, format="png")
    else:
        imsave(stream, picture, format="png")
    return stream.getvalue()


def widest_gap_um(x_centres_um: npt.NDArray[np.floating[Any]], width_um: float) -> float:
    """The widest stretch along x without an object's centre, in a field from 0 to `width_um`.

    The field's edges end a stretch, so that an empty field gives its whole width.
    """
    stops = np.concatenate([[0.0], np.sort(x_centres_um), [width_um]])
    return float(np.diff(stops).max())


def untrained(labels: Labels, trained: npt.NDArray[np.bool_]) -> Labels:
    """The objects without those that have most of their voxels where `trained`; none is cut."""
    ids, place = np.unique(labels, return_inverse=True)
    place = place.ravel()
    inside = np.bincount(place[trained.ravel()], minlength=len(ids))
    drop = 2 * inside > np.bincount(place, minlength=len(ids))
    return np.where(drop[place].reshape(labels.shape), 0, labels)


def deviating(counts: Sequence[int]) -> list[int]:
    """Frames whose count is far from that of the two frames before and after.

    Far is 3.5 robust standard deviations. That deviation is at least half of the square root of
    the count, for cells come and go; with fewer than five frames nothing can be said.
    """
    if len(counts) < 5:
        return []
    values = np.asarray(counts, np.float64)
    expected = np.array(
        [
            np.median(np.r_[values[max(0, i - 2) : i], values[i + 1 : i + 3]])
            for i in range(len(values))
        ]
    )
    left = values - expected
    robust = 1.4826 * np.median(np.abs(left - np.median(left)))
    spread = np.maximum(robust, np.maximum(np.sqrt(expected) / 2, 1))
    return [int(i) for i in np.flatnonzero(np.abs(left) > 3.5 * spread)]
