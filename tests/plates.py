"""Plates as microscopes write them, file for file, with voxels of which no two are alike by chance.

A plate is given as the voxels (t, c, z, y, x) of each field, called ROW/COLUMN/SITE.
"""

import datetime
import itertools
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tifffile

CHANNELS = ("DAPI", "FITC", "Cy5")
BEGAN = datetime.datetime(2024, 7, 9, 13, 15, 50, 916000)
STEP_S, PIXEL_UM, CAMERA_PIXEL_UM, Z_STEP_UM = 30.0, 1.3672, 0.325, 3.0
NAMES = ("B/02/1", "B/02/2", "C/11/1", "C/11/2")
Fields = Mapping[str, np.ndarray]


def fields(names: Iterable[str] = NAMES, shape=(2, 2, 3, 13, 17)) -> dict[str, np.ndarray]:
    """Voxels of each field."""
    generator = np.random.default_rng(0)
    return {name: generator.integers(0, 2**16, shape, np.uint16) for name in names}


def metaseries(channel: str, t: int, z: int, kind: str = "plane") -> str:
    """What MetaXpress writes into a file of a plane, of a projection, or of its repetition."""
    recorded = BEGAN + datetime.timedelta(seconds=STEP_S * t)
    said = {
        "spatial-calibration-state": ("bool", "on"),
        "spatial-calibration-x": ("float", PIXEL_UM),
        "spatial-calibration-y": ("float", PIXEL_UM),
        "spatial-calibration-units": ("string", "um"),
        "z-position": ("float", 9988.88 + Z_STEP_UM * z),
        "acquisition-time-local": ("time", f"{recorded:%Y%m%d %H:%M:%S}.{recorded:%f}"[:-3]),
        "_IllumSetting_": ("string", channel),
    }
    if kind == "projection":
        said["Z Projection Method"] = ("string", "Maximum")
        said["Z Projection Step Size"] = ("float", Z_STEP_UM)
    elif z:
        said["Z Step"] = ("float", z)
    properties = "".join(
        f'<prop id="{key}" type="{form}" value="{value}"/>\n' for key, (form, value) in said.items()
    )
    return f"<MetaData>\n<PlaneInfo>\n{properties}</PlaneInfo>\n</MetaData>"


