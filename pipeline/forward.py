"""Forward models of spots: the least error that their photons allow, where optics are known."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import localisation
from pipeline.crops import Images
from pipeline.noise import Camera

Floats = npt.NDArray[np.float64]
REACH = 4.0
"""Standard deviations of the point-spread function around a place that tell of it."""
LEAST_PHOTONS = 1.0
"""Of a spot, below which there is no bound to speak of."""


@dataclass(frozen=True, slots=True)
class Forward:
    """How light from a point comes to be numbers.

    Attributes
    ----------
    sigma: standard deviation of the point-spread function, in voxels.
    low, high: counts that the normalised image calls 0 and 1.
    """

    sigma: float
    camera: Camera
    low: float
    high: float

    @property
    def reach(self) -> int:
        """Voxels around a place that are looked at."""
        return math.ceil(REACH * self.sigma)

    def bounds(self, image: Images, start: tuple[int, ...], places: Floats) -> Floats:
        """The Cramer-Rao bound of each place `(n, 2)` along one axis, in voxels.

        For the photons and the background that fit the image best there, by least squares, were it
        a single point; see `localisation.bound`. `image` is normalised, begins at `start` and holds
        `reach` + 1 voxels around all places. NaN where there is no light.
        """
        side = 2 * self.reach + 1
        light = localisation.spot((side, side), self.sigma)
        found = np.full(len(places), math.nan)
        for number, place in enumerate(places):
            corner = np.rint(place).astype(int) - self.reach
            y, x = corner - np.array(start)
            photons = self._photons(image[y : y + side, x : x + side])
            at = place - corner
            design = np.stack([light(at).ravel(), np.ones(photons.size)], axis=1)
            brightness, background = np.linalg.lstsq(design, photons.ravel(), rcond=None)[0]
            if brightness >= LEAST_PHOTONS:
                read_noise = self.camera.read_noise
                least = localisation.bound(light, at, brightness, max(background, 0.0), read_noise)
                found[number] = float(np.sqrt(np.square(least[:2]).mean()))
        return found

    def _photons(self, window: Images) -> Floats:
        counts = window.astype(np.float64) * (self.high - self.low) + self.low
        return (counts - self.camera.offset) / self.camera.gain
