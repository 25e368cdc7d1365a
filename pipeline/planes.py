"""Planes: which of a stack or a movie is empty, saturated, out of focus, dim or out of place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import alarms
from pipeline.alarms import FEWEST, LEVEL, NAMED, Check
from pipeline.intensities import sharpness
from pipeline.sentences import listed

WINDOW = 256
"""Voxels, at most, of the middle of a plane whose sharpness and place are measured."""
DIMMER, BLURRED, SHIFTED = 0.1, 0.7, 2.0
"""Differences of less are never called faults: of the logarithms of brightness and of focus, and
of the place, in pixels. A blurred plane has half the focus: in a stack, objects that begin and end
change it by a quarter from plane to plane."""
SATURATED = 0.01
"""Share of a plane's voxels at its camera's highest value that is too much."""
FOUND = 12.0
"""Height of a correlation's peak, in its own standard deviations, from which it tells a shift;
the highest of 65,536 values of noise alone reaches 6 once in 8,000 planes."""


@dataclass(frozen=True, slots=True)
class Plane:
    """What was measured of one plane.

    Attributes
    ----------
    number: in the stack or movie.
    spread: standard deviation of the intensities; 0 where they are all the same.
    saturated: share at the highest value that the camera can give.
    focus: as `intensities.sharpness` has it; None where noise hides it.
    shift: y, x in pixels against the plane before; None where that cannot be told.
    """

    number: int
    spread: float
    saturated: float
    focus: float | None
    shift: tuple[int, int] | None


def measure(planes: Sequence[npt.NDArray[Any]], numbers: Sequence[int]) -> list[Plane]:
    """Measure planes in their order."""
    top = _ceiling(max((float(plane.max()) for plane in planes), default=0.0), planes)
    found, before = list[Plane](), None
    for number, plane in zip(numbers, planes, strict=True):
        middle = tuple(
            slice((n - min(n, WINDOW)) // 2, (n + min(n, WINDOW)) // 2) for n in plane.shape
        )
        block = np.asarray(plane[middle], np.float64)
        found.append(
            Plane(
                number=number,
                spread=float(plane.std(dtype=np.float64)),
                saturated=float((plane >= top).mean()) if top else 0.0,
                focus=sharpness(block)[2],
                shift=None if before is None else shift(before, block),
            )
        )
        before = block
    return found


def _ceiling(highest: float, planes: Sequence[npt.NDArray[Any]]) -> float | None:
    """The highest value a camera of 8 to 16 bits can give, if the planes reach it."""
    if not planes or planes[0].dtype.kind == "f":
        return None
    top = int(highest)
    return highest if top >= 255 and top & (top + 1) == 0 else None


def shift(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[int, int] | None:
    """How far `other` lies from `one`, in pixels along y and x, or None where nothing tells.

    The peak of the phase correlation (C. D. Kuglin, D. C. Hines, 1975), edges tapered, whatever
    is finer than two pixels left out as noise.
    """
    if min(one.shape) < 32:
        return None
    taper = np.multiply.outer(*(np.hanning(n) for n in one.shape))
    a, b = (np.fft.rfft2((image - image.mean()) * taper) for image in (one, other))
    cross = np.conj(a) * b
    size = np.abs(cross)
    fy, fx = np.fft.fftfreq(one.shape[0])[:, None], np.fft.rfftfreq(one.shape[1])[None]
    weight = np.exp(-(fy**2 + fx**2) / (2 * 0.1**2))
    phase = np.divide(cross, size, out=np.zeros_like(cross), where=size > 0) * weight
    peak = np.fft.irfft2(phase, s=one.shape)
    spread = float(peak.std())
    at = np.unravel_index(int(peak.argmax()), peak.shape)
    if not spread or peak[at] < FOUND * spread:
        return None
    y, x = ((int(i) + n // 2) % n - n // 2 for i, n in zip(at, peak.shape, strict=True))
    return y, x


def checks(means: Sequence[float], found: Sequence[Plane], what: str) -> list[Check]:
    """The checks of one series, whose planes are called `what`.

    They look at each plane's mean intensity, all planes in order, and at what was measured of
    some of them.
    """
    return [
        _empty(means, found, what),
        _saturated(found, what),
        _brightness(means, what),
        _focus(found, what),
        _place(found, what),
    ]


def _empty(means: Sequence[float], found: Sequence[Plane], what: str) -> Check:
    name = f"empty {what}s"
    blank = {plane.number for plane in found if plane.spread == 0}
    blank |= {number for number, mean in enumerate(means) if mean == 0}
    if blank and len(blank) < len(means):
        said = listed(sorted(blank), NAMED)
        return Check(name, "alarm", f"{what} {said} holds one value everywhere: it was not taken.")
    if blank:
        return Check(name, "alarm", f"Every {what} holds one value everywhere.")
    return Check(name, "fine", f"{len(means)} {what}s, none is empty.")


def _saturated(found: Sequence[Plane], what: str) -> Check:
    name = f"saturated {what}s"
    over = [plane.number for plane in found if plane.saturated > SATURATED]
    if over:
        return Check(
            name,
            "alarm",
            f"more than {SATURATED:.0%} of {what} {listed(over, NAMED)} is saturated.",
        )
    return Check(name, "fine", f"No {what} has more than {SATURATED:.0%} saturated voxels.")


def _brightness(means: Sequence[float], what: str) -> Check:
    name = f"brightness of {what}s"
    if len(means) < FEWEST:
        return Check(name, "off", f"It takes {FEWEST} {what}s to tell which one differs.")
    values = np.asarray(means, np.float64)
    level = np.log(np.maximum(values, 1e-3 * max(float(np.abs(values).max()), 1e-30)))
    if odd := alarms.leaping(level.tolist(), LEVEL, DIMMER):
        return Check(
            name, "alarm", f"{what} {listed(odd, NAMED)} is brighter or dimmer than its neighbours."
        )
    return Check(name, "fine", f"No {what} leaps away from its neighbours.")


def _focus(found: Sequence[Plane], what: str) -> Check:
    name = f"focus of {what}s"
    told = [(plane.number, plane.focus) for plane in found if plane.focus]
    if len(told) < FEWEST:
        return Check(name, "off", f"Noise hides it, or there are fewer than {FEWEST} {what}s.")
    values = np.log([focus for _, focus in told])
    below = values < alarms.expected(values)
    odd = [told[i][0] for i in alarms.leaping(values.tolist(), LEVEL, BLURRED) if below[i]]
    if odd:
        return Check(name, "alarm", f"{what} {listed(odd, NAMED)} is out of focus.")
    return Check(name, "fine", f"No {what} is less sharp than its neighbours.")


def _place(found: Sequence[Plane], what: str) -> Check:
    """A plane out of place differs from the one before it, and the next differs back."""
    name = f"place of {what}s"
    told = [plane for plane in found if plane.shift is not None]
    if len(told) < FEWEST:
        return Check(name, "off", f"Too few neighbouring {what}s resemble each other.")
    moves = np.array([plane.shift for plane in told], np.float64)
    usual = np.median(moves, axis=0)
    away = np.hypot(*(moves - usual).T)
    odd = [told[i].number for i in np.flatnonzero(away > SHIFTED)]
    if len(odd) > len(told) // 4:
        return Check(name, "off", f"Neighbouring {what}s move all the time: objects do, or all.")
    if odd:
        return Check(
            name, "alarm", f"{what} {listed(odd, NAMED)} is shifted against the one before."
        )
    drift = np.hypot(*usual)
    if drift >= 1:
        return Check(
            name, "alarm", f"Everything drifts by {drift:.0f} pixels from {what} to {what}."
        )
    return Check(name, "fine", f"No {what} is shifted against its neighbours.")
