"""Arrays in containers: OME-Zarr and plain Zarr, HDF5, MRC."""

import contextlib
import functools
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.headers import (
    SECONDS,
    Format,
    Header,
    Voxels,
    colour,
    micrometres,
    number,
    readable,
    told,
    unnamed,
)

ANGSTROM_UM = 1e-4
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")
BROKEN = (OSError, LookupError, TypeError, ValueError)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in ZARR_FILES)


def _node(path: Path) -> Any:
    try:
        return zarr.open(path, mode="r")
    except BROKEN as error:
        raise ValueError(f"{path} is no readable Zarr: {error}.") from error


def _ome(node: Any) -> dict[str, Any]:
    """What a group says by the rules of OME-Zarr, 0.5 or older."""
    said = dict(node.attrs)
    return dict(said.get("ome", said))


def _multiscales(node: Any) -> list[dict[str, Any]]:
    return list(_ome(node).get("multiscales", []))


def is_plate(path: Path) -> bool:
    """Whether a folder is an OME-Zarr plate."""
    node = _node(path)
    return isinstance(node, zarr.Group) and bool(_ome(node).get("plate"))


def _stamp(path: Path) -> int:
    """When what a group says was changed last, in ns."""
    files = [path / name for name in (*ZARR_FILES, ".zattrs")]
    return max(file.stat().st_mtime_ns for file in files if file.is_file())


@functools.lru_cache(maxsize=4)
def _fields(path: Path, _stamp: int) -> tuple[str, ...]:
    """Images of a plate, ROW/COLUMN/FIELD; kept, since a plate has a file for each of its wells."""
    plate = _node(path)
    found: list[str] = []
    for well in _ome(plate)["plate"].get("wells", []):
        try:
            images = _ome(plate[well["path"]])["well"]["images"]
        except (LookupError, TypeError) as error:
            raise ValueError(
                f"{path}: the plate names the well {well['path']}, which is not there or says "
                "nothing of its fields."
            ) from error
        found += [f"{well['path']}/{image['path']}" for image in images]
    if not found:
        raise ValueError(f"{path} is a plate without fields.")
    return tuple(found)


def zarr_files(path: Path, name: str) -> list[Path]:
    """Files of one field of a plate."""
    if not is_plate(path):
        return []
    return sorted(file for file in (path / name).rglob("*") if file.is_file())


def zarr_series(path: Path) -> list[str]:
    """Images of a group; of a plate, its fields; of a plain group, its arrays."""
    node = _node(path)
    if isinstance(node, zarr.Array):
        return ["array"]
    if _ome(node).get("plate"):
        return list(_fields(path, _stamp(path)))
    if _multiscales(node):
        return ["image"]
    found = sorted(name for name, _ in node.arrays())
    found += [name for name, group in node.groups() if _multiscales(group)]
    if not found:
        raise ValueError(f"{path} holds no image: neither an array nor OME-Zarr multiscales.")
    return found


def _zarr_image(path: Path, name: str) -> tuple[Any, Any]:
    """The group of an image, None for a plain array; and its finest array."""
    node = _node(path)
    if isinstance(node, zarr.Array):
        return None, node
    if not _multiscales(node):
        node = node[name]
        if isinstance(node, zarr.Array):
            return None, node
    return node, node[_multiscales(node)[0]["datasets"][0]["path"]]


def zarr_header(path: Path, name: str) -> Header:
    """What OME-Zarr metadata, else the array's own, say of an image."""
    try:
        group, array = _zarr_image(path, name)
    except (LookupError, TypeError) as error:
        raise ValueError(
            f"{path}: the image {name} is not there, or its multiscales name an array that is not."
        ) from error
    dtype = np.dtype(array.dtype).newbyteorder("=")
    if group is None:
        named = getattr(array.metadata, "dimension_names", None) or ()
        axes = "".join(str(n).lower() if str(n).lower() in "tczyx" else "?" for n in named)
        return Header(axes or unnamed(array.ndim), array.shape, dtype, (), {}, None)
    said = _multiscales(group)[0]
    axes, units = _axes(said.get("axes", []))
    try:
        scale, shift = _transformed(said, len(axes))
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: the scale or the translation of its multiscales has not one number for "
            f"each of the axes {axes}."
        ) from error
    step = number(scale[axes.index("t")]) if "t" in axes and scale else None
    seconds = SECONDS.get(units.get("t", ""))
    channels = _ome(group).get("omero", {}).get("channels", [])
    names = tuple(str(channel.get("label", "")) for channel in channels)
    return Header(
        axes,
        array.shape,
        dtype,
        names if all(names) else (),
        micrometres(
            {a: (scale[axes.index(a)], units.get(a)) for a in "zyx" if a in axes and scale}
        ),
        step * seconds if step and seconds else None,
        told([colour(channel.get("color")) for channel in channels]),
        micrometres(
            {a: (shift[axes.index(a)], units.get(a)) for a in "zyx" if a in axes and shift}
        ),
    )


