"""Plates: every field has exactly its planes, or one sentence says which is missing."""

import itertools
import logging
import shutil

import numpy as np
import plates
import pytest
import scenes
import tifffile
import zarr
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

from pipeline import formats, formats_planes, formats_plates, ingest, inspect, readers, volumes
from pipeline.tiles import Box


def opened(path, field, **given):
    return readers.source("a", scenes.acquisition(path, series=field, **given))


def everything(source):
    """All voxels of a source, with the axes t, c, z, y, x."""
    read = source.read(Box((0,) * len(source.shape), source.shape))
    return np.expand_dims(read, [i for i, a in enumerate("tczyx") if a not in source.axes])


def refused(path, field, **given):
    with pytest.raises(ValueError, match=r"^acquisitions\.a\.") as fault:
        opened(path, field, **given)
    return str(fault.value)


def listed(path):
    return list(formats.of(path).series(path))


# --- ImageXpress --------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [plates.exported, plates.native], ids=["exported", "native"])
@pytest.mark.parametrize(
    "shape",
    list(itertools.product((1, 2), (1, 2), (1, 3), (13,), (17,))),
    ids=lambda shape: "t{} c{} z{}".format(*shape),
)
def test_each_field_of_imagexpress_has_its_own_planes(tmp_path, write, shape):
    held = plates.fields(shape=shape)
    path = write(tmp_path / "plate", held)
    assert formats.of(path).name == "ImageXpress plate"
    assert listed(path) == list(held)
    for name, voxels in held.items():
        source = opened(path, name)
        assert (everything(source) == voxels).all()
        assert source.channels == plates.CHANNELS[: shape[1]]
        assert source.voxel_size_um["x"] == source.voxel_size_um["y"] == plates.PIXEL_UM
        assert source.voxel_size_um.get("z") == (plates.Z_STEP_UM if shape[2] > 1 else None)
        assert source.time_step_s == (plates.STEP_S if shape[0] > 1 else None)


def test_a_plate_is_named_by_its_sheet_or_the_folder_of_that(tmp_path):
    held = plates.fields()
    folder = plates.exported(tmp_path / "plate", held)
    assert listed(folder / "9987.HTD") == listed(folder)
    assert (everything(opened(folder / "9987.HTD", "C/11/2")) == held["C/11/2"]).all()


def test_the_only_site_and_wave_need_not_be_named(tmp_path):
    plane = np.arange(12, dtype=np.uint16).reshape(3, 4)
    file = tmp_path / "TimePoint_1" / "9987_B02.TIF"
    plates.write_plane(file, plane, plates.metaseries("DAPI", 0, 0))
    (tmp_path / "9987.HTD").write_text(plates.sheet(["DAPI"], sites=False, depth=1))
    assert listed(tmp_path) == ["B/02/1"]
    source = opened(tmp_path, "B/02/1")
    assert (everything(source) == plane).all()
    assert source.channels == ("DAPI",)


def test_the_distance_of_planes_is_measured_where_no_projection_tells_it(tmp_path):
    path = plates.native(tmp_path / "plate", plates.fields(shape=(1, 1, 3, 5, 6)))
    for projection in path.glob("*.tif"):
        projection.unlink()
    assert opened(path, "B/02/1").voxel_size_um["z"] == plates.Z_STEP_UM


def test_projections_alone_are_planes(tmp_path):
    held = plates.fields(shape=(1, 2, 3, 5, 6))
    path = plates.exported(tmp_path / "plate", held) / "TimePoint_1" / "ZStep_0"
    assert listed(path) == list(held)
    whole = everything(opened(path, "B/02/2"))
    assert (whole[0, :, 0] == held["B/02/2"][0].max(axis=1)).all()


def test_a_missing_plane_of_imagexpress_is_named(tmp_path):
    held = plates.fields()
    path = plates.exported(tmp_path / "plate", held)
    (path / "TimePoint_2" / "ZStep_3" / "9987_B02_s2_w2.TIF").unlink()
    words = "field B/02/2 has no plane of time 2, channel FITC (number 2), z 3"
    assert words in refused(path, "B/02/2")
    assert (everything(opened(path, "B/02/1")) == held["B/02/1"]).all()


def test_a_channel_that_was_only_projected_is_left_out_and_said_to_be(tmp_path, caplog):
    held = plates.fields()
    path = plates.native(tmp_path / "plate", held)
    for plane in path.glob("*/ZStep_*/*_w2*"):
        plane.unlink()
    with caplog.at_level(logging.WARNING):
        source = opened(path, "B/02/1")
    assert source.channels == ("DAPI",)
    assert (everything(source) == held["B/02/1"][:, :1]).all()
    assert "left out FITC, not recorded at all z" in caplog.text


