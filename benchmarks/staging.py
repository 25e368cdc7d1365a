"""Simulated volumes and models of their objects, made by the stages with settings of config.yaml.

Every volume has one channel, `CHANNEL`, and voxels of the sizes `VOXEL_UM`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pipeline import config, finetune, ingest
from pipeline.config import Campaign, FinetuneTask, IngestTask, PredictTask
from pipeline.sections import Acquisition, Sides
from pipeline.simulate import Optics, ellipsoids, fluorescence

ROOT = Path(__file__).resolve().parents[1]
CHANNEL = "channel_0"
VOXEL_UM = {"z": 1.0, "y": 0.5, "x": 0.5}
DIAMETER_UM = 4.0
"""Of the simulated objects: 8 voxels in the plane."""
OPTICS = Optics(
    numerical_aperture=0.8,
    wavelength_um=0.52,
    refractive_index=1.0,
    photons=60.0,
    background=5.0,
    gain=2.0,
    offset=100.0,
    read_noise=1.5,
)
LEARNT_FROM = {"yx": ((96, 120), 30), "zyx": ((16, 64, 64), 30)}
"""Sides of the image that a model learns from, and how many objects it has at most."""
SMALL = {
    "network": {"width": {"yx": 16, "zyx": 24}, "levels": 1, "object_voxels": 7},
    "finetune": {
        "crop_voxels": {"yx": [32, 32], "zyx": [8, 16, 16]},
        "crops": {"yx": 4, "zyx": 3},
        "start": {"nothing": {"steps": {"yx": 100, "zyx": 150}}},
        "composed": 0.0,
        "gate": {"members": []},
    },
}
"""A network and a training that take seconds."""


def here(work: Any) -> None:
    """Complete work in this process."""
    if missing := work.missing():
        work(missing)


@functools.cache
def campaign() -> Campaign:
    """The settings of config.yaml."""
    return config.load(ROOT / "config.yaml")


def simulated(
    space: str, shape: tuple[int, ...], count: int, generator: np.random.Generator
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """An image of up to `count` objects along the spatial axes `space`, and their labels."""
    size = tuple(VOXEL_UM[axis] for axis in space)
    labels = ellipsoids(shape, size, DIAMETER_UM, count, generator)
    return fluorescence(labels, size, OPTICS, generator), labels


def scattered(
    shape: tuple[int, ...], count: int, generator: np.random.Generator
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]:
    """A large image of `count` objects, the later over the earlier, and their labels."""
    size = [VOXEL_UM[axis] for axis in "zyx"[-len(shape) :]]
    half = [math.ceil(0.6 * DIAMETER_UM / side) for side in size]
    labels = np.zeros(shape, np.uint32)
    for number in range(1, count + 1):
        middle = generator.uniform(0, 1, len(shape)) * shape
        around = tuple(
            slice(max(0, int(m) - h), min(n, int(m) + h + 1))
            for m, h, n in zip(middle, half, shape, strict=True)
        )
        away = [((p - m) * s) ** 2 for p, m, s in zip(np.ogrid[around], middle, size, strict=True)]
        radius = DIAMETER_UM / 2 * generator.uniform(0.8, 1.2)
        labels[around][functools.reduce(np.add, away) <= radius**2] = number
    return fluorescence(labels, tuple(size), OPTICS, generator), labels


def acquisition(path: Path, axes: str, scale: float = 1.0) -> Acquisition:
    """A plain TIFF whose voxels are `scale` times as large as `VOXEL_UM`."""
    return Acquisition.model_validate(
        {
            "path": str(path),
            "axes": axes,
            "channels": [CHANNEL],
            "voxel_size_um": {a: VOXEL_UM[a] * scale for a in axes if a in VOXEL_UM},
            "series": "only",
            "time_step_s": "from file",
        }
    )


def ingested(
    receipt: Path,
    image: npt.NDArray[Any],
    axes: str,
    chunk: Sequence[int],
    shard: Sequence[int],
    scale: float = 1.0,
) -> Path:
    """Ingest an image into chunks and shards of these sides (spatial). Returns the receipt."""
    receipt.parent.mkdir(parents=True, exist_ok=True)
    path = receipt.with_suffix(".tif")
    tifffile.imwrite(path, image, photometric="minisblack")
    ingest.ingest(receipt, ingesting(acquisition(path, axes, scale), chunk, shard), here)
    path.unlink()
    return receipt


def ingesting(acquired: Acquisition, chunk: Sequence[int], shard: Sequence[int]) -> IngestTask:
    """The settings of ingest, with chunks and shards of these sides (spatial)."""
    settings = campaign().ingest
    section = settings.model_copy(
        update={
            "chunk_voxels": with_sides(settings.chunk_voxels, chunk),
            "shard_voxels": with_sides(settings.shard_voxels, shard),
        }
    )
    return IngestTask(acquisition=acquired, ingest=section)


def small_model(folder: Path, space: str) -> Path:
    """Train a small network on a simulated image. Returns its receipt."""
    return _learnt(folder, f"small_{space}", space, {"base": "none"} | SMALL)


def tuned_model(folder: Path, base: str, space: str) -> Path:
    """Fine-tune a base model on a simulated image, whatever comes of it. Returns its receipt."""
    return _learnt(folder, base, space, {"base": base, "finetune": {"gate": {"members": []}}})


def shipped_model(folder: Path, base: str, volume: Path) -> Path:
    """A base model as it is shipped, for the objects of the volume with this receipt."""
    wanted = {"shots": [], "diameter_um": DIAMETER_UM, "base": base}
    model = folder / "finetune" / f"{base}.json"
    finetune.finetune(model, {volume.stem: volume}, _learning(wanted), here)
    return model


def _learnt(folder: Path, name: str, space: str, wanted: Mapping[str, Any]) -> Path:
    shape, count = LEARNT_FROM[space]
    image, labels = simulated(space, shape, count, np.random.default_rng(0))
    receipt = ingested(folder / "ingest" / f"learnt_{space}.json", image, space, shape, shape)
    drawn = folder / f"labels_{space}.tif"
    tifffile.imwrite(drawn, labels, photometric="minisblack")
    shown = {
        "path": str(drawn),
        "axes": space,
        "channel": "only",
        "complete": True,
        "diameter_um": "from labels",
    }
    shots = [{"acquisition": receipt.stem, "labels": shown, "region": {}}]
    task = _learning({"shots": shots, "diameter_um": "from shots", **wanted})
    model = folder / "finetune" / f"{name}.json"
    finetune.finetune(model, {receipt.stem: receipt}, task, here)
    return model


def predicting(tile: Sequence[int]) -> PredictTask:
    """The settings of predict, with tiles of these sides (spatial)."""
    settings = campaign().predict
    tiles = with_sides(settings.tile_voxels, tile)
    return PredictTask(predict=settings.model_copy(update={"tile_voxels": tiles}))


def with_sides(sides: Sides, values: Sequence[int]) -> Sides:
    """Sides, with these instead of those for as many axes."""
    return sides.model_copy(update={"zyx" if len(values) == 3 else "yx": tuple(values)})


def _learning(wanted: Mapping[str, Any]) -> FinetuneTask:
    settings = {
        "task": "segment",
        "channel": CHANNEL,
        "optics": "unknown",
        "network": campaign().network.model_dump(),
        "finetune": campaign().finetune.model_dump(),
    }
    return FinetuneTask.model_validate(_merged(settings, wanted))


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, Mapping)):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}
