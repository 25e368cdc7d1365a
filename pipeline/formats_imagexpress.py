"""Plates of ImageXpress microscopes: a .HTD file, and TIFF planes in folders of times and z.

    NAME.HTD  [TimePoint_2/]  [ZStep_3/]  NAME_B02[_s1][_w1][GUID].TIF

MetaXpress keeps its own files without a .HTD and with a GUID in each name. Projections lie in
ZStep_0, or beside the folders of z. Exports repeat what was recorded once at every z and time.
"""

import contextlib
import csv
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import tifffile

from pipeline import formats_plates
from pipeline.formats_plates import Grid, Maker, Plane, Plate
from pipeline.formats_tiff import DAMAGE
from pipeline.headers import MICROMETRES, readable

SHEET = ".htd"
FOLDER = re.compile(r"(TimePoint|ZStep)_(\d+)", re.IGNORECASE)
GUID = r"[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}"
NAME = re.compile(
    r"(?P<plate>.+?)_(?P<row>(?-i:[A-Z]{1,2}))(?P<column>\d{2})"
    rf"(?:_s(?P<site>\d+))?(?:_w(?P<wave>\d+))?(?P<small>_thumb)?(?P<guid>{GUID})?\.tiff?",
    re.IGNORECASE,
)
Z_STEP, PROJECTED, RECORDED = "Z Step", "Z Projection Method", "acquisition-time-local"
STEP_UM, HEIGHT_UM = "Z Projection Step Size", "z-position"


def is_plate(folder: Path) -> bool:
    """Whether a folder holds a plate."""
    with os.scandir(folder) as entries:
        return any(
            FOLDER.fullmatch(entry.name)
            or entry.name.lower().endswith(SHEET)
            or ((named := NAME.fullmatch(entry.name)) and named["guid"])
            for entry in entries
        )


def scan(path: Path) -> Plate:
    """List a plate by one look into each of its folders."""
    folder, sheet = _sheet(path)
    fields: dict[str, dict[Plane, str]] = {}
    stamps = formats_plates.stamp(*([sheet] if sheet else []))
    plates = set()
    for time, z, inner in _folders(folder, 1, 0):
        stamps |= formats_plates.stamp(inner)
        with os.scandir(inner) as entries:
            files = [(named, e.path) for e in entries if (named := NAME.fullmatch(e.name))]
        for named, file in files:
            if named["small"] or (sheet and named["plate"].lower() != sheet.stem.lower()):
                continue
            plates.add(named["plate"])
            field = f"{named['row']}/{named['column']}/{int(named['site'] or 1)}"
            plane = (time, int(named["wave"] or 1), z)
            formats_plates.add(fields.setdefault(field, {}), plane, file, field)
    if not fields:
        raise ValueError(
            f"{path} holds no plane of an ImageXpress plate: no file in its folders has a name "
            f"such as {sheet.stem if sheet else 'NAME'}_B02_s1_w1.TIF."
        )
    if len(plates) > 1:
        raise ValueError(
            f"{path} holds files of several plates: {', '.join(sorted(plates))}. Give each a "
            "folder of its own."
        )
    names = _wave_names(sheet) if sheet else {}
    ordered = {field: fields[field] for field in sorted(fields, key=formats_plates.order)}
    return Plate(path, ordered, names, (sheet,) if sheet else (), stamps)


def _sheet(path: Path) -> tuple[Path, Path | None]:
    """The folder of a plate and its .HTD file, if it has one."""
    if path.is_file():
        return path.parent, path
    with os.scandir(path) as entries:
        sheets = sorted(entry.name for entry in entries if entry.name.lower().endswith(SHEET))
    if len(sheets) > 1:
        raise ValueError(
            f"{path} holds several plates: {', '.join(sheets)}. Give the path of one of these."
        )
    return path, path / sheets[0] if sheets else None


def _folders(folder: Path, time: int, z: int) -> Iterator[tuple[int, int, Path]]:
    """The folder and those of times and z below it, each with its time and z."""
    yield time, z, folder
    with os.scandir(folder) as entries:
        inner = [(named, e.path) for e in entries if (named := FOLDER.fullmatch(e.name))]
    for named, path in inner:
        if named[1].lower() == "timepoint":
            yield from _folders(Path(path), int(named[2]), z)
        else:
            yield from _folders(Path(path), time, int(named[2]))


