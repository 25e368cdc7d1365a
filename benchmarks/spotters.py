"""Finding objects in images, otherwise than we do, and how well candidates are found again.

A method gives candidates, each with a strength; a threshold on strengths says which are objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse, spatial
from scipy.sparse import csgraph

from benchmarks.placed import Placed

Floats = npt.NDArray[np.float64]
THRESHOLDS = 400
"""How many are tried where the best is looked for."""
SIZES = (0.7, 1.0, 1.4)
"""Widths of the Laplacian of Gaussian, in those that fit the diameter best."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What may be objects in one image: `places` `(n, 2)`, in its pixels, and `strengths`."""

    places: Floats
    strengths: Floats


def f1(
    found: Sequence[Candidates], images: Sequence[Placed], radius: float, threshold: float
) -> float:
    """F1 over all images of the candidates of this strength and more."""
    kept = [each.places[each.strengths >= threshold] for each in found]
    return f1_of(kept, images, radius)


def f1_of(found: Sequence[Floats], images: Sequence[Placed], radius: float) -> float:
    """F1 over all images of places."""
    hits = said = wanted = 0
    for places, image in zip(found, images, strict=True):
        hits += _pairs(places, image.places, radius)
        said += len(places)
        wanted += len(image.places)
    return 2 * hits / max(1, said + wanted)


def _pairs(found: Floats, wanted: Floats, radius: float) -> int:
    """How many can be paired, one to one, within a distance."""
    if not len(found) or not len(wanted):
        return 0
    near = spatial.cKDTree(found).query_ball_tree(spatial.cKDTree(wanted), radius)
    rows = np.repeat(np.arange(len(near)), [len(each) for each in near])
    columns = np.array([column for each in near for column in each], np.int64)
    shape = (len(found), len(wanted))
    able = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    partners = csgraph.maximum_bipartite_matching(able, perm_type="column")
    return int((partners >= 0).sum())


def best(
    found: Sequence[Candidates], images: Sequence[Placed], radius: float
) -> tuple[float, float]:
    """The highest F1 that a threshold gives, and that threshold: chosen from the annotations."""
    strengths = np.concatenate([each.strengths for each in found])
    if not len(strengths):
        return 0.0, 0.0
    # more candidates than twice the objects cannot be best
    most = 3 * sum(len(image.places) for image in images) + 10
    high = np.sort(strengths)[-most:]
    tried = np.unique(np.quantile(high, np.linspace(0, 1, THRESHOLDS)))
    return max((f1(found, images, radius, float(t)), float(t)) for t in tried)


def laplacian(image: Placed, diameter: float, dark: bool) -> Candidates:
    """Maxima over place and width of the Laplacian of Gaussian, normalised by its width."""
    values = -image.voxels.astype(np.float64) if dark else image.voxels.astype(np.float64)
    sigmas = [diameter / (2 * np.sqrt(2)) * size for size in SIZES]
    space = np.stack(
        [-(s**2) * ndimage.gaussian_laplace(values, s, mode="nearest") for s in sigmas]
    )
    near = max(1, round(diameter / 4))
    peak = ndimage.maximum_filter(space, (3, 2 * near + 1, 2 * near + 1), mode="nearest") == space
    at = np.argwhere(peak & (space > 0))
    return Candidates(at[:, 1:].astype(float), space[tuple(at.T)])
