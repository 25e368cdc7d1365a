"""What a microscope wrote: what its file says, and what settings say where it is silent."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import formats, receipts
from pipeline.config import locate, watched
from pipeline.headers import Format, Header
from pipeline.raw_planes import RawPlanes
from pipeline.sections import FROM_FILE, Acquisition, VoxelSize
from pipeline.tiles import Box

CANONICAL = "tczyx"
LARGEST_PLAUSIBLE_UM = 1e4
DAMAGE = (OSError, ValueError, LookupError, RuntimeError)
"""What libraries and their decoders raise on a file that is not whole."""


@dataclass(frozen=True, slots=True)
class Source:
    """A raw image as it will be ingested: axes in the order `t, c, z, y, x`, `c` always there.

    Attributes
    ----------
    axes, shape: of what `read` gives.
    form: name of the file's format.
    series: name of the image in the file.
    takes: the file's channel number for each of `channels`.
    file_axes: the file's own axes, in the file's order.
    colours: six hexadecimal digits or "" for each of `channels`; empty where none is told.
    position_um: of the first voxel's centre, for each spatial axis whose position is told.
    acquired: when, as `Header` has it; "" where the file does not tell.
    """

    path: Path
    form: str
    series: str
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    takes: tuple[int, ...]
    voxel_size_um: dict[str, float]
    time_step_s: float | None
    file_axes: str
    colours: tuple[str, ...] = ()
    position_um: dict[str, float] = field(default_factory=dict)
    acquired: str = ""

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The voxels of `box`, in native byte order.

        Raises OSError where the file no longer holds them.
        """
        with self.reading() as opened:
            return opened.read(box)

    @contextlib.contextmanager
    def reading(self) -> Iterator["Opened"]:
        """The file, open for several boxes. Raises OSError where it cannot be opened."""
        stack = contextlib.ExitStack()
        try:
            array = stack.enter_context(formats.voxels(self.form, self.path, self.series))
        except DAMAGE as error:
            raise self._unreadable("", error) from error
        # What goes wrong while it is open, such as a full disk, is not this file's fault: so it is
        # closed without being told.
        try:
            yield Opened(self, array)
        finally:
            stack.close()

    def _unreadable(self, where: str, error: Exception) -> OSError:
        return OSError(
            f"{self.path} cannot be read{where}: {error}. It is damaged, or was changed or moved "
            "while it was read: put it back whole and run again."
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """A raw image whose file is open.

    Attributes
    ----------
    room: memory that boxes are read into, one after the other.
    """

    source: Source
    array: Any
    room: list[npt.NDArray[Any]] = field(default_factory=list)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The voxels of `box`, in native byte order, until the next box is read.

        Raises OSError where the file no longer holds them.
        """
        try:
            whole = self._cut(box)
        except DAMAGE as error:
            between = f" between {box.start} and {box.stop} ({self.source.axes})"
            raise self.source._unreadable(between, error) from error
        return whole.astype(self.source.dtype, copy=False)

    @property
    def decoded_at_once(self) -> dict[str, int]:
        """Voxels along each axis that the file gives at the cost of one; empty where it is one."""
        chunks = getattr(self.array, "chunks", None) or ()
        sides = (side[0] if isinstance(side, tuple) else side for side in chunks)
        return dict(zip(self.source.file_axes, sides, strict=False))

    def _cut(self, box: Box) -> npt.NDArray[Any]:
        source = self.source
        wanted = dict(zip(source.axes, box.slices, strict=True))
        pieces, channels = [], source.takes[wanted["c"]]
        for channel in channels:
            here = wanted | {"c": slice(channel, channel + 1)}
            slices = tuple(here.get(axis, slice(0, 1)) for axis in source.file_axes)
            if isinstance(self.array, RawPlanes) and len(channels) == 1:
                cut = self._into_room(self.array, slices)
            else:
                cut = np.asarray(self.array[slices])
            pieces.append(_ordered(cut, source.file_axes, source.axes))
        at = source.axes.index("c")
        whole = np.concatenate(pieces, axis=at) if len(pieces) > 1 else pieces[0]
        if whole.shape != box.shape:
            raise ValueError(f"it holds no more than {self.array.shape} voxels now")
        return whole

    def _into_room(self, planes: RawPlanes, slices: tuple[slice, ...]) -> npt.NDArray[Any]:
        """A box that takes no memory beyond that of the largest before it: fresh memory is slow."""
        sides = tuple(len(range(side)[cut]) for side, cut in zip(planes.shape, slices, strict=True))
        if not self.room or self.room[0].size < math.prod(sides):
            self.room[:] = [np.empty(math.prod(sides), planes.dtype)]
        piece = self.room[0][: math.prod(sides)].reshape(sides)
        planes.read(slices, piece)
        return piece


def identity(source: Source) -> str:
    """Of what an image is read from: the raw file or folder, or those files of a plate."""
    files = formats.ALL[source.form].files(source.path, source.series)
    return receipts.file_fingerprint(watched(source.path), files)


def _ordered(cut: npt.NDArray[Any], file_axes: str, axes: str) -> npt.NDArray[Any]:
    """Bring axes into order; add those the file lacks, drop single ones that are not wanted."""
    present = [axis for axis in axes if axis in file_axes]
    extra = [axis for axis in file_axes if axis not in axes]
    cut = cut.transpose([file_axes.index(axis) for axis in [*present, *extra]])
    cut = cut.reshape(cut.shape[: len(present)])
    return np.expand_dims(cut, [i for i, axis in enumerate(axes) if axis not in present])


def opened(where: str, path: str, series: str) -> tuple[Path, Format, str, Header]:
    """Where the file of an entry of the settings is, its format, which image, what that says.

    Raises ValueError where it is missing, damaged or of an unknown format.
    """
    try:
        found = locate(path)
        form = formats.of(found)
        names = form.series(found)
    except ValueError as fault:
        raise ValueError(f"{where}.path: {fault}") from fault
    name = formats.chosen(where, found, names, series)
    try:
        return found, form, name, form.header(found, name)
    except ValueError as fault:
        raise ValueError(f"{where}.path: {fault}") from fault


def source(name: str, acquisition: Acquisition) -> Source:
    """Open an acquisition: what its file says, and where it is silent, what its settings say.

    Raises ValueError, with the line to add, where neither tells the axes, the voxel size or the
    channels, or where they contradict each other.
    """
    where = f"acquisitions.{name}"
    path, form, series, said = opened(where, acquisition.path, acquisition.series)
    file_axes = axes_of(where, acquisition.axes, said)
    sides = dict(zip(file_axes, said.shape, strict=True))
    axes = kept_axes(sides)
    count = sides.get("c", 1)
    names, takes = channels_of(where, acquisition.channels, said.channels, count)
    sides["c"] = len(names)
    voxel = _voxel_size(where, acquisition.voxel_size_um, said.voxel_size_um, axes)
    if said.dtype.kind not in "uif":
        raise ValueError(f"{where}.path: voxels of type {said.dtype} are no intensities.")
    return Source(
        path=path,
        form=form.name,
        series=series,
        axes=axes,
        shape=tuple(sides[axis] for axis in axes),
        dtype=said.dtype,
        channels=names,
        takes=takes,
        voxel_size_um=voxel,
        time_step_s=_time_step(acquisition.time_step_s, said.time_step_s),
        file_axes=file_axes,
        colours=tuple(said.colours[take] for take in takes) if len(said.colours) == count else (),
        position_um={axis: place for axis, place in said.position_um.items() if axis in axes},
        acquired=said.acquired,
    )


def kept_axes(sides: dict[str, int]) -> str:
    """The axes that matter, in order: c, y and x always, others where they are longer than one."""
    return "".join(a for a in CANONICAL if a in "cyx" or sides.get(a, 1) > 1)


def axes_of(where: str, setting: str, said: Header) -> str:
    """The file's axes, one letter each, from the setting or the file."""
    axes = said.axes if setting == FROM_FILE else setting
    if setting == FROM_FILE and "?" in axes:
        raise ValueError(
            f"{where}.axes: the file does not say what its {len(said.shape)} axes {said.shape} "
            f"are. Add the line `axes: ...` to it, such as `axes: {_likely(axes)}`."
        )
    if setting == FROM_FILE and "z" in axes and len({*axes} & {"y", "x"}) == 1:
        section = axes.replace("z", "y" if "x" in axes else "x")
        raise ValueError(
            f"{where}.axes: the file holds a section in depth, its axes are {axes}. Say that its "
            f"depth lies in the plane: add the line `axes: {section}` to it."
        )
    if len(axes) != len(said.shape) or len(set(axes)) != len(axes):
        raise ValueError(
            f"{where}.axes is {axes!r}, but the file has {len(said.shape)} axes, {said.shape}. "
            "Give one letter of t, c, z, y, x for each."
        )
    unknown = sorted(set(axes) - set(CANONICAL))
    if unknown or not {"y", "x"} <= set(axes):
        raise ValueError(
            f"{where}.axes is {axes!r}: each must be one of t, c, z, y, x, with y and x among them."
        )
    return axes


def _likely(axes: str) -> str:
    """Letters for all axes, of those that are still free where the file names some."""
    free = [axis for axis in "zct" if axis not in axes]
    if set(axes) == {"?"} and len(axes) <= len(CANONICAL):
        return CANONICAL[-len(axes) :]
    return "".join(free.pop(0) if axis == "?" and free else axis for axis in axes)


def channels_of(
    where: str, setting: str | tuple[str, ...], said: tuple[str, ...], count: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the channels to take, and their numbers in the file."""
    if setting == FROM_FILE:
        names = said if len(said) == count else tuple(f"channel_{i}" for i in range(count))
        return names, tuple(range(count))
    if len(said) == count and set(setting) <= set(said):
        return tuple(setting), tuple(said.index(name) for name in setting)
    if len(setting) == count and len(said) != count:
        return tuple(setting), tuple(range(count))
    held = f"({', '.join(said)}) " if said else ""
    raise ValueError(
        f"{where}.channels is {list(setting)}, but the file has {count} channels {held}of other "
        "names. Name some of them; or, where the file has no names, all."
    )


def _time_step(setting: str | float, said: float | None) -> float | None:
    """In seconds; a file that says 0, or less, or no number says nothing."""
    step = said if isinstance(setting, str) else setting
    return float(step) if step and 0 < step < math.inf else None


def _voxel_size(
    where: str, setting: str | VoxelSize, said: dict[str, float], axes: str
) -> dict[str, float]:
    space = [axis for axis in axes if axis in "zyx"]
    given = said if isinstance(setting, str) else setting.model_dump(exclude_none=True)
    example = ", ".join(f"{axis}: ..." for axis in space)
    missing = [axis for axis in space if axis not in given]
    if missing:
        raise ValueError(
            f"{where}.voxel_size_um: nothing says how large a voxel is along {', '.join(missing)}. "
            f"Add the line `voxel_size_um: {{{example}}}` to it."
        )
    absurd = {axis: given[axis] for axis in space if not 0 < given[axis] < LARGEST_PLAUSIBLE_UM}
    if absurd:
        raise ValueError(
            f"{where}.voxel_size_um: the file says {absurd} um, which no microscope records. "
            f"Add the line `voxel_size_um: {{{example}}}` to it."
        )
    return {axis: given[axis] for axis in space}
