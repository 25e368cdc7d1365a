"""A movie of beads that diffuse, and a campaign that finds them from one unlabelled crop."""

from pathlib import Path

import campaigns
import numpy as np
import tifffile

from pipeline import localisation

SIDES, COUNT, FRAMES = (96, 120), 14, 9
PIXEL_UM, STEP_S = 0.1, 0.05
SIGMA, PHOTONS, BACKGROUND = 1.4, 2500.0, 12.0
OPTICS = {
    "modality": "widefield",
    "numerical_aperture": 0.9,
    "wavelength_um": SIGMA * PIXEL_UM * 0.9 / 0.21,
    "refractive_index": 1.33,
}
DIFFUSION_UM2_S = 0.05
CROP = {"t": [0, 1], "y": [0, 19], "x": [0, 19]}
"""Where the first bead lies alone, in the first frame."""


def places(seed: int = 3) -> np.ndarray:
    """Where each bead is in each frame, `(frames, beads, 2)` in voxels; the first lies alone."""
    generator = np.random.default_rng(seed)
    start = [np.array([9.3, 8.8])]
    while len(start) < COUNT:
        place = generator.uniform(8, np.array(SIDES) - 8)
        apart = min(np.hypot(*(place - other)) for other in start)
        if apart > 11 and (place > 27).any():
            start.append(place)
    step = np.sqrt(2 * DIFFUSION_UM2_S * STEP_S) / PIXEL_UM
    moves = generator.normal(0, step, (FRAMES - 1, COUNT, 2))
    return np.concatenate([[start], start + np.cumsum(moves, axis=0)])


def movie(path: Path) -> np.ndarray:
    """Write the movie, with all that its file can say of itself. Returns the beads' places."""
    light, generator = localisation.spot(SIDES, SIGMA), np.random.default_rng(4)
    where = places()
    frames = [
        generator.poisson(BACKGROUND + sum(PHOTONS * light(place) for place in now))
        for now in where
    ]
    described = {
        "axes": "TYX",
        "PhysicalSizeX": PIXEL_UM,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": PIXEL_UM,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": STEP_S,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["beads"]},
    }
    image = np.stack(frames).astype(np.uint16)
    tifffile.imwrite(path, image, metadata=described, photometric="minisblack")
    return where


def campaign(folder: Path) -> Path:
    """A campaign with the movie and one crop of it. Returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    where = movie(folder / "water.ome.tif")
    lines = ["index,axis-0,axis-1,axis-2"]
    for frame, now in enumerate(where):
        lines += [f"{len(lines) - 1 + n},{frame},{y},{x}" for n, (y, x) in enumerate(now)]
    (folder / "water.points.csv").write_text("\n".join(lines) + "\n")
    model = {
        "task": "points",
        "channel": "beads",
        "acquisitions": ["water"],
        "shots": [{"acquisition": "water", "region": CROP}],
        "references": [
            {
                "acquisition": "water",
                "labels": {"path": "water.points.csv", "diameter_um": 0.4},
                "origin": "simulated",
            }
        ],
        "optics": OPTICS,
        "linking_um": 0.5,
    }
    given = campaigns.settings(
        acquisitions={"water": {"path": "water.ome.tif"}}, models={"beads": model}
    )
    given["every_model"]["base"] = "auto"
    given["network"] |= {"width": {"yx": 32, "zyx": 24}, "levels": 2}
    given["finetune"]["points"]["steps"] = 60
    campaigns.write(folder, given)
    return folder