def _axes(said: Sequence[Any]) -> tuple[str, dict[str, str]]:
    """Letters of the axes, and the units of those that have one."""
    named = [axis if isinstance(axis, dict) else {"name": axis} for axis in said]
    letters = "".join(str(axis["name"]).lower()[:1] for axis in named)
    return letters or "tczyx", {
        str(axis["name"]).lower(): str(axis.get("unit", "")) for axis in named
    }


def _transformed(said: Mapping[str, Any], count: int) -> tuple[list[float], list[float]]:
    """Scale and translation of the finest level, through those of the whole image.

    Each is empty where there is none. Raises ValueError where one has not `count` numbers.
    """
    scale: list[float] = []
    shift: list[float] = []
    for block in (said["datasets"][0], said):
        for step in block.get("coordinateTransformations", []):
            if step["type"] == "scale":
                by = [float(value) for value in step["scale"]]
                scale = [a * b for a, b in zip(scale or [1.0] * count, by, strict=True)]
                shift = [a * b for a, b in zip(shift, by, strict=True)] if shift else []
            elif step["type"] == "translation":
                by = [float(value) for value in step["translation"]]
                shift = [a + b for a, b in zip(shift or [0.0] * count, by, strict=True)]
    return scale, shift


@contextlib.contextmanager
def zarr_voxels(path: Path, name: str) -> Iterator[Voxels]:
    """An image of the store."""
    yield _zarr_image(path, name)[1]


def _hdf5(path: Path) -> AbstractContextManager[Any]:
    h5py = importlib.import_module("h5py")
    return readable(path, "HDF5 file", (OSError,), lambda: h5py.File(path, "r"))


def hdf5_series(path: Path) -> list[str]:
    """Paths of the data sets that can be images."""
    found: list[str] = []
    with _hdf5(path) as file:
        file.visititems(
            lambda name, node: (
                found.append(name) if hasattr(node, "shape") and len(node.shape) >= 2 else None
            )
        )
    if not found:
        raise ValueError(f"{path} holds no image: no data set has two axes or more.")
    return found


def hdf5_header(path: Path, name: str) -> Header:
    """What a data set says; ilastik's `element_size_um` is taken for its voxel size."""
    with _hdf5(path) as file:
        data = file[name]
        labels = [dimension.label.lower() for dimension in data.dims]
        axes = "".join(label if label and label in "tczyx" else "?" for label in labels)
        axes = unnamed(data.ndim) if set(axes) == {"?"} else axes
        sizes = np.ravel(data.attrs.get("element_size_um", ()))
        space = "zyx"[-len(sizes) :] if len(sizes) in (2, 3) else ""
        voxel = micrometres({a: (size, "um") for a, size in zip(space, sizes, strict=False)})
        dtype = np.dtype(data.dtype).newbyteorder("=")
        return Header(axes, tuple(data.shape), dtype, (), voxel, None)


@contextlib.contextmanager
def hdf5_voxels(path: Path, name: str) -> Iterator[Voxels]:
    """A data set of the file."""
    with _hdf5(path) as file:
        yield file[name]


def _mrc(path: Path) -> AbstractContextManager[Any]:
    mrcfile = importlib.import_module("mrcfile")
    open_ = mrcfile.mmap if path.suffix.lower() not in (".gz", ".bz2") else mrcfile.open
    return readable(path, "MRC file", (OSError, ValueError), lambda: open_(path, mode="r"))


def mrc_series(_: Path) -> list[str]:
    """An MRC file holds one image."""
    return ["image"]


def mrc_header(path: Path, _: str) -> Header:
    """What the file says: its voxel size is in Ångström, and 0 where it is not known."""
    with _mrc(path) as file:
        axes = {2: "yx", 3: "?yx" if file.is_image_stack() else "zyx", 4: "?zyx"}[file.data.ndim]
        sizes = {axis: float(file.voxel_size[axis]) * ANGSTROM_UM for axis in "zyx"}
        voxel = {axis: size for axis, size in sizes.items() if size > 0 and axis in axes}
        dtype = np.dtype(file.data.dtype).newbyteorder("=")
        return Header(axes, tuple(file.data.shape), dtype, (), voxel, None)


@contextlib.contextmanager
def mrc_voxels(path: Path, _: str) -> Iterator[Voxels]:
    """The image of the file, mapped to memory where it is not compressed."""
    with _mrc(path) as file:
        yield file.data


ZARR = Format("OME-Zarr or Zarr", (), "zarr", "", zarr_series, zarr_header, zarr_voxels, zarr_files)
HDF5 = Format("HDF5", (".h5", ".hdf5"), "h5py", "", hdf5_series, hdf5_header, hdf5_voxels)
MRC = Format(
    "MRC",
    (".mrc", ".map", ".rec", ".mrcs", ".map.gz", ".map.bz2", ".mrc.gz", ".mrc.bz2"),
    "mrcfile",
    "mrc",
    mrc_series,
    mrc_header,
    mrc_voxels,
)