def _wave_names(sheet: Path) -> dict[int, str]:
    """Names of the channels; none where two of them are the same."""
    content = sheet.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    said = {row[0]: row[1:] for row in csv.reader(text.splitlines(), skipinitialspace=True) if row}
    names = {
        int(key.removeprefix("WaveName")): values[0]
        for key, values in said.items()
        if re.fullmatch(r"WaveName\d+", key) and values and values[0]
    }
    return names if len(set(names.values())) == len(names) else {}


def _said(file: str | Path) -> dict[str, Any]:
    """What a file says of its plane; empty where it says nothing, as one does that was rewritten.

    Raises ValueError where it is damaged.
    """
    path = Path(file)
    with readable(path, "TIFF", DAMAGE, lambda: tifffile.TiffFile(path)) as tiff:
        return dict((tiff.metaseries_metadata or {}).get("PlaneInfo", {}))


def _firsts(plate: Plate) -> dict[int, dict[Plane, str]]:
    """Of each channel, the planes of the first field that has it."""
    found: dict[int, dict[Plane, str]] = {}
    for planes in plate.fields.values():
        for channel in {c for _, c, _ in planes} - found.keys():
            found[channel] = {
                plane: planes[plane] for plane in sorted(planes) if plane[1] == channel
            }
    return dict(sorted(found.items()))


def names(plate: Plate) -> Mapping[int, str]:
    """Names of the channels, from the .HTD file, else from a plane of each, else w1, w2."""
    firsts = _firsts(plate)
    if firsts.keys() <= plate.names.keys():
        return plate.names
    told = {c: _said(next(iter(planes.values()))) for c, planes in firsts.items()}
    named = {c: str(said.get("_IllumSetting_", "")) for c, said in told.items()}
    whole = all(named.values()) and len(set(named.values())) == len(named)
    return named if whole else {c: f"w{c}" for c in firsts}


def repeated(plate: Plate) -> frozenset[int]:
    """Channels that an export repeats, by what some planes of each say of themselves."""
    found = set()
    for channel, planes in _firsts(plate).items():
        # A damaged plane is named where its own field is opened, and stops no other.
        with contextlib.suppress(ValueError):
            found |= {channel} if _repeats(planes) else set()
    return frozenset(found)


def _repeats(planes: Mapping[Plane, str]) -> bool:
    """Whether the last z is no z of its own, or two neighbouring times were recorded at once."""
    last = max(z for *_, z in planes)
    if last > 1:
        said = _said(next(file for (*_, z), file in planes.items() if z == last))
        if PROJECTED in said or said.get(Z_STEP, last) != last:
            return True
    times = {t: file for (t, _, z), file in planes.items() if z == last}
    pairs = list(itertools.pairwise(times.values()))
    ends = [(_said(a).get(RECORDED), _said(b).get(RECORDED)) for a, b in {*pairs[:1], *pairs[-1:]}]
    return any(a is not None and a == b for a, b in ends)


def sizes(plate: Plate, grid: Grid, name: str) -> tuple[dict[str, float], float | None]:
    """What a field's first plane, the last of its stack and the last of its times say."""
    planes = plate.fields[name]
    times, (channel, *_), depth = grid.sides
    first = _said(planes[times[0], channel, depth[0]])
    unit = MICROMETRES.get(str(first.get("spatial-calibration-units", "")))
    voxel: dict[str, float] = {}
    if unit and first.get("spatial-calibration-state"):
        voxel = {axis: float(first[f"spatial-calibration-{axis}"]) * unit for axis in "yx"}
    if len(depth) > 1:
        last = _said(planes[times[0], channel, depth[-1]])
        beside = planes.get((times[0], channel, 0))
        step_um = _said(beside).get(STEP_UM) if beside else None
        if step_um is None and HEIGHT_UM in first and HEIGHT_UM in last:
            rise_um = float(last[HEIGHT_UM]) - float(first[HEIGHT_UM])
            step_um = round(abs(rise_um) / (len(depth) - 1), 3)
        voxel = {"z": float(step_um), **voxel} if step_um else voxel
    if len(times) == 1:
        return voxel, None
    began, ended = first.get(RECORDED), _said(planes[times[-1], channel, depth[0]]).get(RECORDED)
    if not (isinstance(began, datetime) and isinstance(ended, datetime) and began < ended):
        return voxel, None
    return voxel, (ended - began).total_seconds() / (len(times) - 1)


IMAGEXPRESS = formats_plates.form(
    Maker("ImageXpress plate", (SHEET,), scan, names, repeated, sizes)
)
