"""Sights: where crops lie in volumes, and what is seen there."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import annotations
from pipeline.crops import Crop, Images
from pipeline.tiles import Box
from pipeline.volumes import Volume

MOST_GROUND = 1024
"""Voxels along each side of the piece of image around a crop that is looked at as it is."""
SQUARE = 0.02
"""By how much the sides of a voxel may differ."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Where a crop lies: `space` in voxels of full resolution; `where` names it in errors."""

    where: str
    volume: Volume
    frame: int
    space: Box

    def crop(self, level: int, channel: str) -> Crop:
        """The crop at a level of its volume. Raises ValueError where it is none to learn from."""
        return Crop.of(self._image(level, self.space, channel), None, f"{self.where}.region")

    def ground(self, level: int, channel: str) -> Images:
        """The image around the crop at a level, of which nobody knows what it holds."""
        factors = self.volume.spatial(self.volume.levels[level].factors)
        sides = zip(self.space.start, self.space.stop, factors, strict=True)
        halves = tuple(max(0, (MOST_GROUND * f - (b - a)) // 2) for a, b, f in sides)
        whole = self.volume.spatial(self.volume.levels[0].shape)
        return self._image(level, self.space.grown(halves).clipped(whole), channel)

    def _image(self, level: int, space: Box, channel: str) -> Images:
        at, volume = self.volume.levels[level], self.volume
        box = space.coarsened(volume.spatial(at.factors)).clipped(volume.spatial(at.shape))
        return volume.normalised(level, box, self.frame, volume.channel(channel))


def sight(where: str, region: Mapping[str, tuple[int, int]], volume: Volume) -> Sight:
    """A crop of a volume. Raises ValueError where it is none to learn from."""
    shape = volume.levels[0].shape
    frame, space = place(where, region, volume.axes, shape, volume.voxel_size_um)
    return Sight(where, volume, frame, space)


def place(
    where: str,
    region: Mapping[str, tuple[int, int]],
    axes: str,
    shape: tuple[int, ...],
    voxel_size_um: Mapping[str, float],
) -> tuple[int, Box]:
    """The frame and the box of a crop in an acquisition with these axes and sides.

    Raises ValueError where it is of several frames, leaves the acquisition, or where points cannot
    be found in that: in depth, and where voxels are no squares.
    """
    if "z" in axes:
        raise ValueError(
            f"{where}: points are found in planes, and the acquisition has the axes {axes}. Where "
            "z is a series of planes that have nothing to do with each other, call it t in the "
            "acquisition's axes."
        )
    y, x = voxel_size_um["y"], voxel_size_um["x"]
    if abs(y / x - 1) > SQUARE:
        raise ValueError(
            f"{where}: voxels are {y:g} x {x:g} um, and points are found where they are squares. "
            "Check voxel_size_um of the acquisition."
        )
    sides = {axis: side for axis, side in zip(axes, shape, strict=True) if axis != "c"}
    spans = annotations.spans(where, region, sides)
    first, last = spans.get("t", (0, 1))
    if last - first > 1:
        raise ValueError(
            f"{where}.region has the frames {first} to {last - 1}: a crop is of one. Name it, such "
            f"as t: [{first}, {first + 1}]."
        )
    return first, Box((spans["y"][0], spans["x"][0]), (spans["y"][1], spans["x"][1]))
