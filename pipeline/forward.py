"""Forward models of spots, where optics are known.

They tell the least error that a spot's photons allow, the place that explains its image best, and
how far from focus it is.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline import localisation
from pipeline.crops import Images
from pipeline.defocus import FARTHEST, Defocus, depth
from pipeline.localisation import Appearance
from pipeline.noise import Camera

Floats = npt.NDArray[np.float64]
REACH = 4.0
"""Standard deviations of the point-spread function around a place that tell of it."""
LEAST_PHOTONS = 1.0
"""Of a spot, below which there is no bound to speak of."""
MOST_MOVED = 2.0
"""Voxels from where a search begins to where it ends."""
MOST_MISFIT = 3.09
"""Standard deviations; one in 1,000 images of a single spot is further from what is expected."""


STARTS = (0.05, 0.5, 1.5, 3.0)
"""Squares of distances from focus, in its unit, from the best of which the search begins."""


@dataclass(frozen=True, slots=True)
class Refined:
    """Places that explain the image best.

    Attributes
    ----------
    places: in voxels, `(n, 2)`; as given where no single spot explains the image.
    deviations: standard deviations along one axis, in voxels; NaN there.
    depths_um: distance from focus, and its standard deviation, `(n, 2)`; NaN there, and everywhere
        if depth is not asked for.
    """

    places: Floats
    deviations: Floats
    depths_um: Floats

    @property
    def taken(self) -> npt.NDArray[np.bool_]:
        """Where a single spot explains the image."""
        return np.isfinite(self.deviations)


@dataclass(frozen=True, slots=True)
class Forward:
    """How light from a point comes to be numbers.

    Attributes
    ----------
    sigma: standard deviation of the point-spread function, in voxels.
    low, high: counts that the normalised image calls 0 and 1.
    defocus: how a point out of focus looks, where its depth is to be told.
    """

    sigma: float
    camera: Camera
    low: float
    high: float
    defocus: Defocus | None = None

    @property
    def reach(self) -> int:
        """Voxels around a place that are looked at."""
        return self.defocus.reach if self.defocus else reach(self.sigma)

    def bounds(
        self,
        image: Images,
        start: tuple[int, ...],
        places: Floats,
        depths_um: npt.NDArray[np.float64] | None = None,
    ) -> Floats:
        """The Cramer-Rao bound of each place `(n, 2)` along one axis, in voxels.

        For the photons and the background that fit the image best there, by least squares, were it
        a single point, in focus or at the depths of `Refined`; see `localisation.bound`. `image` is
        normalised, begins at `start` and holds `reach` + 1 voxels around all places. NaN where
        there is no light.
        """
        light = self._light()
        found = np.full(len(places), math.nan)
        for number, place in enumerate(places):
            photons, corner = self._window(image, start, place)
            at = place - corner
            if self.defocus:
                depth_um = 0.0 if depths_um is None else float(np.nan_to_num(depths_um[number, 0]))
                at = np.append(at, (depth_um / self.defocus.unit_um) ** 2)
            brightness, background = localisation.fitted(photons, light(at))
            if brightness >= LEAST_PHOTONS:
                read_noise = self.camera.read_noise
                least = localisation.bound(light, at, brightness, max(background, 0.0), read_noise)
                found[number] = _along_one_axis(least)
        return found

    def refined(self, image: Images, start: tuple[int, ...], places: Floats) -> Refined:
        """Places of maximum likelihood, searched from those given on; see `localisation.refined`.

        They are taken where a single spot explains the image around: neighbours within `reach`, or
        an object that is no point, show in chi-square. What decides lies in the image alone, so
        that tiles do not matter. `image` is as in `bounds`.
        """
        light, read_noise = self._light(), self.camera.read_noise
        moved, deviations = places.copy(), np.full(len(places), math.nan)
        depths_um = np.full((len(places), 2), math.nan)
        for number, place in enumerate(places):
            photons, corner = self._window(image, start, place)
            at, within = self._begun(photons, light, place - corner)
            best = localisation.refined(photons, light, at, read_noise, within)
            if best is None:
                continue
            if localisation.misfit(photons, light, best, read_noise) <= MOST_MISFIT:
                moved[number] = best.place[:2] + corner
                deviations[number] = _along_one_axis(best.deviations)
                if self.defocus:
                    told = depth(best.place[2], best.deviations[2])
                    depths_um[number] = self.defocus.unit_um * np.array(told)
        return Refined(moved, deviations, depths_um)

    def _begun(self, photons: Floats, light: Appearance, at: Floats) -> tuple[Floats, Floats]:
        """Where the search begins, and how far from there it may go, for each coordinate."""
        plane = np.full(2, MOST_MOVED)
        if not self.defocus:
            return at, plane

        def off(square: float) -> float:
            shape = light(np.append(at, square))
            brightness, background = localisation.fitted(photons, shape)
            return float(np.square(photons - brightness * shape - background).sum())

        first = min(STARTS, key=off)
        return np.append(at, first), np.append(plane, FARTHEST**2 - first)

    def _light(self) -> Appearance:
        side = 2 * self.reach + 1
        if self.defocus:
            return self.defocus.light((side, side))
        return localisation.spot((side, side), self.sigma)

    def _window(
        self, image: Images, start: tuple[int, ...], place: Floats
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The photons around a place, and where they begin."""
        corner = np.rint(place).astype(np.int64) - self.reach
        y, x = corner - np.array(start)
        side = 2 * self.reach + 1
        counts = image[y : y + side, x : x + side].astype(np.float64)
        counts = counts * (self.high - self.low) + self.low
        return (counts - self.camera.offset) / self.camera.gain, corner


def _along_one_axis(deviations: Floats) -> float:
    return float(np.sqrt(np.square(deviations[:2]).mean()))


def reach(sigma: float) -> int:
    """Voxels around a place that tell of it, where the point-spread function is so wide."""
    return math.ceil(REACH * sigma)