def test_a_plane_that_an_export_repeats_is_no_stack(tmp_path):
    path = plates.exported(tmp_path / "plate", plates.fields())
    for z, file in itertools.product((1, 2, 3), path.glob("*/ZStep_0/*_w2.TIF")):
        shutil.copy(file, file.parents[1] / f"ZStep_{z}" / file.name)
    assert opened(path, "C/11/1").channels == ("DAPI",)


def test_a_frame_that_an_export_repeats_is_no_movie(tmp_path):
    path = plates.exported(tmp_path / "plate", plates.fields(shape=(3, 2, 1, 5, 6)))
    for file in path.glob("TimePoint_1/*_w2.TIF"):
        shutil.copy(file, path / "TimePoint_2" / file.name)
    assert opened(path, "C/11/1").channels == ("DAPI",)


def test_several_plates_in_a_folder_are_told_apart_or_refused(tmp_path):
    held = plates.fields(shape=(1, 1, 1, 5, 6))
    plates.exported(tmp_path, held, "first")
    plates.exported(tmp_path, {"D/05/1": held["B/02/1"]}, "second")
    assert "holds several plates: first.HTD, second.HTD" in refused(tmp_path, "B/02/1")
    assert listed(tmp_path / "first.HTD") == list(held)
    assert listed(tmp_path / "second.HTD") == ["D/05/1"]


def test_two_files_of_one_plane_are_named(tmp_path):
    path = plates.native(tmp_path / "plate", plates.fields(shape=(1, 1, 1, 5, 6)))
    file = next(path.glob("*_C11_s1*"))
    shutil.copy(file, path / f"my_plate_C11_s1{plates.guid()}.tif")
    assert "are both said to be time 1, channel 1, z 0 of field C/11/1" in refused(path, "C/11/1")


def test_a_sheet_without_planes_says_what_they_should_be_called(tmp_path):
    (tmp_path / "9987.HTD").write_text(plates.sheet(["DAPI"], sites=True, depth=1))
    assert "has a name such as 9987_B02_s1_w1.TIF" in refused(tmp_path, "B/02/1")


@pytest.mark.parametrize("z", [1, 3])
def test_a_damaged_plane_is_named_and_stops_no_other_field(tmp_path, z):
    path = plates.exported(tmp_path / "plate", plates.fields(shape=(1, 1, 3, 5, 6)))
    for file in path.glob("TimePoint_1/ZStep_0/*.TIF"):
        file.unlink()
    (path / "TimePoint_1" / f"ZStep_{z}" / "9987_B02_s1_w1.TIF").write_bytes(b"no TIFF")
    assert f"ZStep_{z}/9987_B02_s1_w1.TIF is no readable TIFF" in refused(path, "B/02/1")
    assert opened(path, "B/02/2").shape == (1, 3, 5, 6)


def test_only_the_planes_that_are_asked_for_are_read(tmp_path, monkeypatch):
    path = plates.exported(tmp_path / "plate", plates.fields())
    source = opened(path, "B/02/1")
    source.read(Box((0, 0, 0, 0, 0), (1, 1, 1, 2, 2)))
    read = []
    whole = formats_planes._plane
    monkeypatch.setattr(formats_planes, "_plane", lambda p: read.append(p) or whole(p))
    source.read(Box((1, 1, 2, 0, 0), (2, 2, 3, 2, 2)))
    asked = {p.relative_to(path).as_posix() for p in read}
    first = "TimePoint_1/ZStep_1/9987_B02_s1_w1.TIF"
    assert asked == {first, "TimePoint_2/ZStep_3/9987_B02_s1_w2.TIF"}


def test_a_hundred_thousand_files_are_listed_by_one_look_and_none_is_opened(tmp_path, monkeypatch):
    wells = [f"{row}{column:02d}" for row in "ABCDEFGHIJ" for column in range(1, 11)]
    for well, site, wave in itertools.product(wells, range(1, 101), range(1, 11)):
        (tmp_path / f"9987_{well}_s{site}_w{wave}.TIF").touch()
    (tmp_path / "9987.HTD").write_text(plates.sheet(map(str, range(10)), sites=True, depth=1))
    monkeypatch.setattr(tifffile, "TiffFile", lambda _: pytest.fail("a plane was opened"))
    form = formats.of(tmp_path)
    names = form.series(tmp_path)
    assert len(names) == 10_000
    monkeypatch.setattr(formats_planes.os, "scandir", lambda _: pytest.fail("looked again"))
    assert form.series(tmp_path) == names


