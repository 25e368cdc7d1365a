"""What people draw and the labels it becomes: the same from any file, and no more than was said."""

import json
import logging
import pickle

import numpy as np
import pytest
import roifile
import scenes
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_image, write_labels
from PIL import Image
from scipy import ndimage

from pipeline import outlines, report_scores, sections
from pipeline.annotations import annotated
from pipeline.outlines import Ellipsoid, Polygon
from pipeline.tiles import Box

SHAPE = (60, 70)
WHERE = "models.cells.shots.0"


@pytest.fixture(scope="module")
def labels():
    """Objects of one image, by numbers with gaps."""
    return scenes.simulated("yx", SHAPE, 5.0, 12)[1] * 3


def opened(path, axes="yx", shape=SHAPE, region=None, file_axes="from file", **settings):
    """The annotation in a file, over an acquisition with these axes."""
    annotation = sections.Annotation.model_validate(scenes.annotation(path, file_axes, **settings))
    return annotated(WHERE, annotation, region or {}, axes, shape, scenes.VOXEL)


def refused(*arguments, **settings):
    """The sentence that refuses a file."""
    with pytest.raises(ValueError, match=r"\.$") as fault:
        opened(*arguments, **settings)
    sentence = str(fault.value)
    assert sentence.startswith(WHERE)
    assert "\n" not in sentence
    return sentence


def rings(labels):
    """For each object its outer boundary along pixel edges, `x, y`, exactly."""
    for number in np.unique(labels[labels > 0]):
        yield boundary(labels == number)


def boundary(mask):
    """The boundary of one simply connected object, along pixel edges."""
    padded = np.pad(mask, 1)
    steps = {}
    for y, x in np.argwhere(padded):
        for (dy, dx), start, stop in (
            ((-1, 0), (0, 0), (1, 0)), ((0, 1), (1, 0), (1, 1)),
            ((1, 0), (1, 1), (0, 1)), ((0, -1), (0, 1), (0, 0)),
        ):  # fmt: skip
            if not padded[y + dy, x + dx]:
                at = (x - 1 + start[0], y - 1 + start[1])
                steps.setdefault(at, []).append((x - 1 + stop[0], y - 1 + stop[1]))
    first = at = next(iter(steps))
    found = []
    while not found or at != first:
        found.append(at)
        at = steps[at].pop()
    return np.array(found)


def feature(*polygons, **more):
    """A GeoJSON feature of polygons, each a list of rings."""
    parts = [[[*map(list, ring), list(ring[0])] for ring in polygon] for polygon in polygons]
    parts = json.loads(json.dumps(parts, default=int))
    kind = "Polygon" if len(parts) == 1 else "MultiPolygon"
    geometry = {"type": kind, "coordinates": parts[0] if len(parts) == 1 else parts, **more}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


