"""What a report speaks of: a prediction as it lies on disk, and pictures of it."""

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import cards, figures, receipts, volumes
from pipeline.figures import RGB
from pipeline.sections import Shot
from pipeline.tiles import Box, placed
from pipeline.volumes import Volume


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with what it shows; `alt` says it to those who cannot see it."""

    caption: str
    alt: str
    png: bytes

    @property
    def uri(self) -> str:
        """An address that holds the whole picture."""
        return _uri(self.png)


@dataclass(frozen=True, slots=True)
class Crop:
    """An object and its surroundings, as a picture with what it shows."""

    array: RGB
    caption: str
    alt: str

    @property
    def uri(self) -> str:
        """An address that holds the whole picture."""
        return _uri(figures.png(self.array))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one model found in one acquisition, as it lies on disk."""

    model: str
    acquisition: str
    volume: Volume
    card: cards.Card
    table: pd.DataFrame
    made: dict[str, Any]
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """How many times the acquisition was imaged."""
        return self.volume.levels[0].shape[0] if "t" in self.volume.axes else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of a frame along its spatial axes, at full resolution."""
        return self.volume.spatial(self.volume.levels[0].shape)

    @property
    def width_um(self) -> float:
        """How far the field of view reaches along x."""
        return self.shape[-1] * self.volume.voxel_size_um["x"]

    @property
    def size_column(self) -> str:
        """The column of the table that says how large objects are."""
        return "volume_um3" if "z" in self.volume.axes else "area_um2"

    @property
    def size_unit(self) -> str:
        """What that column counts."""
        return "µm³" if "z" in self.volume.axes else "µm²"

    @property
    def voxel_size(self) -> float:
        """Area (um2) or volume (um3) of a voxel."""
        return math.prod(self.volume.voxel_size_um.values())

    @property
    def typical_size(self) -> float:
        """Area (um2) or volume (um3) of a typical object in the shots."""
        d = self.card.diameter_um
        return math.pi / 6 * d**3 if "z" in self.volume.axes else math.pi / 4 * d**2

    @property
    def smallest_size(self) -> float:
        """Below this, predict found no object, in the same unit."""
        return (
            float(self.made["recipe"]["settings"]["predict"]["smallest_object"]) * self.typical_size
        )

    @property
    def times(self) -> tuple[str, list[float]]:
        """When each frame was taken, in the unit that suits: h, min or s.

        Where the file does not say it, the unit is "frame" and the times are frame numbers.
        """
        step = self.volume.time_step_s
        if step is None:
            return "frame", [float(frame) for frame in range(self.frames)]
        unit, seconds = next(
            (u, s)
            for u, s in (("h", 3600), ("min", 60), ("s", 1))
            if s == 1 or step * self.frames > 2 * s
        )
        return unit, [frame * step / seconds for frame in range(self.frames)]

    @property
    def widest_gaps_um(self) -> list[float]:
        """The widest stretch along x without an object's centre, in each frame."""
        x_um = [self.table.loc[self.table["t"] == frame, "x_um"] for frame in range(self.frames)]
        return [figures.widest_gap_um(x.to_numpy(float), self.width_um) for x in x_um]

    @property
    def ingested(self) -> dict[str, Any]:
        """What settings say of the acquisition: its path, its series, and so on."""
        made = receipts.read(self.volume.store.with_name(f"{self.acquisition}.json"))
        found: dict[str, Any] = made["recipe"]["settings"]["acquisition"]
        return found

    def image(self, level: int, space: Box, frame: int) -> npt.NDArray[Any]:
        """Intensities of the model's channel in a spatial box, in voxels of the level."""
        channel = self.volume.channel(self.card.channel)
        box = placed(self.volume.axes, space, frame, channel)
        return self.volume.read(level, box).reshape(space.shape)

    def labels(self, level: int, space: Box, frame: int) -> npt.NDArray[Any]:
        """Ids of objects in a spatial box, in voxels of the level; 0 is background."""
        axes = self.volume.axes.replace("c", "")
        store = self.volume.store / "labels" / self.model
        made = self.volume.store.parents[1] / "predict" / self.model / f"{self.acquisition}.json"
        box = placed(axes, space, frame, 0)
        found = volumes.read_box(store, self.volume.label_levels[level], box, made)
        return found.reshape(space.shape)

    def trained(self, frame: int) -> npt.NDArray[np.bool_]:
        """Which voxels of a frame the model learned from."""
        mask = np.zeros(self.shape, bool)
        for shot in self.shots:
            region: dict[str, tuple[int, int]] = dict(shot.region)
            first, last = region.get("t", (0, self.frames))
            if first <= frame < last:
                mask[tuple(slice(*region.get(axis, (None,))) for axis in self.volume.space)] = True
        return mask


def _uri(png: bytes) -> str:
    """A picture as an address that needs no file."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
