"""What a file says about the image it holds, whatever its format."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

METRE_UM = 1e6
MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3,
    "cm": 1e4, "m": METRE_UM, "meter": METRE_UM, "angstrom": 1e-4, "Å": 1e-4,
}  # fmt: skip
SECONDS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "millisecond": 1e-3, "min": 60.0,
    "minute": 60.0, "h": 3600.0, "hour": 3600.0,
}  # fmt: skip
MOMENT = re.compile(r"[12]\d{3}-[01]\d-[0-3]\d([T ][0-2]\d:[0-5]\d(:[0-5]\d)?)?")
COLOURS = ("red", "green", "blue", "alpha")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about itself; None or empty where it is silent.

    Attributes
    ----------
    axes: a letter for each side of `shape`; "?" for one that the file does not name.
    colours: six hexadecimal digits for each channel; "" for one whose colour is not told.
    position_um: where the centre of the first voxel lies, for each of z, y, x that is told.
    acquired: when, `YYYY-MM-DDTHH:MM:SS` in the microscope's own time, or the day alone.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    voxel_size_um: dict[str, float]
    time_step_s: float | None
    colours: tuple[str, ...] = ()
    position_um: dict[str, float] = field(default_factory=dict)
    acquired: str = ""


class Voxels(Protocol):
    """An image that gives the voxels it is asked for, along the axes of its header."""

    shape: tuple[int, ...]

    def __getitem__(self, slices: tuple[slice, ...], /) -> Any:
        """Read a box, of one slice per axis."""


@dataclass(frozen=True, slots=True)
class Format:
    """How files of one kind are read.

    Attributes
    ----------
    endings: of file names, in lower case.
    package, extra: the module that reads it, and the extra of this package that installs it.
    series: names of the images in a file.
    header: what a file says of one of them. Raises ValueError where it is damaged.
    voxels: opens one of them.
    files: those that one of them is read from; none where that is all that the path holds.
    """

    name: str
    endings: tuple[str, ...]
    package: str
    extra: str
    series: Callable[[Path], Sequence[str]]
    header: Callable[[Path, str], Header]
    voxels: Callable[[Path, str], AbstractContextManager[Voxels]]
    files: Callable[[Path, str], Sequence[Path]] = lambda _path, _name: ()


@contextlib.contextmanager
def readable(
    path: Path, kind: str, damage: tuple[type[Exception], ...], opened: Callable[[], Any]
) -> Iterator[Any]:
    """What `opened` opens, until the caller is done with it.

    Raises ValueError where the file is not of this kind or not whole, which its library says by an
    exception among `damage`.
    """
    try:
        with opened() as file:
            yield file
    except damage as error:
        raise ValueError(f"{path} is no readable {kind}: {error}.") from error


def unnamed(count: int) -> str:
    """Axes of an image that does not say what they are: the last two of a plane are clear."""
    return "yx" if count == 2 else "?" * count


def number(said: Any) -> float | None:
    """What a file says as a finite number; None where it says none."""
    try:
        value = float(said)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def micrometres(said: Mapping[str, tuple[Any, Any]]) -> dict[str, float]:
    """Lengths in um of pairs of a number and its unit, those that are both told and known."""
    found = {
        axis: (number(value), MICROMETRES.get(str(unit))) for axis, (value, unit) in said.items()
    }
    return {a: value * um for a, (value, um) in found.items() if value is not None and um}


def moment(said: Any) -> str:
    """Date, and time to the second, of what a file says in ISO 8601; "" where it says none."""
    found = MOMENT.match(str(said))
    return found[0].replace(" ", "T") if found else ""


def colour(said: Any) -> str:
    """Six digits of `RRGGBB`, `#RRGGBB` or `#AARRGGBB`; "" where it is no colour.

    Nor is black one: nothing would be seen of the channel.
    """
    found = re.fullmatch(r"#?(?:[0-9a-f]{2})?([0-9a-f]{6})", str(said), re.IGNORECASE)
    return found[1].upper() if found and int(found[1], 16) else ""


def told(colours: Sequence[str]) -> tuple[str, ...]:
    """The colours of all channels; empty where a file tells none of them."""
    return tuple(colours) if any(colours) else ()


def coloured(path: Path, count: int) -> str:
    """Why a file is refused that has colours in several channels."""
    return (
        f"{path} has {count} channels, and each of its voxels is a colour. Split it into channels "
        "of one intensity each."
    )
