"""Files of drawn objects: ImageJ ROIs, QuPath's GeoJSON, tables of points or boxes."""

import json
import logging
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import roifile

from pipeline.outlines import Ellipsoid, Polygon, Shape

log = logging.getLogger("equiscope.marks")

Kind = Literal["outlines", "points", "boxes"]
SUFFIXES = (".roi", ".zip", ".geojson", ".json", ".csv")
UNREADABLE = (ValueError, TypeError, LookupError, OSError)
"""What comes of taking a file for something that it is not."""
CORNERS = ("ymin", "xmin", "ymax", "xmax")


@dataclass(frozen=True, slots=True)
class Mark:
    """One object as its file tells it.

    Attributes
    ----------
    shape: in its plane; None of a point.
    at: `t` and `z`, where the file says so; of a point `y` and `x`, too. 0 is the middle of the
        first frame, plane or voxel.
    """

    shape: Shape | None
    at: Mapping[str, float]


def read(path: Path, axes: str) -> tuple[Kind, list[Mark]]:
    """All objects in a file drawn over an acquisition with these axes, `c` left out.

    What encloses nothing, as lines do, is left out with a warning.
    Raises ValueError where the file cannot be read or understood.
    """
    match path.suffix.lower():
        case ".csv":
            return _table(path, axes)
        case ".roi" | ".zip":
            return "outlines", _rois(path, axes)
        case _:
            return "outlines", _geojson(path)


def _rois(path: Path, axes: str) -> list[Mark]:
    """Areas among ImageJ's ROIs. A slice of a plain stack is the frame or plane, if one of them."""
    stacked = [axis for axis in "tz" if axis in axes]
    try:
        found = roifile.roiread(path)
        rois = found if isinstance(found, list) else [found]
        shapes = [_roi_shape(roi) for roi in rois]
    except (*UNREADABLE, RuntimeError, struct.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} holds no readable ImageJ ROIs ({error}). Save polygons, ovals or "
            "rectangles from ImageJ's ROI Manager."
        ) from error
    marks = []
    for roi, shape in zip(rois, shapes, strict=True):
        at = {"t": roi.t_position, "z": roi.z_position}
        if not any(at.values()) and len(stacked) == 1:
            at = {stacked[0]: roi.position}
        if shape is not None:
            marks.append(Mark(shape, {axis: n - 1 for axis, n in at.items() if n}))
    _left_out(
        path, [roi.roitype.name for roi, shape in zip(rois, shapes, strict=True) if not shape]
    )
    return marks


def _roi_shape(roi: roifile.ImagejRoi) -> Shape | None:
    """What an ROI encloses; None where that is nothing."""
    kinds = roifile.ROI_TYPE
    if roi.subtype in (roifile.ROI_SUBTYPE.TEXT, roifile.ROI_SUBTYPE.IMAGE):
        return None
    if roi.roitype in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED) or roi.composite:
        return _area([np.asarray(ring) for ring in roi.coordinates(multi=True)])
    if roi.roitype not in (kinds.OVAL, kinds.RECT):
        return None
    low, high = np.array([roi.left, roi.top]), np.array([roi.right, roi.bottom])
    if roi.subpixelrect:
        low = np.array([roi.xd, roi.yd])
        high = low + np.array([roi.widthd, roi.heightd])
    if (high <= low).any():
        return None
    if roi.roitype == kinds.OVAL:
        return _inscribed(low[1], low[0], high[1], high[0])
    return _area([np.array([low, (high[0], low[1]), high, (low[0], high[1])])])


def _geojson(path: Path) -> list[Mark]:
    """Polygons of GeoJSON. QuPath leaves out the plane of objects in the first frame and slice."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content if isinstance(content, list) else content.get("features", [content])
        geometries = [feature["geometry"] for feature in features]
        has_planes = any("plane" in geometry for geometry in geometries)
        marks, others = [], []
        for geometry in geometries:
            parts = geometry.get("coordinates", [])
            parts = [parts] if geometry["type"] == "Polygon" else parts
            is_area = geometry["type"] in ("Polygon", "MultiPolygon")
            rings = [np.array(ring, float) for part in parts for ring in part] if is_area else []
            plane = geometry.get("plane", {"t": 0, "z": 0} if has_planes else {})
            shape = _area(rings)
            if shape:
                marks.append(Mark(shape, {axis: plane[axis] for axis in "tz" if axis in plane}))
            else:
                others.append(geometry["type"])
    except (*UNREADABLE, AttributeError) as error:
        raise ValueError(
            f"{path} is no readable GeoJSON ({error!r}). Export objects from QuPath as a "
            "FeatureCollection."
        ) from error
    _left_out(path, others)
    return marks


def _table(path: Path, axes: str) -> tuple[Kind, list[Mark]]:
    """Points or boxes, one a row; which of them the names of the columns tell."""
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is no readable CSV ({error}). Save it with commas and a first line of names."
        ) from error
    table.columns = table.columns.str.strip().str.lower()
    numbered = sorted(column for column in table.columns if column.startswith("axis-"))
    if len(numbered) in range(2, len(axes) + 1):
        table = table.rename(columns=dict(zip(numbered, axes[-len(numbered) :], strict=True)))
    is_boxes = set(CORNERS) <= set(table.columns)
    if not is_boxes and not {"y", "x"} <= set(table.columns):
        raise ValueError(
            f"{path} has the columns {', '.join(table.columns)}. Name those of points y, x; or as "
            f"napari does axis-0, axis-1, up to one for each of the axes {', '.join(axes)} of the "
            "acquisition; those of boxes xmin, ymin, xmax, ymax."
        )
    used = [*(CORNERS if is_boxes else "yx"), *(axis for axis in "tz" if axis in table.columns)]
    rows = table[used].apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~np.isfinite(rows).all(axis=1)
    if is_boxes:
        wrong |= (rows.ymax <= rows.ymin) | (rows.xmax <= rows.xmin)
    if wrong.any():
        raise ValueError(
            f"line {int(wrong.to_numpy().argmax()) + 2} of {path} lacks a number, or its box ends "
            "before it starts. Correct or delete it."
        )
    found = [dict(zip(used, map(float, row), strict=True)) for row in rows.to_numpy()]
    if is_boxes:
        return "boxes", [Mark(_inscribed(*(row[c] for c in CORNERS)), row) for row in found]
    return "points", [Mark(None, row) for row in found]


def _inscribed(top: float, left: float, bottom: float, right: float) -> Ellipsoid:
    """The ellipse that touches all sides of a box."""
    centre = (float(top + bottom) / 2, float(left + right) / 2)
    return Ellipsoid(centre, (float(bottom - top) / 2, float(right - left) / 2))


def _area(rings: Sequence[npt.NDArray[Any]]) -> Polygon | None:
    """What rings of `x, y` enclose; None where they have no area.

    Raises ValueError where a corner is no number.
    """
    closed = [ring[:, 1::-1].astype(float) for ring in rings if len(ring) > 2]
    if not all(np.isfinite(ring).all() for ring in closed):
        raise ValueError("a corner is no number")
    return Polygon(tuple(closed)) if closed else None


def _left_out(path: Path, kinds: Sequence[str]) -> None:
    if kinds:
        log.warning(
            "%s: %d drawings enclose nothing and are left out: %s",
            path,
            len(kinds),
            ", ".join(sorted(set(kinds))).lower(),
        )
