"""Inspect: what a file holds, what ingest would make of it, and what is missing. Writes nothing."""

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import copying, formats, readers
from pipeline.config import locate
from pipeline.headers import Header
from pipeline.readers import Source
from pipeline.sections import EVERY, FROM_FILE, Acquisition, Ingest

MANY = 12
"""Images of a file that are told of one by one at most."""


def inspect(path: str, settings: Ingest) -> str:
    """What to tell of each image in a file, a folder or a pattern; of many, of each kind.

    Raises ValueError where it cannot be read at all.
    """
    found = locate(path)
    form = formats.of(found)
    names = list(form.series(found))
    told = [f"{found}: {form.name}, {len(names)} image{'s' if len(names) > 1 else ''}"]
    if formats.is_plate(found):
        return "\n".join([*told, *_plate(path, found, names, settings)])
    if len(names) > MANY:
        return "\n".join([*told, *_kinds(path, found, names, settings)])
    for name in names:
        told += ["", f"{name}:"] if len(names) > 1 else []
        series = name if len(names) > 1 else ""
        told += [f"  {line}" for line in _image(path, found, name, settings, series)]
    return "\n".join(told)


def _plate(path: str, found: Path, names: Sequence[str], settings: Ingest) -> Iterator[str]:
    """Wells and fields, the size of the whole, and the first field in full."""
    wells = Counter(name.rpartition("/")[0] for name in names)
    fewest, most = min(wells.values()), max(wells.values())
    each = f"{fewest} to {most}" if fewest < most else f"{most}"
    first, *_, last = [*wells, *wells]
    yield f"  {len(wells)} wells, {first} to {last}; {len(names)} fields, {each} in each well"
    yield from _whole(path, names[0], len(names), settings)
    if lacking := _lacking(found, names):
        yield f"  lacks    {len(lacking)} of the fields lack planes: {lacking[0]}"
    yield from ("", f"{names[0]}, the first, as all should be:")
    for line in _image(path, found, names[0], settings, EVERY):
        yield f"  {line}"


def _lacking(found: Path, names: Sequence[str]) -> list[str]:
    """What is missing of fields, where names of files tell."""
    form = formats.of(found)
    faults = []
    for name in names if form in formats.PLATES else ():
        try:
            form.files(found, name)
        except ValueError as fault:
            faults.append(str(fault))
    return faults


def _kinds(path: str, found: Path, names: Sequence[str], settings: Ingest) -> Iterator[str]:
    """One image of each kind in full, and how many are alike."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        try:
            kind = repr(formats.header(found, name))
        except ValueError as fault:
            kind = str(fault)
        kinds.setdefault(kind, []).append(name)
    for alike in kinds.values():
        more = f" and {len(alike) - 1} alike, to {alike[-1]}" if len(alike) > 1 else ""
        yield from ("", f"{alike[0]}{more}:")
        yield from _whole(path, alike[0], len(alike), settings) if more else ()
        series = EVERY if len(kinds) == 1 else alike[0]
        for line in _image(path, found, alike[0], settings, series):
            yield f"  {line}"


def _whole(path: str, name: str, count: int, settings: Ingest) -> Iterator[str]:
    """The size of so many images like this one, where its file says enough to know."""
    with contextlib.suppress(ValueError):
        source = readers.source("NAME", _acquisition(path, name))
        _, _, size = _becomes(source, settings)
        yield f"  all {count} together become {count * size / 1e9:.3g} GB before compression"


def _acquisition(path: str, name: str) -> Acquisition:
    return Acquisition(
        path=path,
        series=name,
        axes=FROM_FILE,
        channels=FROM_FILE,
        voxel_size_um=FROM_FILE,
        time_step_s=FROM_FILE,
    )


def _becomes(source: Source, settings: Ingest) -> tuple[int, int, int]:
    """Levels, shards and bytes of the volume that ingest would make."""
    levels = copying.levels(source, settings)
    voxels = sum(math.prod(level.shape) for level in levels)
    shards = sum(level.shards for level in levels)
    return len(levels), shards, voxels * source.dtype.itemsize


def _image(path: str, found: Path, name: str, settings: Ingest, series: str) -> list[str]:
    """What an image holds and becomes, and its entry, in which `series` stands if it is needed."""
    try:
        said = formats.header(found, name)
    except ValueError as fault:
        return [str(fault)]
    lines = [f"holds    {_sides(said.axes, said.shape)}, {said.dtype}, {_meaning(said)}"]
    chosen = f", series: {json.dumps(series)}" if series else ""
    entry = f"acquisitions: {{NAME: {{path: {json.dumps(path)}{chosen}}}}}"
    try:
        source = readers.source("NAME", _acquisition(path, name))
    except ValueError as fault:
        return [*lines, f"lacks    {fault}", f"setting  {entry}"]
    levels, shards, size = _becomes(source, settings)
    becomes = (
        f"{_sides(source.axes, source.shape)}, channels {', '.join(source.channels)}, "
        f"{levels} levels, {shards} shards, {size / 1e9:.3g} GB before compression"
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
    taken = f", taken {said.acquired}" if said.acquired else ""
    told = f"voxels of {sizes} um" if sizes else "no voxel size"
    return f"{told}{step}{channels}{colours}{position}{taken}"
