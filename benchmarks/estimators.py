"""Ways to locate one object in a window, that are not ours: what ours is measured beside."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline import localisation
from pipeline.localisation import Appearance

Floats = npt.NDArray[np.float64]


def centroid(window: Floats) -> Floats:
    """The centre of light above the median of the window's rim; what is below counts nothing."""
    rim = np.concatenate([window[0], window[-1], window[1:-1, 0], window[1:-1, -1]])
    light = np.maximum(window - np.median(rim), 0)
    if not light.any():
        return (np.array(window.shape) - 1) / 2
    return np.array([(light * at).sum() / light.sum() for at in np.indices(window.shape)])


def radial_symmetry(window: Floats) -> Floats:
    """Where lines along the gradients come nearest together.

    R. Parthasarathy, Nature Methods 9, 724 (2012): gradients on the corners between voxels,
    smoothed over 3 x 3, weighted by their square over the distance from the gradients' centroid.
    """
    down = window[1:, 1:] - window[:-1, :-1]
    up = window[:-1, 1:] - window[1:, :-1]
    gy, gx = (down - up) / 2, (down + up) / 2
    gy, gx = (_smoothed(part) for part in (gy, gx))
    strength = gy**2 + gx**2
    y, x = np.indices(strength.shape) + 0.5
    middle = [(strength * at).sum() / strength.sum() for at in (y, x)]
    weight = strength / np.maximum(np.hypot(y - middle[0], x - middle[1]), 1e-6)
    # The distance of (cy, cx) from a line along (gy, gx) through (y, x), squared, is quadratic.
    length = np.sqrt(np.maximum(strength, 1e-300))
    ny, nx = -gx / length, gy / length
    along = ny * y + nx * x
    matrix = [[(weight * a * b).sum() for b in (ny, nx)] for a in (ny, nx)]
    return np.linalg.lstsq(matrix, [(weight * a * along).sum() for a in (ny, nx)], rcond=None)[0]


def _smoothed(values: Floats) -> Floats:
    return np.asarray(ndimage.uniform_filter(values, 3, mode="constant"))


def maximum_likelihood(window: Floats, light: Appearance, start: Floats) -> Floats | None:
    """The best there is where the object's appearance is known; None where it does not end."""
    estimate = localisation.refined(window, light, start)
    return None if estimate is None else estimate.place
