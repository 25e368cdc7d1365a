"""Simulated acquisitions for tests, written as microscopes write them, and settings for them."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml

from pipeline import config, finetune, ingest, predict, receipts, sections, volumes
from pipeline.simulate import Optics, ellipsoids, fluorescence

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
VOXEL = {"z": 1.0, "y": 0.5, "x": 0.5}


def simulated(axes: str, shape: tuple[int, ...], diameter_um: float, count: int, seed: int = 0):
    """Image and labels with axes `t?z?yx`."""
    generator = np.random.default_rng(seed)
    space = [a for a in axes if a in "zyx"]
    size = tuple(VOXEL[a] for a in space)
    frames = shape[0] if "t" in axes else 1
    inner = shape[1:] if "t" in axes else shape
    labels = [ellipsoids(inner, size, diameter_um, count, generator) for _ in range(frames)]
    images = [fluorescence(found, size, OPTICS, generator) for found in labels]
    for frame, found in enumerate(labels):
        found[found > 0] += 100 * frame
    return np.stack(images).reshape(shape), np.stack(labels).reshape(shape)


def acquisition(path: Path, **given: Any) -> sections.Acquisition:
    """Settings of an acquisition, all from the file but what is given."""
    values = {
        "path": str(path),
        "axes": "from file",
        "channels": "from file",
        "voxel_size_um": "from file",
        "series": "only",
        "time_step_s": "from file",
    }
    return sections.Acquisition.model_validate(values | given)


def write(path: Path, array: np.ndarray, axes: str, **given: Any) -> sections.Acquisition:
    """Write plain TIFF, whose axes and voxels only the settings tell."""
    tifffile.imwrite(path, array, photometric="minisblack")
    voxel = {a: VOXEL[a] for a in axes if a in "zyx"}
    return acquisition(path, **{"axes": axes, "voxel_size_um": voxel} | given)


def annotation(path: Path, axes: str, **given: Any) -> dict[str, Any]:
    """Settings of complete labels, all but where they are and their axes as in config.yaml."""
    values = {"channel": "only", "complete": True, "diameter_um": "from labels"}
    return {"path": str(path), "axes": axes, **values, **given}


def ingest_task(acquired: sections.Acquisition, **given: Any) -> config.IngestTask:
    """Small chunks and shards, so that small volumes have many."""
    values = {
        "chunk_voxels": {"yx": [16, 16], "zyx": [8, 16, 16]},
        "shard_voxels": {"yx": [32, 32], "zyx": [8, 32, 32]},
        "shard_frames": {"yx": 2, "zyx": 1},
        "smallest_level_voxels": 16,
        "adopt": True,
        "quantiles": [0.01, 0.998],
    }
    section = sections.Ingest.model_validate(values | given)
    return config.IngestTask(acquisition=acquired, ingest=section)


def here(work: Any) -> None:
    """Complete work in this process."""
    missing = work.missing()
    if missing:
        work(missing)
    assert not work.missing()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


NETWORK = {"group": "auto", "width": {"yx": 16, "zyx": 24}, "levels": 1, "object_voxels": 7}


POINTS = {
    "steps": 20,
    "learning_rate": 0.006,
    "scenes": 2,
    "copies": 5,
    "contrast": 1.0,
    "scale": 0.2,
    "background": 0.3,
    "agreement": 0.3,
    "silence": 0.3,
    "unlabelled": 0.3,
}
GATE = {
    "hold_out": 0.4,
    "margin": 0.01,
    "foreground": 0.5,
    "smallest_object": 0.15,
    "members": [],
}


def annotated(
    folder: Path, shape: tuple[int, int], diameter_um: float, count: int
) -> tuple[Path, dict[str, Any]]:
    """Ingest an image of objects; its receipt, and its complete labels as a shot of `sample`."""
    image, labels = simulated("yx", shape, diameter_um, count)
    acquired = write(folder / "raw.tif", image, "yx")
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")
    receipt = folder / "ingest" / "sample.json"
    ingest.ingest(receipt, ingest_task(acquired), here)
    labelled = annotation(folder / "labels.tif", "yx")
    return receipt, {"acquisition": "sample", "labels": labelled, "region": {}}


def finetune_task(shots: list[dict[str, Any]], channel: str, **given: Any) -> config.FinetuneTask:
    """A small network, from nothing, and a short training. `given` are settings of finetune."""
    steps = given.pop("steps", {"yx": 100, "zyx": 150})
    base = given.pop("base", "none")
    start = {"steps": steps, "learning_rate": 0.01, "balance": 0.5}
    values = {
        "crop_voxels": {"yx": [32, 32], "zyx": [8, 16, 16]},
        "crops": {"yx": 4, "zyx": 3},
        "start": {"base": start, "nothing": start},
        "guise": {"turned": True, "scale": 0.2, "contrast": 0.4, "background": 0.05, "noise": 0.05},
        "composed": 0.0,
        "physics": 0.0,
        "points": POINTS,
        "gate": GATE,
        "seed": 0,
        "threads": 1,
        "checkpoint_steps": 10,
    }
    return config.FinetuneTask.model_validate(
        {
            "task": "segment",
            "channel": channel,
            "optics": given.pop("optics", "unknown"),
            "base": base,
            "diameter_um": "from shots",
            "shots": shots,
            "network": NETWORK | given.pop("network", {}),
            "finetune": values | given,
        }
    )


PREDICT = {
    "foreground": 0.5,
    "smallest_object": 0.15,
    "tile_voxels": {"yx": [32, 64], "zyx": [16, 32, 32]},
    "precision": "float32",
    "refinement": "none",
}


def predict_task(**given: Any) -> config.PredictTask:
    """Small tiles, so that small volumes have many."""
    return config.PredictTask.model_validate({"predict": PREDICT | given})


def predicted(folder: Path, acquired: sections.Acquisition, base: str) -> volumes.Volume:
    """A volume with the labels and the table that a base model makes as it is, `nuclei`."""
    receipt = folder / "ingest" / "sample.json"
    ingest.ingest(receipt, ingest_task(acquired), here)
    volume = volumes.open_volume(receipts.result(receipt, "volume"))
    settings = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text("utf-8"))
    task = finetune_task([], volume.channels[0], base=base, network=settings["network"])
    model = folder / "finetune" / "nuclei.json"
    asked = task.model_copy(update={"diameter_um": 5.0})
    finetune.finetune(model, {"sample": receipt}, asked, here)
    made = folder / "predict" / "nuclei" / "sample.json"
    predict.predict(made, receipt, model, predict_task(), predict.Means(1), here)
    assert receipts.read(made)["facts"]["objects"] > 0
    return volume
