"""Small annotated image sets on disk, and methods that learn in no time."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage

from benchmarks.datasets import Example, Image
from benchmarks.methods import Learned, Method

Labels = npt.NDArray[np.int32]
WHOLE = {"shots": ["a", "b", "c"], "test": ["d", "e"]}


def scene(seed: int, shape: tuple[int, ...] = (48, 64)) -> tuple[npt.NDArray[Any], Labels]:
    """A noisy image of bright discs or balls, and their labels."""
    generator = np.random.default_rng(seed)
    apart = np.stack(np.meshgrid(*(np.arange(8, n - 4, 16) for n in shape), indexing="ij"), -1)
    places = apart.reshape(-1, len(shape)) + generator.integers(-2, 3, (apart[..., 0].size, 1))
    grid = np.moveaxis(np.indices(shape), 0, -1)
    labels = np.zeros(shape, np.uint16)
    for number, place in enumerate(places, start=1):
        labels[((grid - place) ** 2).sum(-1) <= 25] = number
    image = ndimage.gaussian_filter((labels > 0) * 900.0, 1) + generator.normal(100, 20, shape)
    return image.clip(0).astype(np.uint16), labels


def folder(path: Path, split: Any, stems: Sequence[str] = "abcde", **shape: Any) -> Path:
    """A set on disk with one scene per stem."""
    for part in ("images", "labels"):
        (path / part).mkdir(parents=True)
    for number, stem in enumerate(stems):
        image, labels = scene(number, **shape)
        tifffile.imwrite(path / "images" / f"{stem}.tif", image)
        tifffile.imwrite(path / "labels" / f"{stem}.tif", labels)
    (path / "split.json").write_text(json.dumps(split))
    return path


def region(y0: int, y1: int, x0: int, x1: int, **more: Any) -> dict[str, Any]:
    return {"y0": y0, "y1": y1, "x0": x0, "x1": x1, **more}


class Threshold:
    """Finds what is brighter than a level; remembers what it was shown."""

    def __init__(self, level: float = 0.5) -> None:
        self.level, self.full_steps = level, 15
        self.seen: list[tuple[tuple[str, ...], int]] = []
        self.asked: list[Any] = []

    def __call__(self, examples: Sequence[Example], seed: int) -> Learned:
        self.seen.append((tuple(example.name for example in examples), seed))
        return Learned(self.predict, steps=15, full_steps=self.full_steps)

    def predict(self, images: Sequence[Image]) -> list[Labels]:
        self.asked += images
        return [ndimage.label(image.voxels > self.level)[0].astype(np.int32) for image in images]


def method(name: str, learn: Any, **more: Any) -> Method:
    said = {"told": f"{name}: fake.", "version": "1", "times": 1, "axes": ("yx", "zyx")}
    return Method(name, learn, **said | more)
