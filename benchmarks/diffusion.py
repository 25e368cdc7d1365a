"""Beads that diffuse in water: what detections say of how they move."""

from collections.abc import Sequence
from typing import Protocol

from benchmarks.measurement import Figure, Target
from benchmarks.peers.spotting import Trackpy
from benchmarks.placed import Kind
from pipeline import detectors, points
from pipeline.detectors import Detector

UM_PER_PIXEL, FRAMES_PER_S = 1 / 2.85, 24.0
EXPONENT, PREFACTOR = 1.0865, 1.5626
"""Of the mean-squared displacement by trackpy on the same frames, in um^2/s; 4 D is the second."""


class Trained(Protocol):
    """A training's outcome."""

    @property
    def detector(self) -> Detector:
        """What was learned."""
        ...


def figures(kind: Kind, outcomes: Sequence[Trained], peer: Trackpy) -> list[Figure]:
    """How far exponent and diffusion coefficient are from the reference, and what was missed.

    Linking and fit are trackpy's, with the settings of the reference.
    """
    exponents, prefactors, tracks, recalls = [], [], [], []
    for outcome in outcomes:
        found = [detectors.points(outcome.detector, image.voxels).places for image in kind.movie]
        said = peer.diffusion(found, UM_PER_PIXEL, FRAMES_PER_S)
        exponents.append(abs(said["exponent"] / EXPONENT - 1))
        prefactors.append(abs(said["prefactor"] / PREFACTOR - 1))
        tracks.append(said["tracks"])
        pairs = zip(found, kind.movie, strict=True)
        hits = sum(len(points.matched(each, image.places, 3.0)[0]) for each, image in pairs)
        recalls.append(hits / sum(len(image.places) for image in kind.movie))
    limit = Target("<=", 0.05)
    return [
        Figure.of(f"{kind.name}: exponent, off the reference", exponents, "", limit),
        Figure.of(f"{kind.name}: diffusion coefficient, off the reference", prefactors, "", limit),
        Figure.of(f"{kind.name}: tracks of 25 frames and more", tracks, "tracks"),
        Figure.of(f"{kind.name}: found of what the reference has in focus", recalls, ""),
    ]
