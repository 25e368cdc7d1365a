"""The words of NGFF 0.5: what a store says about its levels and channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.tiles import Level

OME_VERSION = "0.5"
KIND = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
UNIT = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
COLOURS = ("FFFFFF", "00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where and when the voxels of an image lie.

    Attributes
    ----------
    position_um: of the first voxel's centre, for each of z, y, x that is known; empty for none.
    """

    voxel_size_um: Mapping[str, float]
    time_step_s: float | None
    position_um: Mapping[str, float]


def multiscales(
    name: str,
    axes: str,
    levels: Sequence[Level],
    calibration: Calibration,
    sampling: Literal["mean", "first"],
) -> dict[str, Any]:
    """The `multiscales` block of NGFF 0.5.

    A level made by averaging has its first voxel's centre moved by half the difference of the
    voxel sizes; one made by taking every n-th voxel has not.
    """
    datasets = []
    time_step_s, origin = calibration.time_step_s, calibration.position_um
    step = {"t": time_step_s or 1.0, "c": 1.0, **calibration.voxel_size_um}
    for level in levels:
        factors = dict(zip(axes, level.factors, strict=True))
        scale = [step[axis] * factors[axis] for axis in axes]
        moved = {a: (factors[a] - 1) / 2 * step[a] if sampling == "mean" else 0.0 for a in axes}
        shift = [origin.get(axis, 0.0) + moved[axis] for axis in axes]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if level.number or origin:
            transformations.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level.number), "coordinateTransformations": transformations})
    described = []
    for axis in axes:
        entry = {"name": axis, "type": KIND[axis]}
        if axis in UNIT and (axis != "t" or time_step_s):
            entry["unit"] = UNIT[axis]
        described.append(entry)
    method = "mean of voxels, rounded half up" if sampling == "mean" else "every second voxel"
    return {
        "name": name,
        "axes": described,
        "datasets": datasets,
        "type": sampling,
        "metadata": {"description": method},
    }


def image_label(blocks: Mapping[str, Any]) -> dict[str, Any]:
    """The `ome` block of a label image with these `multiscales`.

    Colours are left to the viewer, which makes them from ids: a list of millions would outweigh
    the labels, and of a list that names some, napari shows those alone.
    """
    described = {
        "version": OME_VERSION,
        "source": {"image": "../../"},
    }
    return {"version": OME_VERSION, "multiscales": [dict(blocks)], "image-label": described}


def plate(name: str, wells: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The `ome` block of a plate; `wells` gives the fields of each well, called ROW/COLUMN."""
    split = [well.split("/") for well in wells]
    rows, columns = (
        sorted({place[i] for place in split}, key=lambda text: (len(text.lstrip("0")), text))
        for i in (0, 1)
    )
    most = max(len(fields) for fields in wells.values())
    described = {
        "version": OME_VERSION,
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {
                "path": f"{row}/{column}",
                "rowIndex": rows.index(row),
                "columnIndex": columns.index(column),
            }
            for row, column in split
        ],
        "field_count": most,
        "acquisitions": [{"id": 0, "name": name, "maximumfieldcount": most}],
    }
    return {"version": OME_VERSION, "plate": described}


def well(fields: Sequence[str]) -> dict[str, Any]:
    """The `ome` block of a well with these fields."""
    images = [{"path": name, "acquisition": 0} for name in fields]
    return {"version": OME_VERSION, "well": {"version": OME_VERSION, "images": images}}


def omero(
    channels: Sequence[str],
    colours: Sequence[str],
    windows: Sequence[tuple[float, float]],
    dtype: np.dtype[Any],
) -> dict[str, Any]:
    """The `omero` block: names, colours and display windows of the channels.

    A channel whose colour is "", or all where there are no colours, get one of `COLOURS`.
    """
    limits = np.iinfo(dtype) if dtype.kind in "ui" else np.finfo(dtype)
    return {
        "channels": [
            {
                "label": name,
                "active": True,
                "color": colour or COLOURS[i % len(COLOURS)],
                "window": {
                    "min": float(limits.min),
                    "max": float(limits.max),
                    "start": low,
                    "end": high,
                },
            }
            for i, (name, colour, (low, high)) in enumerate(
                zip(channels, colours or [""] * len(channels), windows, strict=True)
            )
        ]
    }
