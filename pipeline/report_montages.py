"""Pictures of a prediction at several scales, over depth, over time, and from the side."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import spatial

from pipeline import figures
from pipeline.figures import RGB
from pipeline.report_prediction import Picture, Prediction
from pipeline.tiles import Box, Level

SPANS = (24, 8)
"""Widths of the parts that are shown enlarged, in typical diameters."""
NEAR, CANDIDATES = 3, 2000
"""Neighbours are within so many diameters; so many objects are asked for theirs, at most."""
PART_SIDE, CELL_SIDE, SECTION_SIDE = 700, 240, 1000
"""Pixels of the longer side: of an enlarged part, a cell of a montage, a view from the side."""
CELLS, COLUMNS = 12, 4
Cell = tuple[int, int | None, str]
"""Of a montage: frame, plane where there is depth, and what is written above."""


def scales(p: Prediction) -> list[Picture]:
    """Ever smaller parts of a plane around the place where most objects are."""
    if p.table.empty:
        return []
    row = p.table.iloc[_densest(p)]
    frame, middle = int(row["t"]), [round(float(row[axis])) for axis in p.volume.space]
    sides_um = [n * p.volume.voxel_size_um[a] for n, a in zip(p.shape, p.volume.space, strict=True)]
    spans = [s * p.card.diameter_um for s in SPANS if s * p.card.diameter_um < max(sides_um[-2:])]
    return [_part(p, frame, middle, span) for span in spans]


def _densest(p: Prediction) -> int:
    """Place in the table of the object that has most others near it."""
    rows = np.unique(np.linspace(0, len(p.table) - 1, CANDIDATES).round().astype(int))
    near = NEAR * p.card.diameter_um
    places = p.table[[f"{axis}_um" for axis in p.volume.space]].to_numpy(float)
    frames = p.table[["t"]].to_numpy(float) * 2 * near  # those of other frames are never near
    points = np.hstack([places, frames])
    tree = spatial.KDTree(points)
    return int(rows[np.argmax(tree.query_ball_point(points[rows], near, return_length=True))])


def _part(p: Prediction, frame: int, middle: list[int], span_um: float) -> Picture:
    halves = [math.ceil(span_um / 2 / p.volume.voxel_size_um[axis]) for axis in "yx"]
    start = [
        max(0, min(place - half, side - 2 * half))
        for place, half, side in zip(middle[-2:], halves, p.shape[-2:], strict=True)
    ]
    stop = [
        min(a + 2 * half, side) for a, half, side in zip(start, halves, p.shape[-2:], strict=True)
    ]
    depth = middle[:-2]
    whole = Box((*depth, *start), (*(z + 1 for z in depth), *stop))
    level = next(
        (v for v in p.volume.levels if max(_coarse(p, whole, v).shape) <= SECTION_SIDE),
        p.volume.levels[-1],
    )
    box = _coarse(p, whole, level)
    drawn, count = _drawn(p, level, box, frame, PART_SIDE)
    width_um = (stop[-1] - start[-1]) * p.volume.voxel_size_um["x"]
    where = ", ".join(f"{a} {m}" for a, m in zip(p.volume.space, middle, strict=True))
    at = f"frame {frame}, around {where}" if p.frames > 1 else f"around {where}"
    caption = f"{width_um:.3g} µm wide, {at}: {count} objects"
    alt = f"The part of {p.acquisition} where most objects are, {caption}, outlined."
    return Picture(caption, alt, figures.png(figures.montage([drawn], [""], 1, width_um)))


def montages(p: Prediction) -> dict[str, Picture]:
    """Many small frames of a movie, many small planes of a stack, and a stack from the side."""
    level = next(
        (v for v in p.volume.levels if max(p.volume.spatial(v.shape)[-2:]) <= 2 * CELL_SIDE),
        p.volume.levels[-1],
    )
    has_depth = "z" in p.volume.axes
    depth, step = p.volume.spatial(level.shape)[0], p.volume.spatial(level.factors)[0]
    found = {}
    if p.frames > 1:
        unit, times = p.times
        amid = depth // 2 if has_depth else None
        cells: list[Cell] = [
            (t, amid, f"frame {t}" if unit == "frame" else f"{times[t]:.3g} {unit}")
            for t in _spread(p.frames)
        ]
        found["over-time"] = _montage(p, level, cells, f"{len(cells)} of {p.frames} frames")
    if has_depth:
        size_um = p.volume.voxel_size_um["z"]
        cells = [
            (p.frames // 2, z, f"z {z * step}, {z * step * size_um:.3g} µm") for z in _spread(depth)
        ]
        found["over-depth"] = _montage(p, level, cells, f"{len(cells)} of {p.shape[0]} planes")
        found["from-the-side"] = _side(p)
    return found


def _spread(count: int) -> list[int]:
    """Numbers from 0 up to a count, evenly spread, at most CELLS."""
    return [int(n) for n in np.unique(np.linspace(0, count - 1, CELLS).round())]


def _montage(p: Prediction, level: Level, cells: Sequence[Cell], caption: str) -> Picture:
    """One small picture for each frame and plane, which is counted in planes of the level."""
    sides, drawn = p.volume.spatial(level.shape)[-2:], list[RGB]()
    for frame, plane, _ in cells:
        depth = () if plane is None else (plane,)
        box = Box((*depth, 0, 0), (*(z + 1 for z in depth), *sides))
        drawn.append(_drawn(p, level, box, frame, CELL_SIDE)[0])
    captions = [said for _, _, said in cells]
    sheet = figures.montage(drawn, captions, COLUMNS, p.width_um)
    alt = f"{caption} of {p.acquisition}, from {captions[0]} to {captions[-1]}, objects outlined."
    return Picture(caption, alt, figures.png(sheet))


def _side(p: Prediction) -> Picture:
    """A cut along z and x, in true proportions, through the place where most objects are."""
    level = next(
        (v for v in p.volume.levels if p.volume.spatial(v.shape)[-1] <= SECTION_SIDE),
        p.volume.levels[-1],
    )
    middle = [n // 2 for n in p.shape]
    frame = p.frames // 2
    if not p.table.empty:
        row = p.table.iloc[_densest(p)]
        frame, middle = int(row["t"]), [round(float(row[axis])) for axis in p.volume.space]
    depth, height, width = p.volume.spatial(level.shape)
    y = min(middle[1] // p.volume.spatial(level.factors)[1], height - 1)
    box = Box((0, y, 0), (depth, y + 1, width))
    steps = [
        p.volume.voxel_size_um[axis] * factor
        for axis, factor in zip("zyx", p.volume.spatial(level.factors), strict=True)
    ]
    rows = max(1, round(depth * steps[0] / steps[2]))
    drawn, count = _drawn(p, level, box, frame, SECTION_SIDE, rows)
    caption = f"z down, x across, at y {middle[1]}: {count} objects"
    sheet = figures.montage([drawn], [""], 1, p.width_um)
    return Picture(caption, f"From the side, {caption}, outlined.", figures.png(sheet))


def _coarse(p: Prediction, box: Box, level: Level) -> Box:
    """A box of full resolution, in voxels of a level."""
    return box.coarsened(p.volume.spatial(level.factors)).clipped(p.volume.spatial(level.shape))


def _drawn(
    p: Prediction, level: Level, box: Box, frame: int, side: int, rows: int | None = None
) -> tuple[RGB, int]:
    """A plane with its objects outlined, stretched to `rows` by repeating rows; their number."""
    flat = box.shape[-2:] if rows is None else box.shape[:: len(box.shape) - 1]
    image, labels = (read(level.number, box, frame).reshape(flat) for read in (p.image, p.labels))
    count = len(np.unique(labels[labels != 0]))
    if rows is not None:
        repeated = np.minimum((np.arange(rows) + 0.5) * flat[0] / rows, flat[0] - 1).astype(int)
        image, labels = image[repeated], labels[repeated]
    low, high = p.volume.windows[p.volume.channel(p.card.channel)]
    return figures.overlay(image, labels, low, high, side), count
