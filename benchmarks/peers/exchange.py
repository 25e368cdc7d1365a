"""How a peer's process and the benchmark hand images to each other: files in one folder.

    job.json           seed, and seconds that training may take
    shots/0000.npz     `image` (float32, y x) and `labels` of one shot, and so on
    model/             what the peer learned, in its own format
    learned.json       steps that training took, and full_steps, those of the whole recipe
    images/0000.npz    `image` to segment
    labels/0000.npz    its `labels`

This module runs in both environments: it needs numpy alone.
"""

import argparse
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Job:
    """One training: its folder, its seed, and the seconds that training may take."""

    folder: Path
    seed: int
    seconds: float

    @property
    def model(self) -> Path:
        """Folder for what was learned."""
        return self.folder / "model"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer, as its module describes it.

    Attributes
    ----------
    version: of the package.
    learn: trains on images and labels, leaves the model in `Job.model`, and returns the steps it
        took, and those that its recipe takes where time does not cut it short.
    segment: labels of each image, from the model in `Job.model`.
    """

    version: Callable[[], str]
    learn: Callable[[Job, list[Image], list[Labels]], tuple[int, int]]
    segment: Callable[[Job, list[Image]], list[Labels]]


def main(peer: Peer) -> int:
    """`version`, `learn FOLDER` or `segment FOLDER`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["version", "learn", "segment"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    options = parser.parse_args()
    if options.task == "version":
        print(peer.version())
        return 0
    job = Job(options.folder, **json.loads((options.folder / "job.json").read_text("utf-8")))
    if options.task == "learn":
        shots = read(job.folder / "shots")
        job.model.mkdir(exist_ok=True)
        steps, full = peer.learn(job, [s["image"] for s in shots], [s["labels"] for s in shots])
        said = {"steps": steps, "full_steps": full}
        (job.folder / "learned.json").write_text(json.dumps(said), "utf-8")
    else:
        images = [arrays["image"] for arrays in read(job.folder / "images")]
        write(job.folder / "labels", [{"labels": found} for found in peer.segment(job, images)])
    return 0


def answered(package: str, tasks: Mapping[str, Callable[[Path, dict[str, Any]], object]]) -> int:
    """`version`, or a task of a peer of its own kind on a folder; `said.json` is its answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["version", *tasks])
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    options = parser.parse_args()
    if options.task == "version":
        print(importlib.metadata.version(package))
        return 0
    job = json.loads((options.folder / "job.json").read_text("utf-8"))
    said = tasks[options.task](options.folder, job)
    (options.folder / "said.json").write_text(json.dumps(said), "utf-8")
    return 0


def write(folder: Path, every: Sequence[dict[str, npt.NDArray[Any]]]) -> None:
    """Write one numbered file of named arrays for each."""
    folder.mkdir()
    for number, arrays in enumerate(every):
        np.savez(folder / f"{number:04}.npz", **arrays)  # type: ignore[arg-type]


def read(folder: Path) -> list[dict[str, npt.NDArray[Any]]]:
    """What `write` wrote, in its order."""
    every = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            every.append({name: arrays[name] for name in arrays.files})
    return every
