"""Opens a volume in napari, through its reader of OME-Zarr, and keeps what is to be seen.

Runs in an environment of its own, and imports nothing of Equiscope:
`.venv-peers/napari/bin/python benchmarks/peers/napari_peer.py JOB.json`. A job names the `store`,
where the camera stands (`center_um`, of y and x, and `pixels_per_um`), the `frame` to show, and the
folder `out`, which gets `layers.json` and a picture of each layer alone, `0.npy`, `1.npy`, ...
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(job: dict[str, Any]) -> None:
    """Show the layers of a volume one after the other."""
    napari: Any = importlib.import_module("napari")
    application: Any = importlib.import_module("qtpy.QtWidgets").QApplication
    viewer = napari.Viewer(show=True)
    viewer.open(job["store"], plugin="napari-ome-zarr")
    if job["frame"] is not None:
        viewer.dims.set_current_step(0, job["frame"])
    viewer.camera.center = (0.0, *job["center_um"])
    viewer.camera.zoom = job["pixels_per_um"]
    out = Path(job["out"])
    for number, shown in enumerate(viewer.layers):
        for layer in viewer.layers:
            layer.visible = layer is shown
        application.processEvents()
        np.save(out / f"{number}.npy", viewer.screenshot(canvas_only=True, flash=False))
    told = [_described(layer) for layer in viewer.layers]
    (out / "layers.json").write_text(json.dumps(told), "utf-8")
    viewer.close()


def _described(layer: Any) -> dict[str, Any]:
    kind = type(layer).__name__
    described = {
        "kind": kind,
        "name": layer.name,
        "scale": [float(value) for value in layer.scale],
        "translate": [float(value) for value in layer.translate],
        "units": [str(unit) for unit in layer.units],
        "levels": len(layer.data) if layer.multiscale else 1,
    }
    if kind == "Image":
        described["brightest"] = [float(value) for value in layer.colormap.map([1.0])[0]]
        described["contrast_limits"] = [float(value) for value in layer.contrast_limits]
    return described


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