def write_plane(path: Path, plane: np.ndarray, description: str) -> None:
    """Write a file of MetaXpress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, plane, description=description, software="MetaSeries", metadata=None, rowsperstrip=4
    )


def sheet(channels: Iterable[str], *, sites: bool, depth: int) -> str:
    """A .HTD file, in which not all lines have the same number of values."""
    waves = list(channels)
    lines = [
        '"HTSInfoFile", Version 1.0',
        f'"TimePoints", 6\r\n"ZSeries", {str(depth > 1).upper()}\r\n"ZSteps", {depth}',
        *(f'"WellsSelection{row}", {", ".join(["FALSE"] * 12)}' for row in range(1, 9)),
        f'"Sites", {str(sites).upper()}',
        f'"NWavelengths", {len(waves)}',
        *(f'"WaveName{i}", "{name}"' for i, name in enumerate(waves, 1)),
        '"EndFile"',
    ]
    return "\r\n".join(lines)


def exported(folder: Path, held: Fields, plate: str = "9987") -> Path:
    """An export of MetaXpress: the .HTD file in each folder, projections in ZStep_0."""
    for name, voxels in held.items():
        row, column, site = name.split("/")
        for t, c in np.ndindex(voxels.shape[:2]):
            time = folder / f"TimePoint_{t + 1}"
            depth = voxels.shape[2]
            file = f"{plate}_{row}{column}_s{site}_w{c + 1}.TIF"
            for z in range(depth):
                inner = time / f"ZStep_{z + 1}" if depth > 1 else time
                said = metaseries(CHANNELS[c], t, z + 1 if depth > 1 else 0)
                write_plane(inner / file, voxels[t, c, z], said)
            if depth > 1:
                said = metaseries(CHANNELS[c], t, 2, "projection")
                write_plane(time / "ZStep_0" / file, voxels[t, c].max(axis=0), said)
    first = next(iter(held.values()))
    text = sheet(CHANNELS[: first.shape[1]], sites=True, depth=first.shape[2])
    for inner in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        (inner / f"{plate}.HTD").write_text(text)
    return folder


def native(folder: Path, held: Fields) -> Path:
    """What MetaXpress keeps: no .HTD, GUIDs, thumbnails; projections beside the folders of z."""
    for name, voxels in held.items():
        row, column, site = name.split("/")
        times, waves, depth = voxels.shape[:3]
        for t, c in itertools.product(range(times), range(waves)):
            time = folder / f"TimePoint_{t + 1}" if times > 1 else folder
            file = f"my_plate_{row}{column}_s{site}" + (f"_w{c + 1}" if waves > 1 else "")
            planes = [(time / f"ZStep_{z + 1}", voxels[t, c, z], z + 1) for z in range(depth)]
            if depth == 1:
                planes = [(time, voxels[t, c, 0], 0)]
            else:
                planes.append((time, voxels[t, c].max(axis=0), 0))
            for inner, plane, z in planes:
                is_beside = depth > 1 and z == 0
                said = metaseries(CHANNELS[c], t, z, "projection" if is_beside else "plane")
                write_plane(inner / f"{file}{guid()}.tif", plane, said)
                write_plane(inner / f"{file}_thumb{guid()}.tif", plane[:2, :2], said)
    return folder


def guid() -> str:
    """A GUID as the names of files have it."""
    return str(uuid.uuid4()).upper()


NAMESPACE = 'xmlns:bts="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
FILTERS = ("BP445/45", "BP525/50", "BP600/37")


def record(name: str, t: int, c: int, z: int, **said: object) -> str:
    """A line of MeasurementData.mlf; `file` is its text, `kind` IMG or ERR, `action` its number."""
    row, column, field = name.split("/")
    recorded = BEGAN + datetime.timedelta(seconds=STEP_S * t)
    action = said.get("action", c + 1)
    return (
        f'<bts:MeasurementRecord bts:Type="{said.get("kind", "IMG")}" '
        f'bts:Time="{recorded.isoformat(timespec="milliseconds")}+02:00" '
        f'bts:Column="{int(column)}" bts:Row="{ord(row) - 64}" bts:TimePoint="{t + 1}" '
        f'bts:FieldIndex="{field}" bts:ZIndex="{z + 1}" bts:TimelineIndex="1" '
        f'bts:ActionIndex="{action}" bts:Action="3D" bts:X="-567.1" bts:Y="402.9" '
        f'bts:Z="{Z_STEP_UM * z:.1f}" bts:Ch="{c + 1}">{said["file"]}</bts:MeasurementRecord>'
    )


def cellvoyager(folder: Path, held: Fields) -> Path:
    """A measurement of a CV8000, with files of the camera's corrections beside the images."""
    folder.mkdir(parents=True)
    lines = []
    for name, voxels in held.items():
        row, column, field = name.split("/")
        for t, c, z in np.ndindex(voxels.shape[:3]):
            file = (
                f"plate_{row}{column}_T{t + 1:04d}F{int(field):03d}L01A{c + 1:02d}"
                f"Z{z + 1:02d}C{c + 1:02d}.tif"
            )
            tifffile.imwrite(folder / file, voxels[t, c, z], compression="zlib")
            lines.append(record(name, t, c, z, file=file))
    tifffile.imwrite(folder / "DC_DCAM#1_CAM3.tif", np.zeros((3, 3), np.uint16))
    write_records(folder, lines)
    channels = range(1, next(iter(held.values())).shape[1] + 1)
    detail = "".join(
        f'<bts:MeasurementChannel bts:Ch="{c}" bts:HorizontalPixelDimension="{CAMERA_PIXEL_UM}" '
        f'bts:VerticalPixelDimension="{CAMERA_PIXEL_UM}" bts:CameraNumber="3" />'
        for c in channels
    )
    (folder / "MeasurementDetail.mrf").write_text(
        '\ufeff<?xml version="1.0" encoding="utf-8"?>\n<bts:MeasurementDetail bts:Version="1.0" '
        f'bts:MeasurementSettingFileName="mine.mes" {NAMESPACE}>{detail}</bts:MeasurementDetail>'
    )
    actions = "".join(
        f'<bts:ActionAcquire3D bts:SliceLength="{Z_STEP_UM:g}"><bts:Ch>{c}</bts:Ch>'
        "</bts:ActionAcquire3D>"
        for c in channels
    )
    described = "".join(
        f'<bts:Channel bts:Ch="{c}" bts:Target="405" bts:Acquisition="{FILTERS[c - 1]}" '
        'bts:Fluorophore="" />'
        for c in channels
    )
    (folder / "mine.mes").write_text(
        f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<bts:MeasurementSetting {NAMESPACE}>'
        f"<bts:ActionList>{actions}</bts:ActionList><bts:ChannelList>{described}"
        "</bts:ChannelList></bts:MeasurementSetting>"
    )
    return folder


def write_records(folder: Path, lines: Iterable[str]) -> None:
    """Write MeasurementData.mlf."""
    (folder / "MeasurementData.mlf").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<bts:MeasurementData {NAMESPACE}>\n'
        + "\n".join(lines)
        + "\n</bts:MeasurementData>"
    )