def write_geojson(path, features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def write_zarr(path, labels, version, **more):
    """An image with labels of these names, by ome-zarr."""
    form = {"0.4": FormatV04, "0.5": FormatV05}[version]()
    group = zarr.open_group(path, mode="w", zarr_format=form.zarr_format)
    axes = "zyx"[-labels.ndim :]
    write_image(labels.astype(np.uint16), group, axes=axes, fmt=form)
    for name, held in ({"cells": labels} | more).items():
        write_labels(held.astype(np.uint32), group, name=name, axes=axes, fmt=form)
    return path


def write_palette(path, labels):
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.save(path)
    return path


def write_grey(dtype):
    def write(path, labels):
        Image.fromarray(labels.astype(dtype)).save(path)
        return path

    return write


def write_tiff(path, labels):
    tifffile.imwrite(path, labels.astype(np.uint16), photometric="minisblack")
    return path


LABEL_IMAGES = {
    "a.tif": write_tiff,
    "8.png": write_grey(np.uint8),
    "16.png": write_grey(np.uint16),
    "palette.png": write_palette,
    "4.zarr": lambda path, labels: write_zarr(path, labels, "0.4"),
    "5.zarr": lambda path, labels: write_zarr(path, labels, "0.5"),
    "4.named.zarr": lambda path, labels: write_zarr(path, labels, "0.4") / "labels" / "cells",
    "5.named.zarr": lambda path, labels: (
        write_zarr(path, labels, "0.5", two=labels) / "labels" / "cells"
    ),
}


@pytest.mark.parametrize("name", LABEL_IMAGES)
def test_a_label_image_has_its_own_numbers_in_any_format(tmp_path, labels, name):
    file_axes = "yx" if name.endswith(".tif") else "from file"
    path = LABEL_IMAGES[name](tmp_path / name, labels)
    region = {"y": (10, 50), "x": (3, 64)}
    known = pickle.loads(pickle.dumps(opened(path, region=region, file_axes=file_axes)))
    assert (known.labels(0) == labels[10:50, 3:64]).all()
    assert known.known(0).all()
    assert known.as_reference() is known
    assert known.source.path.exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_in_depth_come_from_zarr_as_they_are(tmp_path, version):
    labels = scenes.simulated("zyx", (9, 40, 44), 4.0, 8)[1]
    known = opened(write_zarr(tmp_path / "a.zarr", labels, version), "zyx", labels.shape)
    assert (known.labels(0) == labels).all()


def write_rois(path, labels):
    for number, ring in enumerate(rings(labels), start=1):
        roifile.ImagejRoi.frompoints(ring.astype(np.int32), name=str(number)).tofile(path)
    return path


def write_fine_rois(path, labels):
    for number, ring in enumerate(rings(labels), start=1):
        roifile.ImagejRoi.frompoints(ring.astype(np.float32), name=str(number)).tofile(path)
    return path


OUTLINES = {
    "whole.zip": write_rois,
    "sub-pixel.zip": write_fine_rois,
    "collection.geojson": lambda path, labels: write_geojson(
        path, [feature([ring]) for ring in rings(labels)]
    ),
    "list.json": lambda path, labels: path.write_text(
        json.dumps([feature([ring]) for ring in rings(labels)])
    ) and path,
}  # fmt: skip


@pytest.mark.parametrize("name", OUTLINES)
def test_outlines_along_pixel_edges_give_the_very_labels(tmp_path, labels, name):
    path = OUTLINES[name](tmp_path / name, labels)
    region = {"y": (10, 50), "x": (3, 64)}
    known = pickle.loads(pickle.dumps(opened(path, region=region)))
    dense = np.searchsorted(np.unique(labels), labels)
    assert (known.labels(0) == dense[10:50, 3:64]).all()
    assert known.known(0).all()


def test_a_smooth_outline_covers_its_object(tmp_path):
    """A polygon of 40 corners, of each of some discs, overlaps them by 97 % and more."""
    y, x = np.indices(SHAPE) + 0.5
    middles, angles = [(15, 15), (20, 45), (42.3, 30.7)], np.linspace(0, 2 * np.pi, 40)
    polygons = [
        np.stack([cx + 11 * np.cos(angles), cy + 11 * np.sin(angles)], axis=1)[:-1]
        for cy, cx in middles
    ]
    path = write_geojson(tmp_path / "a.geojson", [feature([p.tolist()]) for p in polygons])
    drawn = opened(path).labels(0)
    for number, (cy, cx) in enumerate(middles, start=1):
        disc = np.hypot(y - cy, x - cx) <= 11
        assert overlap(drawn == number, disc) >= 0.97


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_ovals_and_rectangles_of_imagej_fill_their_boxes(tmp_path):
    kinds = roifile.ROI_TYPE
    box = {"top": 5, "left": 10, "bottom": 25, "right": 40}
    roifile.ImagejRoi(roitype=kinds.RECT, **box).tofile(tmp_path / "rectangle.roi")
    roifile.ImagejRoi(roitype=kinds.OVAL, **box).tofile(tmp_path / "oval.roi")
    filled = np.zeros(SHAPE, bool)
    filled[5:25, 10:40] = True
    assert ((opened(tmp_path / "rectangle.roi").labels(0) == 1) == filled).all()
    y, x = np.indices(SHAPE) + 0.5
    ellipse = ((y - 15) / 10) ** 2 + ((x - 25) / 15) ** 2 <= 1
    assert ((opened(tmp_path / "oval.roi").labels(0) == 1) == ellipse).all()


def test_composites_of_imagej_keep_their_holes(tmp_path):
    ring = [(10, 5), (40, 5), (40, 25), (10, 25)]
    hole = [(20, 10), (30, 10), (30, 20), (20, 20)]
    path = [n for r in (ring, hole) for i, p in enumerate(r) for n in (int(i > 0), *p)]
    numbers = np.array([*path[:12], 4, *path[12:], 4], np.float32)
    roi = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, multi_coordinates=numbers, shape_roi_size=len(numbers),
        top=5, left=10, bottom=25, right=40,
    )  # fmt: skip
    roi.tofile(tmp_path / "composite.roi")
    wanted = np.zeros(SHAPE, int)
    wanted[5:25, 10:40] = 1
    wanted[10:20, 20:30] = 0
    assert (opened(tmp_path / "composite.roi").labels(0) == wanted).all()


