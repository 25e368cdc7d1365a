"""Finding objects in images, otherwise than we do, and how well candidates are found again.

A method gives candidates, each with a strength; a threshold on strengths says which are objects.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse, spatial
from scipy.sparse import csgraph

from benchmarks.peers import exchange
from benchmarks.placed import Placed

Floats = npt.NDArray[np.float64]
THRESHOLDS = 400
"""How many are tried where the best is looked for."""
SIZES = (0.7, 1.0, 1.4)
"""Widths of the Laplacian of Gaussian, in those that fit the diameter best."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What may be objects in one image: `places` `(n, 2)`, in its pixels, and `strengths`."""

    places: Floats
    strengths: Floats


def f1(
    found: Sequence[Candidates], images: Sequence[Placed], radius: float, threshold: float
) -> float:
    """F1 over all images of the candidates of this strength and more."""
    hits = said = wanted = 0
    for each, image in zip(found, images, strict=True):
        kept = each.places[each.strengths >= threshold]
        hits += _pairs(kept, image.places, radius)
        said += len(kept)
        wanted += len(image.places)
    return 2 * hits / max(1, said + wanted)


def _pairs(found: Floats, wanted: Floats, radius: float) -> int:
    """How many can be paired, one to one, within a distance."""
    if not len(found) or not len(wanted):
        return 0
    near = spatial.cKDTree(found).query_ball_tree(spatial.cKDTree(wanted), radius)
    rows = np.repeat(np.arange(len(near)), [len(each) for each in near])
    columns = np.array([column for each in near for column in each], np.int64)
    shape = (len(found), len(wanted))
    able = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    partners = csgraph.maximum_bipartite_matching(able, perm_type="column")
    return int((partners >= 0).sum())


def best(
    found: Sequence[Candidates], images: Sequence[Placed], radius: float
) -> tuple[float, float]:
    """The highest F1 that a threshold gives, and that threshold: chosen from the annotations."""
    strengths = np.concatenate([each.strengths for each in found])
    if not len(strengths):
        return 0.0, 0.0
    # more candidates than twice the objects cannot be best
    most = 3 * sum(len(image.places) for image in images) + 10
    high = np.sort(strengths)[-most:]
    tried = np.unique(np.quantile(high, np.linspace(0, 1, THRESHOLDS)))
    return max((f1(found, images, radius, float(t)), float(t)) for t in tried)


def laplacian(image: Placed, diameter: float, dark: bool) -> Candidates:
    """Maxima over place and width of the Laplacian of Gaussian, normalised by its width."""
    values = -image.voxels.astype(np.float64) if dark else image.voxels.astype(np.float64)
    sigmas = [diameter / (2 * np.sqrt(2)) * size for size in SIZES]
    space = np.stack(
        [-(s**2) * ndimage.gaussian_laplace(values, s, mode="nearest") for s in sigmas]
    )
    near = max(1, round(diameter / 4))
    peak = ndimage.maximum_filter(space, (3, 2 * near + 1, 2 * near + 1), mode="nearest") == space
    at = np.argwhere(peak & (space > 0))
    return Candidates(at[:, 1:].astype(float), space[tuple(at.T)])


@dataclass(frozen=True, slots=True)
class Trackpy:
    """trackpy, in the peers' environment."""

    python: Path

    @property
    def version(self) -> str | None:
        """None where it is not installed."""
        try:
            return self._call("version").strip()
        except (OSError, RuntimeError):
            return None

    def locate(self, images: Sequence[Placed], diameter: float, dark: bool) -> list[Candidates]:
        """Candidates in each image, by mass; `diameter` is made odd."""
        job = {"diameter": 2 * int(diameter // 2) + 1, "dark": dark}
        given = [{"image": image.voxels} for image in images]
        folder = self._asked("locate", job, "images", given)
        found = exchange.read(folder / "found")
        shutil.rmtree(folder)
        return [Candidates(each["places"], each["masses"]) for each in found]

    def diffusion(
        self, frames: Sequence[Floats], um_per_pixel: float, frames_per_s: float
    ) -> dict[str, float]:
        """`exponent` and `prefactor` of the mean-squared displacement, in um^2/s, and `tracks`."""
        job = {"um_per_pixel": um_per_pixel, "frames_per_s": frames_per_s}
        folder = self._asked("diffuse", job, "points", [{"places": each} for each in frames])
        said: dict[str, float] = json.loads((folder / "said.json").read_text("utf-8"))
        shutil.rmtree(folder)
        return said

    def _asked(
        self, task: str, job: dict[str, Any], name: str, given: list[dict[str, Any]]
    ) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="equiscope-trackpy-"))
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        exchange.write(folder / name, given)
        self._call(task, str(folder))
        return folder

    def _call(self, *arguments: str) -> str:
        command = [str(self.python), "-m", "benchmarks.peers.trackpy_peer", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"trackpy failed:\n{done.stderr[-2000:]}")
        return done.stdout
