"""Maps: where in a field objects are suspicious, how suspicious they are, how bright voxels are."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.figures import LINES

Floats = npt.NDArray[np.float64]
COLOURS = "cividis"
"""Colour-blind readers see it as others do."""


def suspicion(
    across_um: Floats,
    down_um: Floats,
    values: Floats,
    worst: npt.NDArray[np.bool_],
    sides_um: tuple[float, float],
    axis: str,
) -> Figure:
    """Objects at their places in a field of `sides_um` (`axis` down, x), the worst ringed."""
    figure, axes = _plot("x (µm)", f"{axis} (µm)")
    order = np.argsort(values)
    drawn = axes.scatter(across_um[order], down_um[order], c=values[order], s=12, cmap=COLOURS)
    axes.scatter(across_um[worst], down_um[worst], s=50, facecolors="none", edgecolors="#d55e00")
    axes.set_xlim(0, sides_um[1])
    axes.set_ylim(sides_um[0], 0)
    axes.set_aspect("equal")
    figure.colorbar(drawn, ax=axes, label="suspicion", shrink=0.8)
    return figure


def distribution(values: Floats) -> Figure:
    """How many objects are how suspicious."""
    figure, axes = _plot("suspicion", "objects")
    axes.hist(values, bins=30, color="#0072b2")
    return figure


def _plot(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.2), dpi=200, facecolor="white", layout="constrained")
    axes: Any = figure.add_subplot()
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def intensities(shares: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Figure:
    """Which share of the voxels has which intensity: of each channel, bins' begins and shares."""
    figure, axes = _plot("intensity", "share of voxels")
    for colour, (name, (values, share)) in zip(
        itertools.cycle(LINES), shares.items(), strict=False
    ):
        axes.step(values, share, where="post", color=colour, label=name, linewidth=1.2)
    axes.set_yscale("log")
    if len(shares) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure
