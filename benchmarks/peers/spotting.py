"""Peers that find spots, each in an environment of its own; calls are a folder of files."""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers import exchange, runner
from benchmarks.spotters import Candidates

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]
MODEL = "model.pt"
LODESTAR = runner.ROOT / ".venv-peers" / "lodestar" / "bin" / "python"
EXPONENTS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the weights in LodeSTAR's score; its consistency has what is left to 1."""
QUANTILES = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Of LodeSTAR's score in an image, by which it tells maxima from noise."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where peers are, and for how long one may train."""
    add = parser.add_argument
    add("--peers", type=Path, default=runner.PYTHON, help="Python of the peers' environment")
    add("--lodestar", type=Path, default=LODESTAR, help="Python of deeplay's environment")
    add(
        "--lodestar-seconds",
        type=float,
        default=120.0,
        help="of one core that LodeSTAR may train; 0: it is left out (default: 120)",
    )


@dataclass(frozen=True, slots=True)
class Called:
    """A peer's module, and the Python that can run it."""

    python: Path
    module: str

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        try:
            return self("version").strip()
        except (OSError, RuntimeError):
            return None

    def __call__(self, task: str, *arguments: str) -> str:
        """What the peer prints. Raises RuntimeError where it fails."""
        command = [str(self.python), "-m", f"benchmarks.peers.{self.module}", task, *arguments]
        variables = os.environ | {"PYTHONPATH": str(runner.ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
        if done.returncode:
            raise RuntimeError(f"{self.module} failed:\n{done.stderr[-2000:]}")
        return done.stdout


def _folder(job: dict[str, Any], name: str, given: list[dict[str, Any]]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="equiscope-peer-"))
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    exchange.write(folder / name, given)
    return folder


@dataclass(frozen=True, slots=True)
class Trackpy:
    """trackpy, in the peers' environment."""

    python: Path

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        return self._peer.version

    @property
    def _peer(self) -> Called:
        return Called(self.python, "trackpy_peer")

    def locate(self, counts: Sequence[Any], diameter: float, dark: bool) -> list[Candidates]:
        """Candidates in each image of counts, by mass; `diameter` is made odd."""
        job = {"diameter": 2 * int(diameter // 2) + 1, "dark": dark}
        folder = _folder(job, "images", [{"image": each} for each in counts])
        self._peer("locate", str(folder))
        found = exchange.read(folder / "found")
        shutil.rmtree(folder)
        return [Candidates(each["places"], each["masses"]) for each in found]

    def diffusion(
        self, frames: Sequence[Floats], um_per_pixel: float, frames_per_s: float
    ) -> dict[str, float]:
        """`exponent` and `prefactor` of the mean-squared displacement, in um^2/s, and `tracks`."""
        job = {"um_per_pixel": um_per_pixel, "frames_per_s": frames_per_s}
        folder = _folder(job, "points", [{"places": each} for each in frames])
        self._peer("diffuse", str(folder))
        said: dict[str, float] = json.loads((folder / "said.json").read_text("utf-8"))
        shutil.rmtree(folder)
        return said


@dataclass(frozen=True, slots=True)
class Located:
    """What LodeSTAR found with one exponent and one quantile: places in each image, in voxels."""

    exponent: float
    quantile: float
    places: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class Lodestar:
    """deeplay's LodeSTAR, which trains for `seconds` of one core at most."""

    python: Path
    seconds: float

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        return _lodestar(self.python).version

    def learned(self, crop: Images, seed: int) -> "LodestarModel":
        """Train on one crop."""
        job = {"seed": seed, "seconds": self.seconds}
        folder = _folder(job, "crops", [{"image": crop}])
        _lodestar(self.python)("learn", str(folder))
        said = json.loads((folder / "said.json").read_text("utf-8"))
        weights = (folder / MODEL).read_bytes()
        shutil.rmtree(folder)
        return LodestarModel(self.python, weights, **said)


@dataclass(frozen=True, slots=True)
class LodestarModel:
    """What LodeSTAR learned, in `steps` of the `full_steps` that its example takes."""

    python: Path
    weights: bytes
    steps: int
    full_steps: int

    def found(self, images: Sequence[Images]) -> list[Located]:
        """What each setting finds."""
        asked = {"exponents": EXPONENTS, "quantiles": QUANTILES}
        folder = _folder(asked, "images", [{"image": each} for each in images])
        (folder / MODEL).write_bytes(self.weights)
        _lodestar(self.python)("locate", str(folder))
        every = exchange.read(folder / "found")
        shutil.rmtree(folder)
        return [
            Located(exponent, quantile, tuple(found[f"{a}_{q}"] for found in every))
            for a, exponent in enumerate(EXPONENTS)
            for q, quantile in enumerate(QUANTILES)
        ]


def _lodestar(python: Path) -> Called:
    return Called(python, "lodestar_peer")
