"""Peers that find spots, each in an environment of its own; calls are a folder of files."""

import argparse
import json
import shutil
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
        return runner.version_of("trackpy", self.python)

    def locate(self, counts: Sequence[Any], diameter: float, dark: bool) -> list[Candidates]:
        """Candidates in each image of counts, by mass; `diameter` is made odd."""
        job = {"diameter": 2 * int(diameter // 2) + 1, "dark": dark}
        folder = _folder(job, "images", [{"image": each} for each in counts])
        runner.run(self.python, "trackpy", "locate", str(folder))
        found = exchange.read(folder / "found")
        shutil.rmtree(folder)
        return [Candidates(each["places"], each["masses"]) for each in found]

    def diffusion(
        self, frames: Sequence[Floats], um_per_pixel: float, frames_per_s: float
    ) -> dict[str, float]:
        """`exponent` and `prefactor` of the mean-squared displacement, in um^2/s, and `tracks`."""
        job = {"um_per_pixel": um_per_pixel, "frames_per_s": frames_per_s}
        folder = _folder(job, "points", [{"places": each} for each in frames])
        runner.run(self.python, "trackpy", "diffuse", str(folder))
        said: dict[str, float] = json.loads((folder / "said.json").read_text("utf-8"))
        shutil.rmtree(folder)
        return said


@dataclass(frozen=True, slots=True)
class Lodestar:
    """deeplay's LodeSTAR, which trains for `seconds` of one core at most."""

    python: Path
    seconds: float

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        return runner.version_of("lodestar", self.python)

    def learned(self, crop: Images, seed: int) -> "LodestarModel":
        """Train on one crop."""
        job = {"seed": seed, "seconds": self.seconds}
        folder = _folder(job, "crops", [{"image": crop}])
        runner.run(self.python, "lodestar", "learn", str(folder))
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

    def found(self, images: Sequence[Images]) -> list[tuple[Floats, ...]]:
        """The places in each image that each exponent and quantile finds."""
        asked = {"exponents": EXPONENTS, "quantiles": QUANTILES}
        folder = _folder(asked, "images", [{"image": each} for each in images])
        (folder / MODEL).write_bytes(self.weights)
        runner.run(self.python, "lodestar", "locate", str(folder))
        every = exchange.read(folder / "found")
        shutil.rmtree(folder)
        return [
            tuple(found[f"{a}_{q}"] for found in every)
            for a in range(len(EXPONENTS))
            for q in range(len(QUANTILES))
        ]
