"""Runs the peers: each training and each segmentation is a process in the peers' environment."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.datasets import Example, Image, Labels
from benchmarks.methods import Learned, Method, digest
from benchmarks.peers import INSTALL, exchange

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
TOLD = {
    "stardist": "StarDist {version} from scratch, as its example notebook trains it; the shots "
    "also choose its best epoch and its thresholds",
    "cellpose": "Cellpose {version} from scratch, with its own defaults for training and "
    "thresholds, told the mean diameter of the shots' objects",
}
SHOWN_LINES = 15


@dataclass(frozen=True, slots=True)
class Train:
    """Learns in the peer's process. Its images carry the benchmark's normalisation.

    Peers normalise again by quantiles, which undoes it.
    """

    name: str
    python: Path
    seconds: float

    def __call__(self, examples: Sequence[Example], seed: int) -> Learned:
        """Train on the examples for the time there is."""
        folder = Path(tempfile.mkdtemp(prefix=f"equiscope-{self.name}-"))
        job = {"seed": seed, "seconds": self.seconds}
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        shots = [{"image": e.image.voxels, "labels": e.labels} for e in examples]
        exchange.write(folder / "shots", shots)
        run(self.python, self.name, "learn", str(folder))
        said = json.loads((folder / "learned.json").read_text("utf-8"))
        return Learned(Segment(self.name, self.python, folder), **said)


@dataclass(frozen=True, slots=True)
class Segment:
    """Labels images with what a peer left in `folder`, which goes afterwards."""

    name: str
    python: Path
    folder: Path

    def __call__(self, images: Sequence[Image]) -> list[Labels]:
        """Labels of each image."""
        exchange.write(self.folder / "images", [{"image": image.voxels} for image in images])
        run(self.python, self.name, "segment", str(self.folder))
        found = [arrays["labels"] for arrays in exchange.read(self.folder / "labels")]
        shutil.rmtree(self.folder)
        return [np.asarray(labels, np.int32) for labels in found]


def peer(name: str, python: Path, seconds: float) -> Method | None:
    """The peer of this name; None where the environment of `python` has it not."""
    version = version_of(name, python)
    if version is None:
        return None
    package = Path(__file__).parent
    files = [package / f"{name}_peer.py", package / "exchange.py"]
    return Method(
        name=name,
        learn=Train(name, python, seconds),
        told=f"{name}: {TOLD[name].format(version=version)}; training may take {seconds:g} s.",
        version=f"{version} {seconds:g} s {digest(files)}",
        times=1,
        axes=("yx",),
    )


def version_of(name: str, python: Path) -> str | None:
    """The version of a peer; None where the environment of `python` has it not."""
    try:
        return run(python, name, "version").strip()
    except (OSError, RuntimeError):
        return None


def absent(name: str, python: Path) -> str:
    """What to tell where a peer is not installed."""
    return f"{name}: not measured, it is not installed for {python}. To install it: {INSTALL}."


def run(python: Path, name: str, *arguments: str) -> str:
    """Run a peer's module, and return what it printed.

    Raises RuntimeError where it fails.
    """
    variables = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [str(python), "-m", f"benchmarks.peers.{name}_peer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.splitlines()[-SHOWN_LINES:])
        raise RuntimeError(f"{name} failed:\n{last}")
    return done.stdout
