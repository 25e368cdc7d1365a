"""Where others find simulated objects: what they got wrong, beside what one crop got wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from benchmarks import appearances, estimators
from benchmarks.appearances import Field
from benchmarks.peers.spotting import LodestarModel, Trackpy
from pipeline import points

Floats = npt.NDArray[np.float64]
WINDOW = 6
"""Half-width of the windows of the other estimators around a spot; around others 2 voxels more."""
FOUND = 3.0
"""Voxels from an object within which it is found."""
MOST_LOST = 0.01
"""Fraction of objects not found above which errors are judged by no target."""
DIAMETERS = {"spot": 7.0}
"""That trackpy is told, in voxels: what holds nearly all of an object's light."""
OTHER_DIAMETER = 17.0


@dataclass(frozen=True, slots=True)
class Errors:
    """What a method got wrong.

    Attributes
    ----------
    off: estimates less places, `(n, 2)`.
    missed: objects that it did not find.
    false: what it found where no object is.
    """

    off: Floats
    missed: int
    false: int = 0

    @property
    def lost(self) -> float:
        """Fraction of the objects that were not found."""
        return self.missed / (self.missed + len(self.off))


def matched(every: Sequence[Floats], fields: Sequence[Field], turned: bool) -> Errors:
    """Errors of places found in each field.

    Where an object has no centre of symmetry (`turned`), where it is is a matter of definition: the
    mean offset in the object's own frame is taken off.
    """
    off, angles, missed, false = [], [], 0, 0
    for found, field in zip(every, fields, strict=True):
        own, theirs = points.matched(found, field.places, FOUND)
        off.append(found[own] - field.places[theirs])
        angles.append(field.angles[theirs])
        missed += len(field.places) - len(own)
        false += len(found) - len(own)
    errors = np.concatenate(off)
    if turned:
        errors = without_offset(errors, np.concatenate(angles))
    return Errors(errors, missed, false)


def without_offset(off: Floats, angles: Floats) -> Floats:
    """Errors less their mean in the frame of objects that are turned by `angles`."""
    turns = np.exp(1j * angles)
    flat = off[:, 0] + 1j * off[:, 1]
    flat = flat - (flat / turns).mean() * turns
    return np.stack([flat.real, flat.imag], axis=1)


def able(shape: str) -> tuple[str, ...]:
    """Which estimators can be asked: those of symmetric objects say nothing of a crescent."""
    likely = ("maximum likelihood",)
    return likely if shape == "crescent" else (*likely, "radial symmetry", "centroid")


def estimated(method: str, shape: str, fields: Sequence[Field]) -> Errors:
    """Errors of an estimator, which is told within half a voxel where each object is."""
    half = WINDOW if shape == "spot" else WINDOW + 2
    plain: dict[str, Callable[[Floats], Floats]] = {
        "centroid": estimators.centroid,
        "radial symmetry": estimators.radial_symmetry,
    }
    off, missed = [], 0
    for field in fields:
        for place, angle in zip(field.places, field.angles, strict=True):
            corner = np.rint(place).astype(int) - half
            window = field.image[tuple(slice(a, a + 2 * half + 1) for a in corner)]
            found: Floats | None
            if method in plain:
                found = plain[method](window)
            else:
                light = appearances.appearance(shape, angle, window.shape)
                found = estimators.maximum_likelihood(window, light, np.full(2, float(half)))
            if found is None or np.abs(found + corner - place).max() > FOUND:
                missed += 1
            else:
                off.append(found + corner - place)
    return Errors(np.array(off).reshape(-1, 2), missed)


def trackpy(peer: Trackpy, shape: str, fields: Sequence[Field]) -> Errors:
    """Errors of trackpy, which is told the diameter: of what it may have found, what is nearest."""
    counts = [np.clip(np.rint(field.image), 0, 65535).astype(np.uint16) for field in fields]
    found = peer.locate(counts, DIAMETERS.get(shape, OTHER_DIAMETER), False)
    return replace(matched([each.places for each in found], fields, shape == "crescent"), false=0)


def lodestar(
    model: LodestarModel,
    normalised: Callable[[Floats], npt.NDArray[np.float32]],
    fields: Sequence[Field],
    turned: bool,
) -> Errors:
    """Errors of LodeSTAR with those of its settings that miss and invent least.

    The mean offset is taken off: where a voxel's middle is differs between it and us.
    """
    every = model.found([normalised(field.image) for field in fields])
    tried = [matched(each, fields, turned) for each in every]
    best = min(tried, key=lambda errors: errors.missed + errors.false)
    return replace(best, off=best.off - best.off.mean(axis=0)) if len(best.off) else best