def test_lines_and_points_of_imagej_are_left_out_with_a_warning(tmp_path, labels, caplog):
    path = write_rois(tmp_path / "a.zip", labels)
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, y1=1, x2=9, y2=9, name="l")
    line.tofile(path)
    point = roifile.ImagejRoi.frompoints(np.array([[3, 3]]), name="p")
    point.roitype = roifile.ROI_TYPE.POINT
    point.tofile(path)
    with caplog.at_level(logging.WARNING):
        known = opened(path)
    assert (known.labels(0) == np.searchsorted(np.unique(labels), labels)).all()
    assert "2 drawings enclose nothing and are left out: line, point" in caplog.text


def square(y, x, side):
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def test_holes_are_holes_and_parts_belong_together(tmp_path):
    path = write_geojson(
        tmp_path / "a.geojson",
        [
            feature([square(5, 5, 20), square(10, 10, 10)], [square(40, 5, 5)]),
            feature([square(12, 12, 6)]),
        ],
    )
    wanted = np.zeros(SHAPE, int)
    wanted[5:25, 5:25] = wanted[40:45, 5:10] = 1
    wanted[10:20, 10:20] = 0
    wanted[12:18, 12:18] = 2
    assert (opened(path).labels(0) == wanted).all()


@given(
    st.lists(st.tuples(st.floats(-10, 30), st.floats(-10, 40)), min_size=3, max_size=9, unique=True)
)
def test_a_voxel_belongs_to_the_outline_that_holds_its_middle(corners):
    ring = np.array(corners)
    box = Box((3, 5), (21, 30))
    found = outlines.inside([ring], box)
    y, x = np.indices((18, 25))
    middles = np.stack([y + 3.5, x + 5.5], axis=-1).reshape(-1, 2)
    # Whoever is to decide about a middle on an edge: those are left out.
    edges = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
    along = edges[:, 1] - edges[:, 0]
    offset = middles[:, None] - edges[:, 0]
    length = np.maximum((along**2).sum(axis=-1), 1e-12)
    share = np.clip((offset * along).sum(axis=-1) / length, 0, 1)
    away = np.linalg.norm(offset - share[..., None] * along, axis=-1).min(axis=1)
    crossings = np.zeros(len(middles), int)
    for (y0, x0), (y1, x1) in edges:
        spans = (y0 <= middles[:, 0]) != (y1 <= middles[:, 0])
        with np.errstate(all="ignore"):
            at = x0 + (middles[:, 0] - y0) / (y1 - y0) * (x1 - x0)
        crossings += spans & (at < middles[:, 1])
    sure = away > 1e-6
    assert (found.ravel()[sure] == (crossings % 2 == 1)[sure]).all()


def test_a_simple_outline_is_filled_as_matplotlib_does():
    angles = np.linspace(0, 2 * np.pi, 24)[:-1]
    radii = np.random.default_rng(0).uniform(5, 20, len(angles))
    ring = np.stack([22 + radii * np.sin(angles), 24 + radii * np.cos(angles)], axis=1)
    middles = np.indices((45, 50)).reshape(2, -1).T + 0.5
    wanted = Outline(ring).contains_points(middles).reshape(45, 50)
    assert (outlines.inside([ring], Box((0, 0), (45, 50))) == wanted).all()


