"""Plates of Yokogawa's CellVoyager (CV7000, CV8000): MeasurementData.mlf says what each file is.

MeasurementDetail.mrf has the size of pixels, and names the .mes file, which has channels and z.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from pipeline import formats_plates
from pipeline.formats_plates import Maker, Plane, Plate, row_name

RECORDS, DETAIL = "MeasurementData.mlf", "MeasurementDetail.mrf"
BETWEEN_ACTIONS = 1000
"""Added to a channel's number, times its action's, where one channel is recorded by several."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image that was recorded, or was to be: then `file` is empty."""

    field: str
    time: int
    channel: int
    action: int
    z: int
    z_um: float
    recorded: str
    file: str


def is_plate(folder: Path) -> bool:
    """Whether a folder holds a plate."""
    return (folder / RECORDS).is_file()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attributes(element: ElementTree.Element) -> dict[str, str]:
    """Attributes by names without their name space, whose version differs."""
    return {_local(name): value for name, value in element.attrib.items()}


def _elements(path: Path, name: str) -> Iterator[ElementTree.Element]:
    """Elements of this name, whose content is forgotten after each.

    Raises ValueError where the file is no XML.
    """
    try:
        for _, element in ElementTree.iterparse(path):
            if _local(element.tag) == name:
                yield element
                element.clear()
    except (ElementTree.ParseError, OSError) as error:
        raise ValueError(f"{path} is no readable XML: {error}.") from error


def _records(path: Path) -> Iterator[Record]:
    for element in _elements(path, "MeasurementRecord"):
        said = _attributes(element)
        try:
            row, column, field = int(said["Row"]), int(said["Column"]), int(said["FieldIndex"])
            yield Record(
                f"{row_name(row)}/{column:02d}/{field}",
                int(said["TimePoint"]),
                int(said["Ch"]),
                int(said.get("ActionIndex", 1)),
                int(said["ZIndex"]),
                float(said.get("Z", 0)),
                said.get("Time", ""),
                (element.text or "").strip() if said.get("Type") == "IMG" else "",
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} has a record that does not say its {error}.") from error


def scan(path: Path) -> Plate:
    """List a plate by its records and one look into its folder."""
    records = path if path.is_file() else path / RECORDS
    folder = records.parent
    stamps = formats_plates.stamp(records, folder)
    with os.scandir(folder) as entries:
        there = {entry.name for entry in entries}
    found = list(_records(records))
    if not found:
        raise ValueError(f"{records} has no records of images: it is empty, or of another program.")
    several = _several(found)
    fields: dict[str, dict[Plane, str]] = {}
    for one in found:
        planes = fields.setdefault(one.field, {})
        if one.file in there:
            split = BETWEEN_ACTIONS * one.action if one.channel in several else 0
            plane = (one.time, one.channel + split, one.z)
            formats_plates.add(planes, plane, os.path.join(folder, one.file), one.field)
    detail = folder / DETAIL
    settings = _settings(detail)
    sheets = tuple(sheet for sheet in (detail, settings) if sheet is not None and sheet.is_file())
    return Plate(
        path=path,
        fields={name: fields[name] for name in sorted(fields, key=formats_plates.order)},
        names=_names({c for planes in fields.values() for _, c, _ in planes}, settings),
        sheets=sheets,
        stamps=stamps | formats_plates.stamp(*sheets),
        voxel_size_um=_voxel_size(detail, settings, found),
        time_step_s=_time_step(found),
    )


def _several(records: Sequence[Record]) -> set[int]:
    """Channels of which one plane is recorded twice: as a stack and as its projection, say."""
    counted = Counter((r.field, r.time, r.channel, r.z) for r in records if r.file)
    return {channel for (_, _, channel, _), count in counted.items() if count > 1}


def _settings(detail: Path) -> Path | None:
    """The .mes file, where the plate has one."""
    if not detail.is_file():
        return None
    for element in _elements(detail, "MeasurementDetail"):
        named = detail.parent / _attributes(element).get("MeasurementSettingFileName", "")
        return named if named.is_file() else None
    return None


def _names(channels: set[int], settings: Path | None) -> dict[int, str]:
    """Of each channel its dye or else its filter; its number where two have the same."""
    said = {}
    for element in _elements(settings, "Channel") if settings else ():
        channel = _attributes(element)
        said[int(channel["Ch"])] = channel.get("Fluorophore") or channel.get("Acquisition", "")
    named = {c: said.get(c % BETWEEN_ACTIONS, "") for c in channels}
    counted = Counter(said[c] for c in {c % BETWEEN_ACTIONS for c in channels} if c in said)
    unclear = {c for c, name in named.items() if not name or counted[name] > 1}
    named |= {c: f"C{c % BETWEEN_ACTIONS:02d}" for c in unclear}
    return {
        c: f"{name} action {c // BETWEEN_ACTIONS}" if c > BETWEEN_ACTIONS else name
        for c, name in sorted(named.items())
    }


def _voxel_size(detail: Path, settings: Path | None, records: Sequence[Record]) -> dict[str, float]:
    """Size of pixels and distance of planes in um, where the files say them."""
    voxel: dict[str, float] = {}
    for element in _elements(detail, "MeasurementChannel") if detail.is_file() else ():
        said = _attributes(element)
        for axis, key in (("y", "VerticalPixelDimension"), ("x", "HorizontalPixelDimension")):
            if float(said.get(key, 0)) > 0:
                voxel.setdefault(axis, float(said[key]))
    steps = {
        float(_attributes(element).get("SliceLength", 0))
        for element in (_elements(settings, "ActionAcquire3D") if settings else ())
    }
    heights = {r.z: r.z_um for r in records if r.field == records[0].field}
    first, last = min(heights), max(heights)
    if len(steps) == 1 and min(steps) > 0:
        return {"z": min(steps), **voxel}
    if heights[last] != heights[first]:
        return {"z": abs(heights[last] - heights[first]) / (last - first), **voxel}
    return voxel


def _time_step(records: Sequence[Record]) -> float | None:
    """Seconds between the frames of the first field, on the mean."""
    first = records[0]
    times = {
        r.time: r.recorded
        for r in records
        if (r.field, r.channel, r.z) == (first.field, first.channel, first.z)
    }
    begin, end = min(times), max(times)
    if begin == end or not (times[begin] and times[end]):
        return None
    passed = datetime.fromisoformat(times[end]) - datetime.fromisoformat(times[begin])
    return passed.total_seconds() / (end - begin)


CV8000 = formats_plates.form(
    Maker(
        "CellVoyager plate",
        (".mlf",),
        scan,
        names=lambda plate: plate.names,
        repeated=lambda _: frozenset(),
        sizes=lambda plate, *_: (dict(plate.voxel_size_um), plate.time_step_s),
    )
)
