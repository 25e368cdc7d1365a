"""Spots closer than a diameter: of how many pairs both are found."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks import appearances, spotters
from benchmarks.measurement import Figure
from benchmarks.placed import Placed
from pipeline import points

Floats = npt.NDArray[np.float64]
Find = Callable[[Floats], Floats]
"""Places `(n, 2)` of what is found in an image in photons."""
SEPARATIONS = (3.0, 4.0, 5.0, 6.0, 8.0)
"""Voxels between the two of a pair; the full width at half maximum of a spot is 3.1."""
PAIRS = 16
"""Along each side of a field."""
WIDTH = 3.7
"""Voxels: the diameter that suits the Laplacian of Gaussian to a spot."""
WITHIN = 1.4
"""Voxels from a spot within which it is found: less than half of the least separation."""


def figures(photons: float, background: float, finders: Sequence[Find]) -> Iterator[Figure]:
    """For each separation the fraction of pairs of which both are found, of each training."""
    for separation in SEPARATIONS:
        generator = np.random.default_rng([2, int(10 * separation), int(photons), int(background)])
        field = appearances.pairs(separation, photons, background, PAIRS, generator)
        name = f"pairs of spots of {photons:g} photons, {separation:g} voxels apart, both found"
        both = [_both(find(field.image), field.places) for find in finders]
        yield Figure.of(f"{name}: one crop", both, "")
        voxels = field.image.astype(np.float32)
        seen = Placed(name, voxels, field.places, np.zeros(len(field.places)))
        maxima = spotters.laplacian(seen, WIDTH, False)
        _, threshold = spotters.best([maxima], [seen], WITHIN)
        found = maxima.places[maxima.strengths >= threshold]
        yield Figure.of(f"{name}: Laplacian of Gaussian", [_both(found, field.places)], "")


def _both(found: Floats, places: Floats) -> float:
    _, theirs = points.matched(found, places, WITHIN)
    hit = np.zeros(len(places), bool)
    hit[theirs] = True
    return float(hit.reshape(-1, 2).all(axis=1).mean())