@given(st.tuples(st.floats(0, 20), st.floats(0, 20)))
def test_areas_that_share_an_edge_share_no_voxel_and_leave_none_out(middle):
    """A square cut into four by rays from any point inside."""
    corners = np.array([(0, 0), (0, 20), (20, 20), (20, 0)], float)
    box, centre = Box((0, 0), (20, 20)), np.array(middle)
    parts = [np.array([centre, corners[i], corners[i - 3]]) for i in range(4)]
    covered = sum(outlines.inside([part], box).astype(int) for part in parts)
    assert (covered == 1).all()


# --- positions ----------------------------------------------------------------------------------


def write_positions(path, form, places):
    """Squares at frame and plane of `places`, None where the file is to be silent."""
    if form == "geojson":
        features = []
        for t, z in places:
            plane = (
                {} if t is None and z is None else {"plane": {"c": -1, "z": z or 0, "t": t or 0}}
            )
            features.append(feature([square(5, 5, 20)], **plane))
        return write_geojson(path / "a.geojson", features)
    if form == "boxes":
        lines = ["xmin,ymin,xmax,ymax,t,z"] + [f"5,5,25,25,{t or 0},{z or 0}" for t, z in places]
        (path / "a.csv").write_text("\n".join(lines))
        return path / "a.csv"
    for number, (t, z) in enumerate(places):
        ring = np.array(square(5, 5, 20))
        position = {"t": t, "z": z} if form == "hyperstack" else {"position": t if z is None else z}
        roifile.ImagejRoi.frompoints(ring, name=str(number), **position).tofile(path / "a.zip")
    return path / "a.zip"


@pytest.mark.parametrize("form", ["geojson", "boxes", "hyperstack", "stack"])
def test_an_object_lies_in_the_frame_that_its_file_names(tmp_path, form):
    known = opened(write_positions(tmp_path, form, [(0, None), (2, None)]), "tyx", (4, *SHAPE))
    assert [sorted(np.unique(known.labels(t))) for t in range(4)] == [[0, 1], [0], [0, 2], [0]]
    assert [bool(known.known(t).any()) for t in range(4)] == [True, False, True, False]


@pytest.mark.parametrize("form", ["geojson", "boxes", "hyperstack", "stack"])
def test_an_object_lies_in_the_plane_that_its_file_names(tmp_path, form):
    known = opened(write_positions(tmp_path, form, [(None, 1), (None, 3)]), "zyx", (6, *SHAPE))
    found = known.labels(0)
    assert [sorted(np.unique(plane)) for plane in found] == [[0], [0, 1], [0], [0, 2], [0], [0]]
    assert known.known(0).any(axis=(1, 2)).tolist() == [False, True, False, True, False, False]


def test_an_object_of_a_stack_in_time_lies_in_its_frame_and_plane(tmp_path):
    known = opened(
        write_positions(tmp_path, "hyperstack", [(1, 2), (0, 3)]), "tzyx", (2, 4, *SHAPE)
    )
    assert [np.unique(known.labels(1)[z]).tolist() for z in range(4)] == [[0], [0], [0, 1], [0]]
    assert [np.unique(known.labels(0)[z]).tolist() for z in range(4)] == [[0], [0], [0], [0, 2]]


def test_qupaths_first_plane_goes_without_saying(tmp_path):
    first = feature([square(5, 5, 20)])
    third = feature([square(5, 5, 20)], plane={"c": -1, "z": 2, "t": 0})
    path = write_geojson(tmp_path / "a.geojson", [first, third])
    found = opened(path, "zyx", (4, *SHAPE)).labels(0)
    assert [sorted(np.unique(plane)) for plane in found] == [[0, 1], [0], [0, 2], [0]]


