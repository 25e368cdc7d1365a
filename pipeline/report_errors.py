"""What went wrong, error by error: a table of all of them, and pictures of the largest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import figures
from pipeline.agreement import ERRORS, Error
from pipeline.report_prediction import Crop, Prediction
from pipeline.tiles import Box

CELLS, CELL_SIDE = 8, 160
"""Pictures of each kind of error, over all frames; the least side of one, in pixels."""
COLUMNS = ("kind", "t", "z", "y", "x", "voxels", "reference", "predicted")
Labels = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A picture of an error of so many voxels."""

    voxels: int
    crop: Crop


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of all frames that were scored, collected frame by frame.

    Attributes
    ----------
    rows: of the table: kind, place, size and ids of each.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    _shown: dict[str, list[_Shown]] = field(
        default_factory=lambda: {kind: list[_Shown]() for kind in ERRORS}
    )

    def counts(self) -> dict[str, int]:
        """How many errors there are of each kind."""
        return {kind: sum(row["kind"] == kind for row in self.rows) for kind in ERRORS}

    def crops(self) -> dict[str, list[Crop]]:
        """Pictures of the largest errors of each kind that there is, the largest first."""
        return {kind: [one.crop for one in shown] for kind, shown in self._shown.items() if shown}

    def table(self) -> bytes:
        """All errors as CSV: kind, frame, place in voxels, size, and ids on both sides."""
        rows = pd.DataFrame(self.rows, columns=list(COLUMNS))
        return rows.to_csv(index=False, lineterminator="\n").encode()

    def add(
        self,
        p: Prediction,
        frame: int,
        predicted: Labels,
        reference: Labels,
        found: Sequence[Error],
    ) -> None:
        """Take up the errors of a frame, whose whole labels are given."""
        places = {True: _Places(reference), False: _Places(predicted)}
        for error in found:
            of_reference = error.kind not in ("false", "merged")
            subject = (error.reference if of_reference else error.predicted)[0]
            voxels, middle = places[of_reference].of(subject)
            self.rows.append(
                {"kind": error.kind, "t": frame}
                | dict(zip(p.volume.space, (round(m, 1) for m in middle), strict=True))
                | {"voxels": voxels}
                | {"reference": " ".join(map(str, error.reference))}
                | {"predicted": " ".join(map(str, error.predicted))}
            )
            shown = self._shown[error.kind]
            if len(shown) < CELLS or voxels > shown[-1].voxels:
                at = [round(m) for m in middle]
                crop = _crop(p, frame, predicted, reference, error, voxels, at)
                shown.append(_Shown(voxels, crop))
                shown.sort(key=lambda one: -one.voxels)
                del shown[CELLS:]


class _Places:
    """Size and mean place of each object of a frame."""

    def __init__(self, labels: Labels) -> None:
        inside = np.nonzero(labels)
        self.ids, place, self.voxels = np.unique(
            labels[inside], return_inverse=True, return_counts=True
        )
        sums = [np.bincount(place, weights=where, minlength=len(self.ids)) for where in inside]
        self.middles = np.stack(sums, axis=-1) / np.maximum(self.voxels, 1)[:, None]

    def of(self, number: int) -> tuple[int, list[float]]:
        row = int(np.searchsorted(self.ids, np.asarray(number, self.ids.dtype)))
        return int(self.voxels[row]), self.middles[row].tolist()


def _crop(
    p: Prediction,
    frame: int,
    predicted: Labels,
    reference: Labels,
    error: Error,
    voxels: int,
    middle: Sequence[int],
) -> Crop:
    """The image, and outlines of both sides over it."""
    box, pads = around(p, middle)
    image = p.image(0, box, frame).reshape(box.shape[-2:])
    low, high = float(image.min()), max(float(image.max()), float(image.min()) + 1)
    image = np.pad(image, pads, constant_values=image.min())
    mine, theirs = (
        np.pad(side[box.slices].reshape(box.shape[-2:]), pads) for side in (predicted, reference)
    )
    where = ", ".join(f"{a} {m}" for a, m in zip(p.volume.space, middle, strict=True))
    where = f"frame {frame}, {where}" if p.frames > 1 else where
    size = f"{voxels * p.voxel_size:.0f} {p.size_unit}"
    parts = max(len(error.reference), len(error.predicted))
    what = f"{error.kind}, {parts} parts" if error.kind in ("split", "merged") else error.kind
    return Crop(
        array=figures.beside(
            figures.overlay(image, np.zeros_like(mine), low, high, CELL_SIDE),
            figures.overlay(image, mine, low, high, CELL_SIDE, theirs),
        ),
        caption=f"{what}, {size}: {where}",
        alt=f"An object that is {what}, of {size}, at voxel {where}.",
    )


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
