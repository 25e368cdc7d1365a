"""Templates: what a crop's object looks like whichever way it is turned, and how bright others are.

How well a place is known depends on how sharp and how bright what lies there is, and noise can look
sharp. How bright something is of the object's own shape tells objects from what is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.crops import Crop, Images

Floats = npt.NDArray[np.float64]
STEP = 0.5
"""Voxels between the distances at which the light is told."""
TURNS = 32
"""Directions that the light is averaged over."""
AT_ONCE = 1024
"""Places that are looked at in one go."""


@dataclass(frozen=True)
class Template:
    """The light of an object less its background at 0, 1/2, 1, ... voxels from its middle.

    It is the mean over all directions, and over crops.
    """

    profile: tuple[float, ...]

    @classmethod
    def of(cls, known: Sequence[Crop], middle: Floats) -> Self:
        """The template of crops; `middle` is where the object lies, from a crop's own middle."""
        radius = math.ceil(1.5 * max(crop.extent for crop in known) + 2)
        far = np.arange(0, radius + STEP, STEP)
        angles = np.arange(TURNS) * 2 * math.pi / TURNS
        ways = np.stack([np.sin(angles), np.cos(angles)])
        light = []
        for crop in known:
            centre = (np.array(crop.object.shape) - 1) / 2 + middle
            at = centre[:, None, None] + ways[:, :, None] * far
            light.append(ndimage.map_coordinates(crop.object, at, order=3).mean(axis=0))
        return cls(tuple(float(value) for value in np.mean(light, axis=0)))

    @property
    def radius(self) -> int:
        """Voxels around a place that tell how bright it is."""
        return int((len(self.profile) - 1) * STEP)

    @cached_property
    def _disc(self) -> npt.NDArray[np.int64]:
        """Offsets of these voxels, `(m, 2)`."""
        square = np.indices((2 * self.radius + 1,) * 2).reshape(2, -1).T - self.radius
        return np.asarray(square[np.hypot(*square.T) <= self.radius])

    def brightness(self, image: Images, start: tuple[int, ...], places: Floats) -> Floats:
        """How bright the image is at places `(n, 2)` in units of the crop's object.

        The factor of the template in the least-squares fit of it and an even background. `image`
        begins at `start` and holds `radius` + 1 voxels around all places. Each place has the same
        brightness whatever the other places are, to the last bit.
        """
        found = [
            self._fitted(image, places[first : first + AT_ONCE] - np.array(start))
            for first in range(0, len(places), AT_ONCE)
        ]
        return np.concatenate([np.zeros(0), *found])

    def _fitted(self, image: Images, places: Floats) -> Floats:
        at = np.rint(places).astype(np.int64)[:, None] + self._disc
        values = image[at[..., 0], at[..., 1]].astype(np.float64)
        far = np.hypot(*np.moveaxis(at - places[:, None], -1, 0))
        light = np.interp(far, np.arange(len(self.profile)) * STEP, self.profile)
        light = light - light.mean(axis=1, keepdims=True)
        across: Floats = (light * values).sum(axis=1) / np.square(light).sum(axis=1)
        return across