@pytest.mark.parametrize(("axes", "word"), [("tyx", "frame"), ("zyx", "plane")])
def test_a_drawing_without_a_position_needs_a_region_that_has_but_one(tmp_path, axes, word):
    path = write_geojson(tmp_path / "a.geojson", [feature([square(5, 5, 20)])])
    sentence = refused(path, axes, (4, *SHAPE))
    assert f"does not say in which {word} it lies, and there are 4" in sentence
    assert f"`region: {{{axes[0]}: [0, 1]}}`" in sentence
    known = opened(path, axes, (4, *SHAPE), {axes[0]: (2, 3)})
    assert known.frames == ((2,) if axes == "tyx" else (0,))
    assert (known.labels(known.frames[0]) != 0).sum() == 400


@pytest.mark.parametrize("axes", ["tyx", "zyx"])
def test_a_label_image_of_one_frame_or_plane_will_do_for_it(tmp_path, labels, axes):
    path = LABEL_IMAGES["16.png"](tmp_path / "a.png", labels)
    known = opened(path, axes, (4, *SHAPE), {axes[0]: (2, 3)})
    assert (known.labels(known.frames[0]).reshape(SHAPE) == labels).all()
    assert "Give labels of the whole acquisition" in refused(path, axes, (4, *SHAPE))


def test_a_position_that_the_acquisition_lacks_is_refused(tmp_path):
    path = write_positions(tmp_path, "hyperstack", [(5, 0)])
    assert "has no frames" in refused(path)
    assert "has 4" in refused(path, "tyx", (4, *SHAPE))


# --- what is unknown ----------------------------------------------------------------------------


def test_sparse_labels_know_their_objects_and_a_narrow_rim(tmp_path, labels):
    """Nothing else, and no voxel of another object that is annotated."""
    path = write_tiff(tmp_path / "a.tif", labels)
    known = opened(path, file_axes="yx", complete=False)
    sure, found = known.known(0), labels != 0
    assert (known.labels(0) == labels).all()
    assert sure[found].all()
    rim = sure & ~found
    assert rim.any()
    diameter = max(np.sqrt(4 * (labels == n).sum() / np.pi) for n in np.unique(labels[found]))
    away = ndimage.distance_transform_edt(~found)
    assert away[rim].max() <= diameter / 4
    assert (~sure & ~found).any()
    assert sure[away == 1].all()


def test_a_rim_is_a_quarter_of_a_diameter_wide_in_um():
    disc = (np.hypot(*np.indices((61, 61)) - 30) <= 12).astype(int)
    y, x = np.nonzero(outlines.rim(disc, (0.5, 0.5)))
    assert np.hypot(y - 30, x - 30).max() == pytest.approx(18, abs=0.7)
    ball = np.zeros((21, 41, 41), int)
    z, y, x = np.indices(ball.shape)
    ball[np.hypot(2 * (z - 10), np.hypot(y - 20, x - 20)) <= 10] = 1
    rim = outlines.rim(ball, (2.0, 1.0, 1.0))
    far = np.hypot(2 * (z - 10), np.hypot(y - 20, x - 20))[rim]
    assert far.max() == pytest.approx(15, abs=1)


def test_a_sparse_outline_in_a_stack_says_nothing_of_other_planes(tmp_path):
    path = write_positions(tmp_path, "hyperstack", [(0, 2)])
    sure = opened(path, "zyx", (6, *SHAPE), complete=False).known(0)
    assert sure.any(axis=(1, 2)).tolist() == [False, False, True, False, False, False]


