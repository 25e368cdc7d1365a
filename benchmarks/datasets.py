"""Reads annotated image sets: which images to learn from, and which to be measured on.

A set is a folder with `images/STEM.tif` (or .png, .jpg), `labels/STEM.tif` (0 is background, every
other number one object) and `split.json`: `shots` to draw examples from and `test` to measure on,
both lists of stems or of regions; or such a pair for each of several domains, by name. A region
is `{"y0": ..., "y1": ..., "x0": ..., "x1": ...}` in pixels, with `z0` and `z1` in a volume, and
with `image`, a stem, where the set has several. `images/STEM.json` may give `spacing_um`, the
distances between voxels.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from pipeline.shots import equivalent_diameter

QUANTILES = (0.01, 0.998)
"""Of an image's intensities: become 0 and 1."""
TIFF, OTHER = (".tif", ".tiff"), (".png", ".jpg", ".jpeg")
COLOURS = (2, 3, 4)
"""How many channels an image may have; a fourth is its opacity."""

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One channel, normalised: the quantiles of its intensities are 0 and 1.

    `spacing` is the distance between voxels along each axis, in um, or 1 where it is not known.
    """

    voxels: Floats
    spacing: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An image, or a region of one, with all its objects labelled."""

    name: str
    domain: str
    image: Image
    labels: Labels


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Images of one kind.

    Attributes
    ----------
    shots: to draw examples from.
    tests: to be measured on, never to learn from.
    cropped: whether shots are regions, which draws take crops of.
    """

    shots: tuple[Example, ...]
    tests: tuple[Example, ...]
    cropped: bool

    @property
    def axes(self) -> str:
        """The spatial axes, "yx" or "zyx"."""
        return "yx" if self.tests[0].labels.ndim == 2 else "zyx"

    def digest(self) -> str:
        """Changes with any voxel of any image or label."""
        found = hashlib.blake2b(digest_size=8)
        for example in (*self.shots, *self.tests):
            found.update(example.name.encode())
            found.update(np.ascontiguousarray(example.image.voxels).data)
            found.update(np.ascontiguousarray(example.labels).data)
        return found.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """An annotated image set. A set without domains has one, whose name is empty."""

    name: str
    domains: Mapping[str, Domain]


@dataclass(frozen=True, slots=True)
class Place:
    """A whole image, or a region of one: `[start, stop]` of each axis in its order, or None."""

    stem: str
    name: str
    region: tuple[tuple[int, int], ...] | None

    def overlaps(self, other: "Place") -> bool:
        """Whether the two have a voxel in common."""
        if self.stem != other.stem:
            return False
        if self.region is None or other.region is None:
            return True
        spans = zip(self.region, other.region, strict=True)
        return all(a < d and c < b for (a, b), (c, d) in spans)


def read(folder: Path) -> Set:
    """Read a set.

    Raises ValueError where something is missing, or not understood.
    """
    split = folder / "split.json"
    if not split.is_file():
        raise ValueError(f"{folder} has no split.json, which says what to learn from.")
    if not (folder / "labels").is_dir():
        raise ValueError(f"{folder} has no labels: only sets with labelled objects are measured.")
    said = _json(split)
    pairs = {"": said} if _is_pair(said) else said
    if not (isinstance(pairs, dict) and pairs and all(map(_is_pair, pairs.values()))):
        raise ValueError(
            f"{split} must hold `shots` and `test`, two lists, or a pair of them for each domain."
        )
    load = cache(lambda stem: _load(folder, stem))
    stems = sorted({path.stem for path in (folder / "images").glob("*") if _is_image(path)})
    domains = {}
    for domain, pair in pairs.items():
        shots, tests = ([_place(split, e, stems) for e in pair[part]] for part in ("shots", "test"))
        both = [test.name for test in tests if any(test.overlaps(shot) for shot in shots)]
        if both:
            raise ValueError(f"{split}: {', '.join(both)} would be tested on and learned from.")
        learned, tested = (
            tuple(_cut(*load(place.stem), place, domain) for place in places)
            for places in (shots, tests)
        )
        if len({example.labels.ndim for example in (*learned, *tested)}) > 1:
            raise ValueError(f"{split}: {domain or 'it'} mixes planar images and volumes.")
        domains[domain] = Domain(learned, tested, any(place.region for place in shots))
    return Set(folder.resolve().name, domains)


def _is_pair(entry: Any) -> bool:
    """Whether this is a list of `shots` and one of `test`; notes may stand beside them."""
    return isinstance(entry, dict) and all(
        isinstance(entry.get(part), list) and entry[part] for part in ("shots", "test")
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in (*TIFF, *OTHER)


def _place(split: Path, entry: Any, stems: list[str]) -> Place:
    """What an entry of split.json stands for."""
    if isinstance(entry, str):
        stem, region = entry, None
    elif isinstance(entry, dict) and {"y0", "y1", "x0", "x1"} <= entry.keys():
        if "image" not in entry and len(stems) != 1:
            raise ValueError(f"{split}: the region {entry} must name its `image`, of {len(stems)}.")
        stem = entry.get("image", stems[0] if stems else "")
        axes = [axis for axis in "zyx" if f"{axis}0" in entry]
        region = tuple((int(entry[f"{axis}0"]), int(entry[f"{axis}1"])) for axis in axes)
    else:
        raise ValueError(f"{split}: {entry!r} is neither a stem nor a region of pixels.")
    if stem not in stems:
        raise ValueError(f"{split} names {stem!r}, and images holds no such file.")
    if region is None:
        return Place(stem, stem, None)
    where = ",".join(f"{start}:{stop}" for start, stop in region)
    return Place(stem, str(entry.get("name", f"{stem}[{where}]")), region)


def _load(folder: Path, stem: str) -> tuple[Image, Labels]:
    """A whole image, normalised, and its labels."""
    raw, labels = _pixels(folder / "images", stem), _pixels(folder / "labels", stem)
    if labels.dtype.kind not in "iu" or (labels.dtype.kind == "i" and labels.min() < 0):
        raise ValueError(f"the labels of {stem} must be whole numbers from 0 on.")
    channels = [axis for axis in (raw.ndim - 1, 0) if raw.ndim == labels.ndim + 1]
    for axis in channels:
        sides = raw.shape[:axis] + raw.shape[axis + 1 :]
        if raw.shape[axis] in COLOURS and sides == labels.shape:
            raw = raw.take(range(min(3, raw.shape[axis])), axis).mean(axis)
            break
    if raw.shape != labels.shape or labels.ndim not in (2, 3):
        raise ValueError(
            f"the image {stem} of shape {raw.shape} does not fit its labels of {labels.shape}."
        )
    low, high = np.quantile(raw.astype(np.float64), QUANTILES)
    voxels = (raw.astype(np.float64) - low) / (high - low if high > low else 1.0)
    spacing = _spacing(folder / "images" / f"{stem}.json", labels.ndim)
    return Image(voxels.astype(np.float32), spacing), labels.astype(np.int32)


def _pixels(folder: Path, stem: str) -> npt.NDArray[Any]:
    for suffix in (*TIFF, *OTHER):
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            read = tifffile.imread if suffix in TIFF else imagecodecs.imread
            try:
                return np.asarray(read(path))
            except (OSError, ValueError, RuntimeError, tifffile.TiffFileError) as error:
                raise ValueError(f"{path} is no readable image: {error}.") from error
    raise ValueError(f"{folder} holds no {stem}{TIFF[0]}, nor {', '.join((*TIFF[1:], *OTHER))}.")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error


def _spacing(path: Path, axes: int) -> tuple[float, ...]:
    if not path.is_file():
        return (1.0,) * axes
    spacing = tuple(map(float, _json(path).get("spacing_um", (1.0,) * axes)))
    if len(spacing) != axes or min(spacing) <= 0:
        raise ValueError(f"{path}: spacing_um {list(spacing)} must hold {axes} numbers above 0.")
    return spacing


def _cut(image: Image, labels: Labels, place: Place, domain: str) -> Example:
    if place.region is None:
        return Example(place.name, domain, image, labels)
    sides = zip(place.region, labels.shape, strict=False)
    whole = len(place.region) == labels.ndim
    if not (whole and all(0 <= start < stop <= side for (start, stop), side in sides)):
        raise ValueError(f"the region {place.name} does not lie in {place.stem}, {labels.shape}.")
    return crop(Example(place.name, domain, image, labels), place.region, place.name)


def crop(example: Example, region: tuple[tuple[int, int], ...], name: str) -> Example:
    """A region of an example, `[start, stop]` of each axis; objects are cut where it ends."""
    inside = tuple(slice(*span) for span in region)
    image = Image(example.image.voxels[inside], example.image.spacing)
    return Example(name, example.domain, image, example.labels[inside])


def objects(labels: Labels) -> int:
    """How many objects there are."""
    return len(np.unique(labels[labels != 0]))


def typical_diameter(shots: tuple[Example, ...]) -> float:
    """Of the disc or ball that has the median object's voxels, in voxels; 0 without objects."""
    sizes = [np.unique(shot.labels[shot.labels != 0], return_counts=True)[1] for shot in shots]
    every = np.concatenate(sizes)
    if not len(every):
        return 0.0
    return equivalent_diameter(float(np.median(every)), shots[0].labels.ndim)
