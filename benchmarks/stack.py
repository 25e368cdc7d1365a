"""A raw stack as a microscope leaves it, made plane by plane, and the pyramid that it must become.

Voxels are so near to cubes that every level halves all axes; the number of planes is odd.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage

from benchmarks import staging
from pipeline.simulate import ellipsoids

Voxels = npt.NDArray[np.uint16]
Sums = npt.NDArray[np.unsignedinteger[Any]]
Factors = tuple[int, ...]
VOXEL_UM = {"z": 0.5, "y": 0.4, "x": 0.4}
PLANES, QUICK_PLANES = 511, 127
SIDE_STEP = 64
BLOCK, DIAMETER_UM, CROWD = (32, 128, 128), 4.0, 6000
"""Objects of one block stand, shifted from layer to layer, all over the stack."""
BRIGHTEST = 2.0
"""Light at the middle of the field, in terms of that at its edge."""
MOST_FOR_32_BITS = 2**16
"""So many voxels of 16 bits have a sum of 32."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A raw file, and the folder that its levels are kept in once they were asked for."""

    file: Path
    shape: tuple[int, ...]
    kept: Path

    @property
    def megabytes(self) -> float:
        """Of its voxels."""
        return 2 * math.prod(self.shape) / 1e6

    def voxels(self) -> Voxels:
        """Level 0, mapped to memory."""
        return tifffile.memmap(self.file, mode="r")

    def exact(self, factors: Factors) -> Voxels:
        """Means of the blocks of so many voxels of level 0, rounded half up.

        A block that the end of the stack cuts short is the mean of the voxels it has.
        """
        return self._level("exact", factors)

    def stepwise(self, factors: Factors) -> Voxels:
        """The same where a level is the mean of means of the level below: other in cut blocks."""
        return self._level("stepwise", factors)

    def path(self, factors: Factors, kind: str = "exact") -> Path:
        """The file of these voxels: the stack's own, or one that `numpy.load` maps to memory."""
        if max(factors) == 1:
            return self.file
        exact, stepwise = (
            self.kept / f"{name}_{'_'.join(map(str, factors))}.npy"
            for name in ("exact", "stepwise")
        )
        if not exact.is_file():
            self.kept.mkdir(exist_ok=True)
            _write(self.voxels(), factors, exact, stepwise)
        return exact if kind == "exact" else stepwise

    def _level(self, kind: str, factors: Factors) -> Voxels:
        path = self.path(factors, kind)
        level: Voxels = self.voxels() if path == self.file else np.load(path, mmap_mode="r")
        return level


def sides(gigabytes: float, planes: int) -> tuple[int, int, int]:
    """Sides of a stack of so many GB, about."""
    side = SIDE_STEP * max(1, round(math.sqrt(gigabytes * 1e9 / 2 / planes) / SIDE_STEP))
    return planes, side, side


def made(folder: Path, shape: tuple[int, int, int], seed: int) -> Stack:
    """Write a stack as OME-TIFF (BigTIFF), uncompressed, a plane a page."""
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder / "stack.ome.tif", shape, folder / "levels")
    described: dict[str, Any] = {"axes": "ZYX"}
    for axis, size in VOXEL_UM.items():
        described |= {f"PhysicalSize{axis.upper()}": size}
        described |= {f"PhysicalSize{axis.upper()}Unit": "µm"}
    with tifffile.TiffWriter(stack.file, bigtiff=True, ome=True) as file:
        file.write(
            _planes(shape, np.random.default_rng(seed)),
            shape=shape,
            dtype=np.uint16,
            photometric="minisblack",
            metadata=described,
        )
    return stack


def _planes(shape: tuple[int, int, int], generator: np.random.Generator) -> Iterator[Voxels]:
    """Blurred objects, uneven light, shot noise, read noise, offset and gain of a camera."""
    optics = staging.OPTICS
    size = tuple(VOXEL_UM.values())
    labels = ellipsoids(BLOCK, size, DIAMETER_UM, math.prod(BLOCK) // CROWD, generator)
    bright = np.concatenate([[0.0], generator.uniform(0.6, 1.4, int(labels.max()))])
    sigma = [b / v for b, v in zip(optics.blur_um("zyx"), size, strict=True)]
    block = ndimage.gaussian_filter(bright[labels] * optics.photons, sigma, mode="wrap")
    block = (block + optics.background).astype(np.float32)
    across = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape[1:]]
    light = 1 + (BRIGHTEST - 1) * np.exp(-(across[0][:, np.newaxis] ** 2) - across[1] ** 2)
    tiles = [math.ceil(n / side) for n, side in zip(shape[1:], BLOCK[1:], strict=True)]
    for z in range(shape[0]):
        layer = np.roll(block[z % BLOCK[0]], 37 * (z // BLOCK[0]), axis=(0, 1))
        expected = np.tile(layer, tiles)[: shape[1], : shape[2]] * light
        electrons = generator.poisson(expected).astype(np.float32)
        electrons += optics.read_noise * generator.standard_normal(shape[1:], np.float32)
        counts = np.rint(optics.gain * electrons + optics.offset)
        yield np.clip(counts, 0, np.iinfo(np.uint16).max).astype(np.uint16)


def _write(voxels: Voxels, factors: Factors, exact: Path, stepwise: Path) -> None:
    """Write a level of either kind, so many planes at a time as one plane of it is made of."""
    shape = tuple(-(-n // f) for n, f in zip(voxels.shape, factors, strict=True))
    options: dict[str, Any] = {"mode": "w+", "dtype": np.uint16, "shape": shape}
    files = [np.lib.format.open_memmap(path, **options) for path in (exact, stepwise)]
    for z in range(shape[0]):
        block = voxels[z * factors[0] : (z + 1) * factors[0]]
        files[0][z : z + 1] = _rounded(block_sums(block, factors, "constant"), block.shape, factors)
        files[1][z : z + 1] = _rounded(block_sums(block, factors, "edge"), factors, factors)


def block_sums(voxels: Voxels, factors: Factors, beyond: Literal["constant", "edge"]) -> Sums:
    """Sums over blocks, by halving. What is beyond an odd end is 0, or the edge once more."""
    kind = np.uint32 if math.prod(factors) <= MOST_FOR_32_BITS else np.uint64
    sums: Sums = voxels
    for axis, factor in enumerate(factors):
        for _ in range(factor.bit_length() - 1):
            if sums.shape[axis] % 2:
                odd = [(0, int(i == axis)) for i in range(sums.ndim)]
                sums = np.pad(sums, odd, beyond)
            first, second = (
                tuple([slice(None)] * axis + [slice(start, None, 2)]) for start in (0, 1)
            )
            sums = np.add(sums[first], sums[second], dtype=kind)
    return sums


def _rounded(sums: Sums, shape: Sequence[int], factors: Factors) -> Voxels:
    """Means, rounded half up, where blocks of an array of this shape are cut short by its end."""
    counts = np.ones((), np.int64)
    for n, factor in zip(shape, factors, strict=True):
        has = np.minimum(n - np.arange(0, n, factor), factor)
        counts = counts[..., np.newaxis] * has
    return ((2 * sums.astype(np.int64) + counts) // (2 * counts)).astype(np.uint16)
