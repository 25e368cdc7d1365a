"""trackpy: spots by band pass and centroid, and tracks. Runs in the peers' environment.

Calls are a folder with `job.json`: `locate` finds, in each of `images/0000.npz`, of counts, what
could be a particle, with its mass; `diffuse` links `points/0000.npz`, one file a frame, and fits
the power law of the mean-squared displacement, as trackpy's walkthrough does.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import exchange


def locate(folder: Path, job: dict[str, Any]) -> None:
    """Candidates in each image: `places` `(n, 2)` and `masses`, those of the faintest too."""
    trackpy = import_module("trackpy")
    found = []
    for arrays in exchange.read(folder / "images"):
        table = trackpy.locate(arrays["image"], job["diameter"], minmass=0, invert=job["dark"])
        places = np.stack([table["y"], table["x"]], axis=1) if len(table) else np.zeros((0, 2))
        masses = np.asarray(table["mass"]) if len(table) else np.zeros(0)
        found.append({"places": places, "masses": masses})
    exchange.write(folder / "found", found)


def diffuse(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Exponent and prefactor, in um^2/s, of the mean-squared displacement's power law."""
    trackpy, pandas = import_module("trackpy"), import_module("pandas")
    trackpy.quiet()
    frames = []
    for number, arrays in enumerate(exchange.read(folder / "points")):
        y, x = arrays["places"].T
        frames.append(pandas.DataFrame({"y": y, "x": x, "frame": number}))
    linked = trackpy.link(pandas.concat(frames, ignore_index=True), 5, memory=3)
    linked = trackpy.filter_stubs(linked, 25)
    still = trackpy.subtract_drift(linked.copy(), trackpy.compute_drift(linked))
    moved = trackpy.emsd(still, job["um_per_pixel"], job["frames_per_s"])
    fitted = trackpy.utils.fit_powerlaw(moved, plot=False)
    return {
        "exponent": float(fitted["n"].iloc[0]),
        "prefactor": float(fitted["A"].iloc[0]),
        "tracks": int(linked["particle"].nunique()),
    }


if __name__ == "__main__":
    raise SystemExit(exchange.answered("trackpy", {"locate": locate, "diffuse": diffuse}))
