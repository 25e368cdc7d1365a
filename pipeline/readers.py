"""What a microscope wrote: what its file says, and what settings say where it is silent."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import formats, receipts
from pipeline.config import locate, watched
from pipeline.headers import Format, Header
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

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The voxels of `box`, in native byte order.

        Raises OSError where the file no longer holds them.
        """
        try:
            whole = self._cut(box)
        except DAMAGE as error:
            raise OSError(
                f"{self.path} cannot be read between {box.start} and {box.stop} ({self.axes}): "
                f"{error}. It is damaged, or was changed or moved while it was read: put it back "
                "whole and run again."
            ) from error
        return whole.astype(self.dtype, copy=False)

    def _cut(self, box: Box) -> npt.NDArray[Any]:
        wanted = dict(zip(self.axes, box.slices, strict=True))
        with formats.voxels(self.form, self.path, self.series) as array:
            pieces = []
            for channel in self.takes[wanted["c"]]:
                here = wanted | {"c": slice(channel, channel + 1)}
                cut = np.asarray(array[tuple(here.get(a, slice(0, 1)) for a in self.file_axes)])
                pieces.append(_ordered(cut, self.file_axes, self.axes))
        whole = np.concatenate(pieces, axis=self.axes.index("c"))
        if whole.shape != box.shape:
            raise ValueError(f"it holds no more than {array.shape} voxels now")
        return whole


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
    names, takes = channels_of(where, acquisition.channels, said.channels, sides.get("c", 1))
    sides["c"] = len(names)
    voxel = _voxel_size(where, acquisition.voxel_size_um, said.voxel_size_um, axes)
    step = said.time_step_s if acquisition.time_step_s == FROM_FILE else acquisition.time_step_s
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
        time_step_s=float(step) if step else None,
        file_axes=file_axes,
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
            f"are. Add the line `axes: ...` to it, such as `axes: zyx`."
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
