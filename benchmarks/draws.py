"""Random choices of the examples to learn from: the same for every method.

Of whole images, a draw takes k of the shots; no two draws take the same. Of regions, it takes k
crops, `CROP_DIAMETERS` typical objects wide, that have no voxel in common and at least
`LEAST_OBJECTS` objects each, as somebody who annotates a little of one large image would. Objects
are cut where a crop ends.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.datasets import Domain, Example, crop, objects, typical_diameter

CROP_DIAMETERS = 6
LEAST_OBJECTS = 3
ATTEMPTS = 300
"""At a place for one more crop, before there is held to be none."""

Region = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """The examples of one repetition.

    Attributes
    ----------
    shots: what every method learns from.
    reserve: further examples in random order, for controls that may learn from more.
    """

    number: int
    shots: tuple[Example, ...]
    reserve: tuple[Example, ...]

    def of(self, times: int) -> tuple[Example, ...]:
        """The shots of a method that may learn from so many times as many, if there are."""
        return self.shots + self.reserve[: (times - 1) * len(self.shots)]


def draws(domain: Domain, k: int, count: int, seed: int, reserve: int) -> list[Draw]:
    """Draw `k` examples `count` times, with up to `reserve` more each; never of the tests.

    Fewer where there are not so many choices, none where there are not so many examples. The
    first draws are the same whatever `count` is.
    """
    names = " ".join(shot.name for shot in domain.shots)
    drawn: list[Draw] = []
    if domain.cropped:
        for number in range(count):
            generator = np.random.default_rng([seed, k, number, zlib.crc32(names.encode())])
            crops = _crops(domain.shots, k + reserve, generator)
            if len(crops) < k:
                return []
            drawn.append(Draw(number, tuple(crops[:k]), tuple(crops[k:])))
        return drawn
    generator = np.random.default_rng([seed, k, zlib.crc32(names.encode())])
    seen: set[frozenset[int]] = set()
    while len(drawn) < min(count, math.comb(len(domain.shots), k)):
        order = generator.permutation(len(domain.shots))
        chosen = frozenset(order[:k].tolist())
        if chosen not in seen:
            seen.add(chosen)
            every = tuple(domain.shots[i] for i in order)
            drawn.append(Draw(len(drawn), every[:k], every[k : k + reserve]))
    return drawn


def _crops(shots: Sequence[Example], count: int, generator: np.random.Generator) -> list[Example]:
    """Up to `count` crops that have no voxel in common."""
    side = math.ceil(CROP_DIAMETERS * typical_diameter(tuple(shots)))
    room = np.array([shot.labels.size for shot in shots], float)
    taken: list[tuple[int, Region]] = []
    found: list[Example] = []
    for _ in range(ATTEMPTS * count):
        if len(found) == count:
            break
        which = int(generator.choice(len(shots), p=room / room.sum()))
        shape = shots[which].labels.shape
        starts = [int(generator.integers(max(1, n - side + 1))) for n in shape]
        region = tuple((a, min(a + side, n)) for a, n in zip(starts, shape, strict=True))
        if any(which == other and _meet(region, place) for other, place in taken):
            continue
        where = ",".join(f"{start}:{stop}" for start, stop in region)
        piece = crop(shots[which], region, f"{shots[which].name}[{where}]")
        if objects(piece.labels) >= LEAST_OBJECTS:
            taken.append((which, region))
            found.append(piece)
    return found


def _meet(one: Region, other: Region) -> bool:
    return all(a < d and c < b for (a, b), (c, d) in zip(one, other, strict=True))