def write_points(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return path


@pytest.mark.parametrize("header", ["index,axis-0,axis-1", "index,y,x"])
@pytest.mark.parametrize("complete", [True, False])
def test_points_know_their_middles_and_what_is_far_from_all(tmp_path, header, complete):
    middles = np.array([(15, 20), (40, 50)])
    path = write_points(tmp_path / "a.csv", header, [(i, *m) for i, m in enumerate(middles)])
    known = opened(path, diameter_um=6.0, complete=complete)
    away = np.stack([np.hypot(*(np.indices(SHAPE).T - m).T) for m in middles])
    labels, sure = known.labels(0), known.known(0)
    assert (labels == np.where(away.min(axis=0) <= 6, away.argmin(axis=0) + 1, 0)).all()
    middle, beyond = away.min(axis=0) <= 3, away.min(axis=0) > 12
    assert (sure == (middle | (beyond & complete))).all()


def test_points_that_are_close_share_their_discs_at_the_middle(tmp_path):
    path = write_points(tmp_path / "a.csv", "y,x", [(30, 20), (30, 30)])
    labels = opened(path, diameter_um=8.0).labels(0)
    assert (labels[30, 12:25] == 1).all()
    assert (labels[30, 26:39] == 2).all()


def test_points_in_depth_are_balls_in_um(tmp_path):
    path = write_points(tmp_path / "a.csv", "axis-0,axis-1,axis-2", [(6, 20, 22)])
    labels = opened(path, "zyx", (13, 40, 44), diameter_um=6.0).labels(0)
    z, y, x = np.indices(labels.shape)
    assert ((labels == 1) == (np.hypot(z - 6, np.hypot(y - 20, x - 22) / 2) <= 3)).all()


@pytest.mark.parametrize("header", ["axis-0,axis-1,axis-2", "t,y,x"])
def test_points_of_a_movie_lie_in_their_frames(tmp_path, header):
    path = write_points(tmp_path / "a.csv", header, [(0, 15, 20), (2, 40, 50)])
    known = opened(path, "tyx", (3, *SHAPE), diameter_um=6.0)
    assert [sorted(np.unique(known.labels(t))) for t in range(3)] == [[0, 1], [0], [0, 2]]
    assert not known.known(1).any()


def test_the_same_objects_as_points_and_boxes_lie_where_they_are(tmp_path, labels):
    """Discs and inscribed ellipses have their middles in the right objects."""
    found = ndimage.find_objects(np.searchsorted(np.unique(labels), labels))
    middles = np.round(ndimage.center_of_mass(labels > 0, labels, np.unique(labels)[1:])).astype(
        int
    )
    points = write_points(tmp_path / "points.csv", "axis-0,axis-1", middles)
    corners = [(x.start, y.start, x.stop, y.stop, "cell") for y, x in found]
    boxes = write_points(tmp_path / "boxes.csv", "xmin,ymin,xmax,ymax,class", corners)
    for path in (points, boxes):
        drawn = opened(path, diameter_um=5.0)
        for number, (y, x) in enumerate(middles, start=1):
            assert drawn.labels(0)[y, x] == number
            assert drawn.known(0)[y, x]
    dense = np.searchsorted(np.unique(labels), labels)
    drawn = opened(boxes).labels(0)
    assert np.mean([overlap(drawn == n, dense == n) for n in range(1, len(found) + 1)]) > 0.8


@pytest.mark.parametrize("complete", [True, False])
def test_boxes_know_the_inner_ellipse_and_the_outside_of_all_boxes(tmp_path, complete):
    path = write_points(
        tmp_path / "a.csv", "xmin,ymin,xmax,ymax", [(10, 5, 40, 25), (45, 30, 65, 50)]
    )
    known = opened(path, complete=complete)
    y, x = np.indices(SHAPE) + 0.5
    reach = np.stack([
        np.hypot((y - 15) / 10, (x - 25) / 15),
        np.hypot((y - 40) / 10, (x - 55) / 10),
    ])  # fmt: skip
    boxed = np.zeros(SHAPE, bool)
    boxed[5:25, 10:40] = boxed[30:50, 45:65] = True
    assert ((known.labels(0) != 0) == (reach.min(axis=0) <= 1)).all()
    assert (known.known(0) == ((reach.min(axis=0) <= 0.85) | (~boxed & complete))).all()


# --- errors -------------------------------------------------------------------------------------


def test_points_without_a_diameter_are_refused(tmp_path):
    path = write_points(tmp_path / "a.csv", "y,x", [(3, 4)])
    assert refused(path) == (
        f"{WHERE}.labels.diameter_um is 'from labels', but {path} holds points, which have no "
        "size. Give the objects' diameter in um, such as `diameter_um: 10`."
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "a,b\n1,2", "has the columns a, b. Name those of points y, x"),
        ("a.csv", "axis-0,axis-1,axis-2\n1,2,3", "up to one for each of the axes y, x"),
        ("a.csv", "y,x\n1,2\n3,cell", "line 3 of"),
        ("a.csv", "xmin,ymin,xmax,ymax\n9,9,5,5", "line 2 of"),
        ("a.csv", "xmin,ymin,xmax,ymax", "holds no boxes. Draw at least one object."),
        ("a.csv", "", "is no readable CSV"),
        ("a.csv", "y,x\n1000,1000", "object 1 of"),
        ("a.geojson", "{", "is no readable GeoJSON"),
        ("a.geojson", '{"features": [{"type": "Feature"}]}', "is no readable GeoJSON"),
        ("a.geojson", '{"features": []}', "holds no outlines"),
        ("a.roi", "nonsense", "holds no readable ImageJ ROIs"),
        ("a.zip", "nonsense", "holds no readable ImageJ ROIs"),
        ("a.geojson", json.dumps([feature([[(1, 2), (3, 4), (5, float("nan"))]])]), "no number"),
        ("a.csv", "y,x\n1,inf", "line 2 of"),
        ("a.npy", "nonsense", "annotations are read from .tif,"),
        ("a.png", "nonsense", "is no readable PNG"),
    ],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_in_a_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    sentence = refused(path, diameter_um=5.0)
    assert words in sentence
    assert str(path) in sentence


