"""All other formats, each by a plugin of bioio that someone installed for it."""

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.headers import COLOURS, Format, Header, Voxels, coloured, micrometres, readable

UNNAMED = re.compile(r"Channel:\d+(:\d+)?")
"""How bioio calls a channel that has no name."""


def reads(path: Path) -> bool:
    """Whether bioio is installed, with a plugin for files of this ending."""
    if importlib.util.find_spec("bioio") is None:
        return False
    plugins: Mapping[str, Any] = importlib.import_module("bioio.plugins").get_plugins(True)
    return path.name.lower().endswith(tuple(plugins))


def _image(path: Path, name: str = "") -> AbstractContextManager[Any]:
    """The file, at the scene of this name."""
    bioio = importlib.import_module("bioio")

    def opened() -> AbstractContextManager[Any]:
        try:
            image = bioio.BioImage(path, use_plugin_cache=True)
            if name:
                image.set_scene(_names(image).index(name))
            return contextlib.nullcontext(image)
        except Exception as error:
            # A plugin raises what it likes, and says more than one sentence.
            raise ValueError(str(error).partition(". ")[0] or type(error).__name__) from error

    return readable(path, "image for bioio", (Exception,), opened)


def _names(image: Any) -> list[str]:
    names = [str(scene) for scene in image.scenes]
    return names if len(set(names)) == len(names) else [str(i) for i in range(len(names))]


def series(path: Path) -> list[str]:
    """Scenes; numbers where they share a name."""
    with _image(path) as image:
        return _names(image)


def header(path: Path, name: str) -> Header:
    """What bioio says of a scene."""
    with _image(path, name) as image:
        data = image.reader.xarray_dask_data
        sides = dict(zip((str(axis).lower() for axis in data.dims), data.shape, strict=True))
        names = tuple(str(channel) for channel in image.channel_names or ())
        names = () if all(map(UNNAMED.fullmatch, names)) else names
        if "s" in sides:
            if (count := sides.pop("c", 1)) > 1:
                raise ValueError(coloured(path, count))
            sides = {("c" if axis == "s" else axis): side for axis, side in sides.items()}
            names = COLOURS[: sides["c"]]
        step = image.time_interval
        return Header(
            "".join(axis if axis in "tczyx" else "?" for axis in sides),
            tuple(sides.values()),
            np.dtype(data.dtype).newbyteorder("="),
            names,
            _sizes(image),
            getattr(step, "total_seconds", lambda: step)() or None,
        )


def _sizes(image: Any) -> dict[str, float]:
    """Voxel size in um, of those sides whose unit the plugin tells: not all do."""
    sides, properties = image.physical_pixel_sizes, image.dimension_properties
    return micrometres(
        {a.lower(): (getattr(sides, a), getattr(properties, a).unit) for a in ("Z", "Y", "X")}
    )


@contextlib.contextmanager
def voxels(path: Path, name: str) -> Iterator[Voxels]:
    """A scene, of which a plugin decodes what it must for the box that is asked."""
    with _image(path, name) as image:
        data = image.reader.xarray_dask_data
        single = [axis for axis in data.dims if axis == "C" and "S" in data.dims]
        yield data.squeeze(single).data


BIOIO = Format("image of bioio's plugins", (), "bioio", "bioio", series, header, voxels)