def test_a_plate_that_grows_is_looked_at_anew(tmp_path):
    held = plates.fields(shape=(1, 1, 1, 5, 6))
    path = plates.exported(tmp_path / "plate", {"B/02/1": held["B/02/1"]})
    assert listed(path) == ["B/02/1"]
    plates.exported(path, {"C/11/2": held["C/11/2"]})
    assert listed(path) == ["B/02/1", "C/11/2"]


# --- CellVoyager --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    list(itertools.product((1, 3), (1, 2), (1, 3), (13,), (17,))),
    ids=lambda shape: "t{} c{} z{}".format(*shape),
)
def test_each_field_of_a_cellvoyager_has_its_own_planes(tmp_path, shape):
    held = plates.fields(shape=shape)
    path = plates.cellvoyager(tmp_path / "plate", held)
    assert listed(path) == listed(path / "MeasurementData.mlf") == list(held)
    for name, voxels in held.items():
        source = opened(path, name)
        assert (everything(source) == voxels).all()
        assert source.channels == plates.FILTERS[: shape[1]]
        assert source.voxel_size_um["x"] == source.voxel_size_um["y"] == 0.325
        assert source.voxel_size_um.get("z") == (plates.Z_STEP_UM if shape[2] > 1 else None)
        assert source.time_step_s == (plates.STEP_S if shape[0] > 1 else None)


@pytest.mark.parametrize(
    ("number", "name"), [(1, "A"), (26, "Z"), (27, "AA"), (32, "AF"), (52, "AZ"), (53, "BA")]
)
def test_rows_are_called_as_on_the_plate(number, name):
    assert formats_plates.row_name(number) == name


def test_a_missing_plane_of_a_cellvoyager_is_named(tmp_path):
    path = plates.cellvoyager(tmp_path / "plate", plates.fields())
    (path / "plate_C11_T0002F001L01A02Z03C02.tif").unlink()
    words = "field C/11/1 has no plane of time 2, channel BP525/50 (number 2), z 3"
    assert words in refused(path, "C/11/1")
    assert opened(path, "C/11/2").shape == (2, 2, 3, 13, 17)


def test_a_field_whose_focus_was_not_found_is_listed_and_named(tmp_path):
    held = plates.fields(shape=(1, 1, 1, 5, 6))
    path = plates.cellvoyager(tmp_path / "plate", held)
    text = (path / "MeasurementData.mlf").read_text().splitlines()
    failed = plates.record("H/12/1", 0, 0, 0, kind="ERR", file="AF failed")
    plates.write_records(path, [*text[2:-1], failed])
    assert listed(path) == [*held, "H/12/1"]
    assert "field H/12/1 has no plane of time 1" in refused(path, "H/12/1")


