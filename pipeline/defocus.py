"""How a spot out of focus looks, and how far from focus it is: depth from one plane.

Without aberrations a wide-field image is the same on both sides of the focus, so that distance is
told, and not the side. What an image tells evenly, near focus too, is the distance squared.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline import optics
from pipeline.localisation import Appearance
from pipeline.optics import Optics

Floats = npt.NDArray[np.float64]
FARTHEST = 2.0
"""Axial standard deviations from focus up to which a spot is known."""
WIDER = 2
"""Times as many voxels tell of a spot as of one in focus."""
FINE, PLANES = 5, 24
"""Values per voxel and axis, and planes from focus on, between which is interpolated."""


@dataclass(frozen=True, slots=True, eq=False)
class Defocus:
    """The light of a point, on voxels, at places and distances from focus.

    Attributes
    ----------
    unit_um: distance from focus that counts as 1.
    reach: voxels around a place that are known.
    coefficients: of a cubic spline over planes, y and x.
    """

    unit_um: float
    reach: int
    coefficients: Floats

    def light(self, shape: tuple[int, int]) -> Appearance:
        """The light on a window of a point at `(y, x, square)`, of its distance in units, squared.

        A negative square goes on beyond focus as a straight line would: what is estimated may
        lie on either side of what is possible, and there is none to be found at an edge.
        """
        middle = self.coefficients.shape[-1] // 2
        voxels = np.indices(shape, dtype=float)

        def seen(place: Floats, square: float) -> Floats:
            plane = math.sqrt(min(square, FARTHEST**2)) / FARTHEST * PLANES
            off = middle + FINE * (voxels - np.asarray(place)[:, None, None])
            at = np.concatenate([np.full((1, *shape), plane), off])
            return np.asarray(
                ndimage.map_coordinates(
                    self.coefficients, at, order=3, mode="constant", prefilter=False
                )
            )

        def light(place: Floats) -> Floats:
            square = float(place[2])
            if square >= 0:
                return seen(place[:2], square)
            return 2 * seen(place[:2], 0.0) - seen(place[:2], -square)

        return light


def defocus(microscope: Optics, voxel_um: float, reach: int) -> Defocus | None:
    """What a wide-field microscope makes of a point; None of another, where depth fades light.

    By scalar diffraction, integrated over square voxels. All planes hold the same light.
    """
    if microscope.modality != "widefield":
        return None
    unit_um = microscope.sigma_um("z")[0]
    step = voxel_um / FINE
    radius = FINE * (reach + 2)
    depths_um = np.linspace(0, FARTHEST * unit_um, PLANES + 1)
    points = optics.planes(microscope, depths_um, step, radius + FINE)
    within = ndimage.uniform_filter(points, (1, FINE, FINE), mode="constant") * FINE**2
    cut = slice(FINE, FINE + 2 * radius + 1)
    coefficients = within[:, cut, cut]
    for axis in range(3):
        coefficients = ndimage.spline_filter1d(coefficients, 3, axis, mode="mirror")
    return Defocus(unit_um, reach, np.asarray(coefficients))


def depth(square: float, deviation: float) -> tuple[float, float]:
    """Distance from focus and its standard deviation, in units, of a square and its deviation.

    Far from focus that of the square over twice the distance; near it, where the slope of a square
    vanishes, no less than a square that is off by its own deviation allows.
    """
    distance = math.sqrt(max(square, 0.0))
    return distance, deviation / max(2 * distance, math.sqrt(deviation))