@pytest.mark.parametrize("name", ["gone.csv", "gone.png", "gone.zip", "gone.tif"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    assert "no such file" in refused(tmp_path / name)


def test_a_png_of_colours_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(path)
    assert "holds colours (RGB), which are no labels" in refused(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_zarr_of_several_labels_wants_a_name(tmp_path, labels, version):
    path = write_zarr(tmp_path / "a.zarr", labels, version, two=labels)
    sentence = refused(path)
    assert "cells, two" in sentence
    assert ".../labels/NAME" in sentence


def test_a_folder_without_labels_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no OME-Zarr" in refused(tmp_path / "empty")
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    write_image(np.zeros(SHAPE, np.uint16), group, axes="yx", fmt=FormatV05())
    assert "holds no labels" in refused(tmp_path / "a.zarr")


def test_a_drawing_in_um_is_seen_to_lie_outside(tmp_path):
    path = write_geojson(tmp_path / "a.geojson", [feature([square(900, 900, 20)])])
    assert "lies outside of the image. Give coordinates in pixels" in refused(path)


def test_curves_of_imagej_are_refused(tmp_path):
    numbers = np.array([0, 1, 1, 3, 2, 2, 3, 3, 4, 4, 4], np.float32)
    roi = roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT, multi_coordinates=numbers, shape_roi_size=len(numbers),
        bottom=5, right=5,
    )  # fmt: skip
    roi.tofile(tmp_path / "a.roi")
    assert "Save polygons, ovals or rectangles" in refused(tmp_path / "a.roi")


def test_scores_need_the_outlines_of_all_objects(tmp_path, labels):
    whole = write_tiff(tmp_path / "a.tif", labels)
    points = write_points(tmp_path / "points.csv", "y,x", [(3, 4)])
    boxes = write_points(tmp_path / "boxes.csv", "xmin,ymin,xmax,ymax", [(1, 1, 9, 9)])
    for known, words in [
        (opened(whole, file_axes="yx", complete=False), "complete is false"),
        (opened(points, diameter_um=5.0), "holds points, but scores need"),
        (opened(boxes), "holds boxes, but scores need"),
        (
            opened(write_positions(tmp_path, "hyperstack", [(0, 0)]), "tyx", (2, *SHAPE)),
            "planar outlines, none in frame 1",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            report_scores.score(None, known, 0.5)


def test_shapes_know_where_their_voxels_are():
    assert Ellipsoid((5.0, 5.0), (2.0, 3.0)).bounds(1) == Box((3, 2), (7, 8))
    ring = np.array([(1.6, 2.0), (4.0, 2.0), (4.0, 6.4)])
    assert Polygon((ring,), 7).bounds(1) == Box((7, 2, 2), (8, 4, 6))