def test_a_stack_and_its_projection_of_one_channel_are_two_channels(tmp_path):
    held = plates.fields(shape=(1, 1, 1, 5, 6))
    path = plates.cellvoyager(tmp_path / "plate", held)
    lines = (path / "MeasurementData.mlf").read_text().splitlines()[2:-1]
    for name, voxels in held.items():
        file = f"other_{name.replace('/', '_')}.tif"
        tifffile.imwrite(path / file, voxels[0, 0, 0] // 2)
        lines.append(plates.record(name, 0, 0, 0, action=5, file=file))
    plates.write_records(path, lines)
    source = opened(path, "C/11/1")
    assert source.channels == ("BP445/45 action 1", "BP445/45 action 5")
    assert (everything(source)[0, 1, 0] == held["C/11/1"][0, 0, 0] // 2).all()


def test_without_its_sheets_a_cellvoyager_says_what_its_records_do(tmp_path):
    path = plates.cellvoyager(tmp_path / "plate", plates.fields())
    (path / "MeasurementDetail.mrf").unlink()
    header = formats.header(path, "B/02/1")
    assert header.channels == ("C01", "C02")
    assert header.voxel_size_um == {"z": plates.Z_STEP_UM}


@pytest.mark.parametrize("text", ["<a><b></a>", "<a/>", ""])
def test_records_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "MeasurementData.mlf").write_text(text)
    assert "MeasurementData.mlf" in refused(tmp_path, "B/02/1")


# --- OME-Zarr -----------------------------------------------------------------------------------


def ome_zarr(path, held, form):
    """A plate written by ome-zarr-py."""
    root = zarr.create_group(path, zarr_format=form.zarr_format)
    wells = {}
    for name in held:
        wells.setdefault(name.rpartition("/")[0], []).append(name.rpartition("/")[2])
    rows, columns = (sorted({well.split("/")[i] for well in wells}) for i in (0, 1))
    write_plate_metadata(root, rows, columns, list(wells), fmt=form)
    for well, inside in wells.items():
        write_well_metadata(root.require_group(well), inside, fmt=form)
    for name, voxels in held.items():
        write_image(
            voxels,
            root.require_group(name),
            scale_factors=[],
            axes="tczyx",
            fmt=form,
            scale={"t": 1.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.5},
            axes_units={"z": "micrometer", "y": "micrometer", "x": "micrometer"},
        )
    return path


@pytest.mark.parametrize("form", [FormatV04(), FormatV05()], ids=["0.4", "0.5"])
def test_each_field_of_an_ome_zarr_plate_has_its_voxels(tmp_path, form):
    held = plates.fields(["A/1/0", "A/1/1", "B/3/0"])
    path = ome_zarr(tmp_path / "plate.zarr", held, form)
    assert listed(path) == list(held)
    assert formats.is_plate(path)
    for name, voxels in held.items():
        source = opened(path, name)
        assert (everything(source) == voxels).all()
        assert source.voxel_size_um == {"z": 2.0, "y": 0.5, "x": 0.5}


def test_what_is_missing_of_an_ome_zarr_plate_is_named(tmp_path):
    path = ome_zarr(tmp_path / "plate.zarr", plates.fields(["A/1/0", "B/3/0"]), FormatV05())
    shutil.rmtree(path / "B" / "3" / "0")
    assert "the image B/3/0 is not there" in refused(path, "B/3/0")
    shutil.rmtree(path / "B")
    (path / "zarr.json").touch()
    assert "names the well B/3, which is not there" in refused(path, "A/1/0")


# --- what all have in common --------------------------------------------------------------------

WRITERS = {
    "exported": plates.exported,
    "native": plates.native,
    "cellvoyager": plates.cellvoyager,
    "ome_zarr": lambda path, held: ome_zarr(path, held, FormatV05()),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_field_is_made_again_only_where_its_own_files_changed(tmp_path, write):
    path = write(tmp_path / "plate", plates.fields())
    before = {name: readers.identity(opened(path, name)) for name in plates.NAMES}
    assert len(set(before.values())) == len(before)
    changed = plates.fields()
    changed["C/11/1"] = changed["C/11/1"] + 1
    shutil.rmtree(path)
    write(path, changed)
    after = {name: readers.identity(opened(path, name)) for name in plates.NAMES}
    same = {name for name in plates.NAMES if before[name] == after[name]}
    # GUIDs are new in every file that MetaXpress keeps, so there every field is another.
    assert same == (set() if write is plates.native else {*plates.NAMES} - {"C/11/1"})


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_field_becomes_a_volume(tmp_path, write):
    held = plates.fields()
    path = write(tmp_path / "plate", held)
    task = scenes.ingest_task(scenes.acquisition(path, series="C/11/2"))
    ingest.ingest(tmp_path / "made" / "volume.json", task, scenes.here)
    volume = volumes.open_volume(tmp_path / "made" / "volume.ome.zarr")
    assert volume.axes == "tczyx"
    assert (np.asarray(volumes.open_level(volume.store, 0)[:]) == held["C/11/2"]).all()


def test_inspect_tells_of_a_plate_as_a_whole_and_of_its_first_field(tmp_path):
    settings = scenes.ingest_task(scenes.acquisition("none")).ingest
    names = [f"{row}/{column:02d}/{site}" for row in "AB" for column in (1, 2) for site in (1, 2)]
    path = plates.exported(tmp_path / "plate", plates.fields([*names, "B/02/3"]))
    (path / "TimePoint_1" / "ZStep_1" / "9987_B01_s1_w1.TIF").unlink()
    told = inspect.inspect(str(path), settings).splitlines()
    assert told[0].endswith("ImageXpress plate, 9 images")
    assert told[1] == "  4 wells, A/01 to B/02; 9 fields, 2 to 3 in each well"
    assert "all 9 together become" in told[2]
    assert "1 of the fields lack planes" in told[3]
    assert "field B/01/1 has no plane of time 1" in told[3]
    assert told[5] == "A/01/1, the first, as all should be:"
    assert told[6].startswith("  holds    t 2 x c 2 x z 3 x y 13 x x 17, uint16, voxels of z 3 x")
    assert told[6].endswith("30 s between frames, channels DAPI, FITC")
    assert told[-1].endswith('series: "all"}}')


def test_inspect_tells_of_many_images_by_kind(tmp_path):
    settings = scenes.ingest_task(scenes.acquisition("none")).ingest
    root = zarr.create_group(tmp_path / "many.zarr")
    for number in range(20):
        sides = (4, 5) if number == 7 else (6, 7)
        root.create_array(f"{number:02d}", data=np.zeros(sides, np.uint8))
    told = inspect.inspect(str(tmp_path / "many.zarr"), settings).splitlines()
    assert "00 and 18 alike, to 19:" in told
    assert "07:" in told
    assert sum("holds" in line for line in told) == 2
