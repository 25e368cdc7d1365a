"""Inspect: what a file holds, what ingest would make of it, and what is missing. Writes nothing."""

import json
import math
from pathlib import Path

from pipeline import formats, readers
from pipeline.config import locate
from pipeline.headers import Header
from pipeline.sections import FROM_FILE, Acquisition, Ingest
from pipeline.tiles import pyramid


def inspect(path: str, settings: Ingest) -> str:
    """What to tell of each image in a file, a folder or a pattern.

    Raises ValueError where it cannot be read at all.
    """
    found = locate(path)
    form = formats.of(found)
    names = list(form.series(found))
    told = [f"{found}: {form.name}, {len(names)} image{'s' if len(names) > 1 else ''}"]
    for name in names:
        told += ["", f"{name}:"] if len(names) > 1 else []
        told += [f"  {line}" for line in _image(path, found, name, settings, len(names) > 1)]
    return "\n".join(told)


def _image(path: str, found: Path, name: str, settings: Ingest, named: bool) -> list[str]:
    try:
        said = formats.header(found, name)
    except ValueError as fault:
        return [str(fault)]
    acquisition = Acquisition(
        path=path,
        series=name,
        axes=FROM_FILE,
        channels=FROM_FILE,
        voxel_size_um=FROM_FILE,
        time_step_s=FROM_FILE,
    )
    lines = [f"holds    {_sides(said.axes, said.shape)}, {said.dtype}, {_meaning(said)}"]
    series = f", series: {json.dumps(name)}" if named else ""
    entry = f"acquisitions: {{NAME: {{path: {json.dumps(path)}{series}}}}}"
    try:
        source = readers.source("NAME", acquisition)
    except ValueError as fault:
        return [*lines, f"lacks    {fault}", f"setting  {entry}"]
    levels = pyramid(
        source.axes,
        source.shape,
        source.voxel_size_um,
        settings.chunk_voxels.of(source.axes),
        settings.shard_voxels.of(source.axes),
        settings.smallest_level_voxels,
        settings.shard_frames.of(source.axes),
    )
    voxels = sum(math.prod(level.shape) for level in levels)
    files = sum(level.shards for level in levels)
    becomes = (
        f"{_sides(source.axes, source.shape)}, channels {', '.join(source.channels)}, "
        f"{len(levels)} levels, {files} shards, "
        f"{voxels * source.dtype.itemsize / 1e9:.3g} GB before compression"
    )
    return [*lines, f"becomes  {becomes}", f"setting  {entry}"]


def _sides(axes: str, shape: tuple[int, ...]) -> str:
    return " x ".join(f"{axis} {side}" for axis, side in zip(axes, shape, strict=True))


def _meaning(said: Header) -> str:
    sizes = " x ".join(f"{axis} {size:.4g}" for axis, size in said.voxel_size_um.items())
    step = f", {said.time_step_s:.4g} s between frames" if said.time_step_s else ""
    channels = f", channels {', '.join(said.channels)}" if said.channels else ""
    colours = f", colours {', '.join(c or 'none' for c in said.colours)}" if said.colours else ""
    place = " x ".join(f"{axis} {at:.7g}" for axis, at in said.position_um.items())
    position = f", first voxel at {place} um" if place else ""
    told = f"voxels of {sizes} um" if sizes else "no voxel size"
    return f"{told}{step}{channels}{colours}{position}"
