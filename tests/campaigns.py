"""Tiny campaigns of simulated microscopy, and the workflow typed at them.

A campaign's folder is a working directory: raw files and config.yaml lie in it, results and logs
come to it. Whole runs take seconds, and still have dozens of shards, a checkpoint and a pyramid.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
import yaml

from pipeline.simulate import Optics, ellipsoids, fluorescence

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 600  # of patience: shared machines are slow at times
OPTICS = Optics(
    numerical_aperture=0.8,
    wavelength_um=0.52,
    refractive_index=1.0,
    photons=80,
    background=10,
    gain=2.0,
    offset=100,
    read_noise=1.5,
)
OF_TIME = (".cost.json", ".provenance.json", "ro-crate-metadata.json", "cost.html")
"""Ends the names of files that tell of time and machines."""
PIXEL_UM, DIAMETER_UM = 0.5, 6.0
VOXEL_UM = {"z": 1.0, "y": 0.5, "x": 0.5}
CHANNELS = ["DNA", "membrane"]
STEPS = {"steps": {"yx": 24, "zyx": 4}, "learning_rate": 0.01, "balance": 0.5}


def movie(folder: Path, name: str, frames: int, sides: tuple[int, int], seed: int) -> None:
    """Write `NAME.ome.tif`, two channels that say all about themselves, and `NAME.labels.tif`."""
    generator = np.random.default_rng(seed)
    size = (PIXEL_UM, PIXEL_UM)
    count = sides[0] * sides[1] // 500
    labels = np.stack(
        [ellipsoids(sides, size, DIAMETER_UM, count, generator) for _ in range(frames)]
    )
    image = np.stack(
        [[fluorescence(frame, size, OPTICS, generator) for _ in CHANNELS] for frame in labels]
    )
    described = {
        "axes": "TCYX",
        "PhysicalSizeX": PIXEL_UM,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": PIXEL_UM,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 60.0,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": CHANNELS},
    }
    tifffile.imwrite(
        folder / f"{name}.ome.tif", image, metadata=described, photometric="minisblack"
    )
    tifffile.imwrite(
        folder / f"{name}.labels.tif", labels, metadata={"axes": "TYX"}, photometric="minisblack"
    )


def stack(folder: Path, name: str, sides: tuple[int, int, int], seed: int) -> None:
    """Write `NAME.tif`, a stack whose file says nothing but numbers, and `NAME.labels.tif`."""
    generator = np.random.default_rng(seed)
    size = tuple(VOXEL_UM.values())
    labels = ellipsoids(sides, size, DIAMETER_UM, int(np.prod(sides)) // 3000, generator)
    image = fluorescence(labels, size, OPTICS, generator)
    for ending, values in (("", image), (".labels", labels)):
        tifffile.imwrite(
            folder / f"{name}{ending}.tif", values, metadata=None, photometric="minisblack"
        )


def settings(**sections: Any) -> dict[str, Any]:
    """The settings of the repository's config.yaml, brought down to seconds."""
    given: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    del given["acquisitions"], given["models"]
    given["campaign"] = "tiny"
    given["ingest"] |= {
        "chunk_voxels": {"yx": [32, 32], "zyx": [8, 32, 32]},
        "shard_voxels": {"yx": [32, 64], "zyx": [8, 32, 64]},
        "shard_frames": {"yx": 1, "zyx": 1},
        "smallest_level_voxels": 48,
    }
    given["every_model"] |= {"base": "none"}
    given["network"] |= {"width": {"yx": 16, "zyx": 8}, "levels": 1}
    given["finetune"] |= {
        "crop_voxels": {"yx": [32, 32], "zyx": [8, 16, 16]},
        "crops": {"yx": 4, "zyx": 2},
        "start": dict.fromkeys(("base", "nothing"), STEPS),
        "checkpoint_steps": 3,
    }
    given["finetune"]["gate"]["members"] = ["held_out"]
    given["predict"]["tile_voxels"] = {"yx": [64, 64], "zyx": [8, 32, 32]}
    given["report"]["pictures"] = 1
    return merged(given, sections)


def annotated(acquisition: str, **more: Any) -> dict[str, Any]:
    """An entry of `shots` or `references`."""
    return {
        "acquisition": acquisition,
        "labels": {"path": f"{acquisition}.labels.tif"},
        **more,
    }


