"""The image as a model sees it: one channel of a volume, at the model's voxel size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import grids, resample
from pipeline.labelling import Lattice
from pipeline.tiles import Box, Level
from pipeline.volumes import Read, Volume, size_text

FINEST, COARSEST = 0.5, 3.0
"""How many voxels of a level one of the model's may be wide. Finer, an image holds less than the
model learned to see; coarser, what lies between is lost."""


@dataclass(frozen=True, slots=True)
class View:
    """Boxes and shapes here are spatial, and counted in voxels of the model's size.

    Attributes
    ----------
    level: what is read.
    channel: number of the channel.
    step: how many voxels of the level one of the model's is wide, along each axis.
    """

    volume: Volume
    level: Level
    channel: int
    step: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides of the image."""
        return resample.coarse_shape(self.volume.spatial(self.level.shape), self.step)

    @property
    def lattice(self) -> Lattice:
        """How these voxels lie in those of full resolution."""
        factors = self.volume.spatial(self.level.factors)
        return Lattice(
            step=tuple(f * s for f, s in zip(factors, self.step, strict=True)),
            coarse=self.shape,
            fine=self.volume.spatial(self.volume.levels[0].shape),
        )

    @property
    def resampled(self) -> bool:
        """Whether the image is brought to the model's voxels by interpolation."""
        return any(step != 1 for step in self.step)

    def read(self, box: Box, frame: int, read: Read | None = None) -> npt.NDArray[np.float32]:
        """The normalised image in `box`, mirrored beyond the edges.

        `read` reads as the volume does, which is asked where none is given.
        """
        inner, mirror = grids.mirrored(box, self.shape)
        places, source = self._source(inner)
        image = self.volume.normalised(self.level.number, source, frame, self.channel, read)
        if self.resampled:
            sides = self.volume.spatial(self.level.shape)
            image = resample.interpolated(image, source, places, sides)
        return image[np.ix_(*mirror)]

    def nothing(self, box: Box, frame: int) -> float | None:
        """The one value that `read` gives where the image holds zeros alone, known without reading.

        None where that is not known.
        """
        inner, _ = grids.mirrored(box, self.shape)
        _, source = self._source(inner)
        return self.volume.nothing(self.level.number, source, frame, self.channel)

    def _source(self, inner: Box) -> tuple[tuple[npt.NDArray[np.float64], ...], Box]:
        """Where the voxels of a box lie in the level that is read, and what they are made from."""
        if not self.resampled:
            return (), inner
        places = tuple(
            resample.centres_in_fine(*span)
            for span in zip(inner.start, inner.stop, self.step, strict=True)
        )
        return places, resample.needed(places, self.volume.spatial(self.level.shape))


def view(volume: Volume, channel: str, voxel_size_um: Sequence[float]) -> View:
    """The volume as a model with these voxels sees it: the nearest level, interpolated if need be.

    Raises ValueError where no level is near, or there is no such channel.
    """
    number = volume.channel(channel)
    if len(voxel_size_um) != len(volume.space):
        raise ValueError(
            f"{volume.store.name} has the spatial axes {volume.space}, and the model learned on "
            f"{'planes' if len(voxel_size_um) == 2 else 'volumes with depth'}. Use it on those."
        )
    same = volume.level_of(voxel_size_um)
    if same is not None:
        return View(volume, same, number, (1.0,) * len(voxel_size_um))
    steps = {
        level: tuple(m / v for m, v in zip(voxel_size_um, volume.voxel_um(level), strict=True))
        for level in volume.levels
    }
    level = min(steps, key=lambda level: sum(abs(math.log(step)) for step in steps[level]))
    if not all(FINEST <= step <= COARSEST for step in steps[level]):
        raise ValueError(
            f"{volume.store.name} has no level near the model's voxels of "
            f"{size_text(voxel_size_um)} um; its levels have {volume.sizes_text} um. "
            "Use a model that learned at one of these sizes, or check voxel_size_um of the "
            "acquisition."
        )
    return View(volume, level, number, steps[level])
