"""Annotated image sets of which the objects' places are known: from points, boxes, tracks, labels.

Some objects of a kind are to draw one crop from, others to be measured on. A kind is what a user
would call one: the white cells of smears, the spots of one image, the nuclei of one domain.
"""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage, spatial

from benchmarks.datasets import QUANTILES

Floats = npt.NDArray[np.float64]
SPOT_RADIUS = 3.0
"""Pixels from an annotated spot within which it is found."""
OBJECT_RADIUS = 0.5
"""The same, in diameters, of objects with an outline."""
OBJECT_VOXELS = 11.0
"""An object is looked at on the level where it is about this wide, or at full resolution."""
WIDTHS = 0.25
"""Logarithm of an object's width over a typical one's, within which it is typical."""
SIGNS = 20
"""Objects of a shot of which it is asked whether they are bright or dark."""
GREEN = 1
"""The channel of a smear in which stained cells are darkest."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """An image `(y, x)`, normalised, where its objects are `(n, 2)`, and how wide each is, or 0."""

    name: str
    voxels: npt.NDArray[np.float32]
    places: Floats
    widths: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Objects of one kind.

    Attributes
    ----------
    diameter: of a typical one, in pixels.
    radius: pixels within which one counts as found.
    shots, tests: to draw a crop from, and to be measured on.
    dark: whether they are darker than what is around them.
    fits: independent fits of places in the one test image, where there are.
    movie: all frames, where it is one; of these not all objects are annotated.
    """

    name: str
    diameter: float
    radius: float
    shots: tuple[Placed, ...]
    tests: tuple[Placed, ...]
    dark: bool = False
    fits: Floats | None = None
    movie: tuple[Placed, ...] = ()

    @property
    def factor(self) -> int:
        """How many pixels become one where objects are looked at, along each axis."""
        return int(2 ** max(0, round(math.log2(self.diameter / OBJECT_VOXELS))))


def kinds(data: Path) -> dict[str, Callable[[], list[Kind]]]:
    """What can be read of the sets in a folder, by the set's name."""
    readers: dict[str, Callable[[Path], Iterator[Kind]]] = {
        "dev_spots_points": _spots,
        "dev_brownian_tracks": _tracks,
        "dev_bccd_boxes": _boxes,
        "dev_bbbc039_nuclei": _labelled,
        "dev_dsb2018_domains": _labelled,
    }
    return {
        name: lambda name=name, read=read: list(read(data / name))  # type: ignore[misc]
        for name, read in readers.items()
        if (data / name).is_dir()
    }