def planar(folder: Path, frames: int = 3, **sections: Any) -> Path:
    """A campaign with one movie, `wound`, and one model, `nuclei`. Returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    movie(folder, "wound", frames, (151, 173), seed=1)
    model = {
        "channel": "DNA",
        "acquisitions": ["wound"],
        "shots": [annotated("wound", region={"t": [0, 1]})],
        "references": [annotated("wound", origin="simulated")],
    }
    given = settings(acquisitions={"wound": {"path": "wound.ome.tif"}}, models={"nuclei": model})
    write(folder, merged(given, sections))
    return folder


def add_stack(folder: Path) -> None:
    """Add a stack, `embryo`, and a model of its own, `nuclei_in_depth`, to a campaign."""
    stack(folder, "embryo", (13, 61, 75), seed=2)
    labels = {"path": "embryo.labels.tif", "axes": "zyx"}
    shot = annotated("embryo", labels=labels, region={"x": [0, 40]})
    learnt = {"channel": "DNA", "acquisitions": ["embryo"], "shots": [shot]}
    embryo = {
        "path": "embryo.tif",
        "axes": "zyx",
        "channels": ["DNA"],
        "voxel_size_um": VOXEL_UM,
    }
    change(folder, acquisitions={"embryo": embryo}, models={"nuclei_in_depth": learnt})


def merged(base: Any, over: Any) -> Any:
    """`base` with what `over` says else, key by key."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def read(folder: Path) -> dict[str, Any]:
    """The campaign's settings."""
    return dict(yaml.safe_load((folder / "config.yaml").read_text()))


def write(folder: Path, given: Mapping[str, Any]) -> None:
    """Write the campaign's settings."""
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(given), sort_keys=False))


def change(folder: Path, **sections: Any) -> None:
    """Change the campaign's settings, key by key."""
    write(folder, merged(read(folder), sections))


def copy(campaign: Path, folder: Path) -> Path:
    """A campaign as it stands, elsewhere, all times of its files kept."""
    shutil.copytree(campaign, folder, dirs_exist_ok=True)
    return folder


def command(folder: Path, *options: str, profile: str = "local") -> list[str]:
    """The words that a user types, from anywhere."""
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)),
        *("--profile", str(ROOT / "profiles" / profile), "--cores", "2", "--nocolor"),
        *options,
    ]


def environment() -> dict[str, str]:
    """One thread everywhere: results may not depend on the machine's cores."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def run(folder: Path, *options: str, profile: str = "local") -> subprocess.CompletedProcess[str]:
    """Run the workflow, whatever comes of it. What it says is in `stderr`."""
    return subprocess.run(
        command(folder, *options, profile=profile),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=environment(),
    )


def finish(folder: Path, *options: str, profile: str = "local") -> str:
    """Run the workflow to its end. Returns what it says."""
    done = run(folder, *options, profile=profile)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def start(folder: Path, *options: str, profile: str = "local") -> subprocess.Popen[bytes]:
    """Start the workflow in a process group of its own; what it says goes to `said`."""
    with (folder / "terminal.txt").open("ab") as terminal:
        return subprocess.Popen(
            command(folder, *options, profile=profile),
            stdout=terminal,
            stderr=terminal,
            env=environment(),
            start_new_session=True,
        )


def said(folder: Path) -> str:
    """What workflows that were started on this folder said."""
    return (folder / "terminal.txt").read_text()


def until(condition: Callable[[], object], seconds: float = LIMIT_S) -> None:
    """Wait until the condition holds, and look often: what is waited for may take a moment only."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.01)


def named(text: str) -> set[str]:
    """The results, as STAGE/NAME, of the jobs that the workflow speaks of."""
    return set(re.findall(r"^    output: results/([^,\n]*)\.json\b", text, re.MULTILINE))


def planned(folder: Path, *options: str, profile: str = "local") -> set[str]:
    """The results, as STAGE/NAME, that the workflow would make now."""
    return named(finish(folder, "--dry-run", *options, profile=profile))


def finished(folder: Path, **options: Any) -> Path:
    """A planar campaign that has run to its end in one go; made at the first call."""
    if not (folder / "results/report/campaign.json").exists():
        planar(folder, **options)
        finish(folder)
    return folder


def raw(campaign: Path, folder: Path) -> Path:
    """A campaign's files and settings elsewhere, before anything was made."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in campaign.iterdir():
        if path.is_file():
            shutil.copy2(path, folder)
    return folder


def tree(folder: Path) -> dict[str, str]:
    """The hash of every file among the results, by its path in there.

    Cost, provenance and the crate are left out: they tell of time and machines.
    """
    results = folder / "results"
    return {
        str(path.relative_to(results)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and not path.name.endswith(OF_TIME)
    }


def processes(folder: Path) -> list[psutil.Process]:
    """Everything that runs for this campaign: its folder stands in the command or is its place."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = str(folder) in " ".join(process.cmdline()) or process.cwd() == str(folder)
        except psutil.Error:
            continue
        if mine and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found
