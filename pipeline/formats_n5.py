"""N5 containers, read by tensorstore: what Fiji, BigDataViewer and their kin write.

N5 counts axes from the fastest on (x, y, z, ...); here they are turned round (..., z, y, x).
"""

import contextlib
import importlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.headers import Format, Header, Voxels, micrometres, number, readable, unnamed

ATTRIBUTES = "attributes.json"
HYPERSTACK = (("c", "numChannels"), ("z", "numSlices"), ("t", "numFrames"))
"""How ImageJ's exporter says what follows x and y."""
SPATIAL = ("transform", "pixelResolution", "resolution", "downsamplingFactors")
"""Attributes of one number for each of x, y, z."""
TRANSFORM = ("scale", "translate")
SPACE = ("z", "y", "x")


def is_n5(path: Path) -> bool:
    """Whether a folder is an N5 container, a group or a data set of one."""
    return (path / ATTRIBUTES).is_file()


def series(path: Path) -> list[str]:
    """Data sets, by their paths in the container; of a multiscale pyramid the finest alone."""
    found = sorted(_data_sets(path, ""))
    if not found:
        raise ValueError(f"{path} holds no image: no folder of this N5 tells `dimensions`.")
    return found


def _data_sets(path: Path, inside: str) -> Iterator[str]:
    if "dimensions" in _said(path / inside):
        yield inside or "array"
        return
    with os.scandir(path / inside) as entries:
        names = [entry.name for entry in entries if entry.is_dir()]
    levels = {name for name in names if re.fullmatch(r"s\d+", name)}
    for name in names:
        if name not in levels or "s0" not in levels or name == "s0":
            yield from _data_sets(path, f"{inside}/{name}".lstrip("/"))


def _said(folder: Path) -> dict[str, Any]:
    """Attributes of a group or a data set; empty where it has none."""
    file = folder / ATTRIBUTES
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no readable JSON: {error}.") from error


def _folder(path: Path, name: str) -> Path:
    return path if name == "array" and "dimensions" in _said(path) else path / name


def header(path: Path, name: str) -> Header:
    """What a data set says, and where it is silent, the groups that it lies in."""
    folder = _folder(path, name)
    groups = [one for one in folder.parents if one == path or path in one.parents]
    told: dict[str, Any] = {}
    for one in (*reversed(groups), folder):
        told |= _said(one)
    with _tensorstore(folder) as array:
        shape, dtype = tuple(array.shape)[::-1], np.dtype(array.dtype.numpy_dtype)
    voxel, position = _calibration(told)
    step = number(told.get("frameInterval")) if "numFrames" in told else None
    return Header(_axes(told, len(shape)), shape, dtype, (), voxel, step or None, (), position)


def _axes(told: Mapping[str, Any], count: int) -> str:
    """Letters of the axes, slowest first; "?" for what neither names nor numbers tell."""
    named = [str(axis).lower() for axis in told.get("axes", [])]
    if len(named) != count and "numChannels" in told:
        more = [axis for axis, key in HYPERSTACK if (number(told.get(key)) or 1) > 1]
        named = ["x", "y", *more] if len(more) + 2 == count else list("xyczt")
    if len(named) == count:
        return "".join(axis if axis and axis in "tczyx" else "?" for axis in reversed(named))
    spatial = [told.get(key) for key in SPATIAL]
    return (
        "zyx"
        if count == 3 and any(len(_values(said)) == 3 for said in spatial)
        else (unnamed(count))
    )


def _values(said: Any) -> list[Any]:
    """The numbers of an attribute: a list, one beside its unit, or that of the finest level."""
    if isinstance(said, dict):
        said = said.get("dimensions", said.get("scale"))
    held = said if isinstance(said, list) else []
    return held[0] if held and isinstance(held[0], list) else held


def _calibration(told: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Voxel size and place of the first voxel, by the first convention that is there."""
    transform = told.get("transform")
    if isinstance(transform, dict):
        axes, units = transform.get("axes", []), transform.get("units", [])
        scale, shift = (_measured(axes, transform.get(key), units) for key in TRANSFORM)
        return scale, shift
    if "pixelUnit" in told:
        sides = [told.get(key) for key in ("pixelWidth", "pixelHeight", "pixelDepth")]
        return _measured("xyz", sides, [told["pixelUnit"]] * 3), {}
    axes = told.get("axes", "xyz")
    said = told.get("pixelResolution", told.get("resolution"))
    unit = said.get("unit") if isinstance(said, dict) else None
    sizes = _measured(axes, _values(said), [unit] * len(axes) if unit else told.get("units", []))
    coarser = dict(zip(axes, _values(told.get("downsamplingFactors")), strict=False))
    return {axis: size * (number(coarser.get(axis)) or 1.0) for axis, size in sizes.items()}, {}


def _measured(axes: Sequence[Any], values: Any, units: Sequence[Any]) -> dict[str, float]:
    """Lengths in um of z, y, x."""
    pairs = zip(values or [], units, strict=False)
    held = {str(axis).lower(): pair for axis, pair in zip(axes, pairs, strict=False)}
    return micrometres({axis: pair for axis, pair in held.items() if axis in SPACE})


def _tensorstore(folder: Path) -> AbstractContextManager[Any]:
    tensorstore = importlib.import_module("tensorstore")
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": str(folder)}}

    def opened() -> AbstractContextManager[Any]:
        return contextlib.nullcontext(tensorstore.open(spec, read=True).result())

    return readable(folder, "N5 data set", (ValueError, OSError), opened)


class _Turned:
    """A data set with its axes turned round, of which only the blocks asked for are decoded."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape = array.T, tuple(array.shape)[::-1]

    def __getitem__(self, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        return np.asarray(self.array[slices].read().result())


@contextlib.contextmanager
def voxels(path: Path, name: str) -> Iterator[Voxels]:
    """A data set of the container."""
    with _tensorstore(_folder(path, name)) as array:
        yield _Turned(array)


N5 = Format("N5", (), "tensorstore", "n5", series, header, voxels)