def normalised(raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An image whose quantiles are 0 and 1."""
    values = np.asarray(raw, np.float64)
    low, high = np.quantile(values, QUANTILES)
    return ((values - low) / max(high - low, 1e-9)).astype(np.float32)


def coarse(voxels: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """An image whose voxels are means of `factor` by `factor`; what is left over is cut off."""
    y, x = (side // factor for side in voxels.shape)
    cut = voxels[: y * factor, : x * factor]
    return cut.reshape(y, factor, x, factor).mean(axis=(1, 3), dtype=np.float64).astype(np.float32)


def _part(placed: Placed, start: int, stop: int, name: str) -> Placed:
    """Columns of an image."""
    here = (placed.places[:, 1] >= start) & (placed.places[:, 1] < stop - 0.5)
    moved = placed.places[here] - [0, start]
    return Placed(name, placed.voxels[:, start:stop], moved, placed.widths[here])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _spots(folder: Path) -> Iterator[Kind]:
    """The left third of an image is to draw from, the rest to be measured on."""
    for path in sorted((folder / "images").glob("*.tif")):
        voxels = normalised(tifffile.imread(path))
        rows = _rows(folder / "points" / f"{path.stem}.csv")
        refined = [row["refined_ok"] == "True" for row in rows]
        names = [("y_refined", "x_refined") if ok else ("y", "x") for ok in refined]
        places = np.array(
            [[float(row[n]) for n in pair] for row, pair in zip(rows, names, strict=True)]
        )
        whole = Placed(path.stem, voxels, places, np.zeros(len(places)))
        third = voxels.shape[1] // 3
        left = _part(whole, 0, third, path.stem)
        right = _part(whole, third, voxels.shape[1], path.stem)
        fits = None
        if "y_gauss" in rows[0]:
            good = [row for row in rows if row["gauss_ok"] == "True"]
            every = np.array([[float(row["y_gauss"]), float(row["x_gauss"])] for row in good])
            fits = every[every[:, 1] >= third] - [0, third]
        yield Kind(path.stem, 4.0, SPOT_RADIUS, (left,), (right,), fits=fits)


def _tracks(folder: Path) -> Iterator[Kind]:
    """The first frame is to draw from. What was tracked for long is annotated, no more."""
    (path,) = (folder / "images").glob("*.tif")
    film = tifffile.imread(path)
    low, high = np.quantile(film, QUANTILES)
    by_frame: dict[int, list[list[float]]] = defaultdict(list)
    for row in _rows(next((folder / "tracks").glob("*.csv"))):
        if row["strict"] == "True":
            by_frame[int(row["frame"])].append([float(row["y"]), float(row["x"])])
    frames = []
    for number, raw in enumerate(film):
        voxels = ((raw - low) / (high - low)).astype(np.float32)
        places = np.array(by_frame[number]).reshape(-1, 2)
        frames.append(Placed(f"frame {number}", voxels, places, np.zeros(len(places))))
    first, *_ = frames
    yield Kind("beads in water", 8.0, 5.0, (first,), (), True, movie=tuple(frames))


def _boxes(folder: Path) -> Iterator[Kind]:
    split = json.loads((folder / "split.json").read_text("utf-8"))
    images = {}
    for stem in (*split["shots"], *split["test"]):
        path = next((folder / "images").glob(f"{stem}.*"))
        raw = np.asarray(imagecodecs.imread(path))
        images[stem] = normalised(raw[..., GREEN]), _rows(folder / "boxes" / f"{stem}.csv")
    for name, title in (("WBC", "white cells"), ("Platelets", "platelets")):

        def placed(stem: str, name: str = name) -> Placed:
            voxels, rows = images[stem]
            said = [
                [float(row[k]) for k in ("ymin", "ymax", "xmin", "xmax")]
                for row in rows
                if row["class"] == name
            ]
            boxes = np.array(said).reshape(-1, 2, 2)
            sides = boxes[..., 1] - boxes[..., 0]
            return Placed(stem, voxels, boxes.mean(axis=2) - 0.5, np.sqrt(sides.prod(axis=1)))

        shots, tests = ([placed(stem) for stem in split[part]] for part in ("shots", "test"))
        yield _kind(title, shots, tests)


def _kind(name: str, shots: list[Placed], tests: list[Placed]) -> Kind:
    diameter = float(np.median(np.concatenate([shot.widths for shot in shots])))
    signs = [_contrast(shot, place, diameter) for shot in shots for place in shot.places[:SIGNS]]
    dark = float(np.median(signs)) < 0
    return Kind(name, diameter, OBJECT_RADIUS * diameter, tuple(shots), tuple(tests), dark)


def _labelled(folder: Path) -> Iterator[Kind]:
    split = json.loads((folder / "split.json").read_text("utf-8"))
    pairs = {folder.name.removeprefix("dev_"): split} if "shots" in split else split
    for name, pair in pairs.items():
        shots, tests = (
            [_centred(folder, stem) for stem in pair[part]] for part in ("shots", "test")
        )
        yield _kind(name, shots, tests)


def _centred(folder: Path, stem: str) -> Placed:
    raw = np.asarray(tifffile.imread(folder / "images" / f"{stem}.tif"))
    grey = raw if raw.ndim == 2 else raw[..., :3].mean(axis=-1)
    labels = tifffile.imread(folder / "labels" / f"{stem}.tif")
    ids = np.unique(labels[labels > 0])
    places = np.array(ndimage.center_of_mass(labels > 0, labels, ids)).reshape(-1, 2)
    area = np.bincount(labels.ravel())[ids]
    return Placed(stem, normalised(grey), places, 2 * np.sqrt(area / math.pi))


def crops_of(
    kind: Kind, side: int, generator: np.random.Generator
) -> Iterator[npt.NDArray[np.float32]]:
    """Regions of that side, of one object each, that a user may choose, in random order.

    An object of typical width, where widths are known, as far from the image's edge and from others
    as its own outline needs, of the half that has most contrast. It lies in the middle where the
    image allows that.
    """
    chosen = []
    for shot in kind.shots:
        sides = np.array(shot.voxels.shape)
        if min(sides) < side:
            continue
        tree = spatial.cKDTree(np.concatenate([shot.places, np.full((1, 2), 1e9)]))
        for place, width in zip(shot.places, shot.widths, strict=True):
            typical = not width or abs(math.log(width / kind.diameter)) <= WIDTHS
            margin = np.minimum(place, sides - place).min()
            apart = float(np.asarray(tree.query(place, 2)[0])[1])
            if typical and min(margin / 0.7, apart / 1.25) > kind.diameter:
                y, x = np.clip(np.rint(place) - side // 2, 0, sides - side).astype(int)
                chosen.append((abs(_contrast(shot, place, kind.diameter)), shot, y, x))
    chosen = sorted(chosen, key=lambda row: -row[0])[: -(-len(chosen) // 2)]
    for number in generator.permutation(len(chosen)):
        _, shot, y, x = chosen[int(number)]
        yield shot.voxels[y : y + side, x : x + side]


def _contrast(shot: Placed, place: Floats, diameter: float) -> float:
    """How much the middle of an object differs from what lies a diameter from it."""
    first = np.maximum(np.floor(place - 1.1 * diameter - 1).astype(int), 0)
    window = shot.voxels[tuple(slice(a, a + int(2.2 * diameter) + 4) for a in first)]
    far = np.hypot(*(np.indices(window.shape).T + first - place).T)
    inner = window[far < max(1.5, diameter / 4)]
    ring = window[(far > 0.9 * diameter) & (far < 1.1 * diameter)]
    return float(inner.mean() - np.median(ring))
