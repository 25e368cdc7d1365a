"""What a volume's intensities are like: measured shard by shard, then for a channel as a whole."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

KEPT_BITS = 18
"""Of a float's 32 bits, the lowest that a bin of the histogram leaves out: bins are a 32nd wide."""
COUNTED = 2**20
"""Voxels of a shard that its histogram counts at most: every n-th along y and x."""
BLOCKS, BLOCK_VOXELS = 8, 256
"""In how many planes of a shard sharpness is measured, and the side of the block in its middle."""
LAG = 2
"""Distance in voxels at which sharpness compares neighbours."""
CORNER = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def measure(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Facts about one shard of one channel, whose last two axes are `yx`, ready for JSON.

    `planes`: mean intensity of each plane. `at_maximum`: voxels that have the highest intensity.
    `histogram`: bins that hold voxels, and how many, of a regular sample of the voxels. `blocks`:
    for some planes, their number and what `sharpness` gives in the middle of them.
    """
    planes = values.reshape(-1, *values.shape[-2:])
    step = max(1, math.ceil(math.sqrt(planes.size / COUNTED)))
    bins = _bins(planes[:, ::step, ::step]).ravel()
    lowest = int(bins.min())
    counts = np.bincount(bins - lowest)
    [held] = np.nonzero(counts)
    middle = tuple(
        slice((side - min(side, BLOCK_VOXELS)) // 2, (side + min(side, BLOCK_VOXELS)) // 2)
        for side in planes.shape[1:]
    )
    chosen = range(0, len(planes), math.ceil(len(planes) / BLOCKS))
    return {
        **_extent(planes),
        "histogram": [(held + lowest).tolist(), counts[held].tolist()],
        "blocks": [[n, *sharpness(planes[n][middle])] for n in chosen],
    }


def _extent(planes: npt.NDArray[Any]) -> dict[str, Any]:
    """Plane by plane, each looked at while it is in the cache."""
    # Sums of whole numbers of up to 32 bits are exact in 64, and quick.
    exact = planes.dtype.kind in "ui" and planes.dtype.itemsize <= 4
    dtype = np.int64 if exact else np.float64
    lowest, highest, counts, sums = [], [], [], []
    for plane in planes:
        lowest.append(plane.min())
        highest.append(plane.max())
        counts.append(int(np.count_nonzero(plane == highest[-1])))
        sums.append(float(plane.sum(dtype=dtype)))
    maximum = max(highest)
    return {
        "minimum": float(min(lowest)),
        "maximum": float(maximum),
        "at_maximum": sum(n for n, top in zip(counts, highest, strict=True) if top == maximum),
        "planes": [total / math.prod(planes.shape[1:]) for total in sums],
    }


def sharpness(block: npt.NDArray[Any]) -> tuple[float, float, float | None]:
    """Noise, signal-to-noise ratio and focus of a plane.

    Noise: standard deviation, from second differences along both axes, which smooth structures do
    not have (J. Immerkaer, Computer Vision and Image Understanding 64, 300, 1996). Signal: standard
    deviation of what is not noise. Focus: how much of the signal's variance changes within two
    voxels, 1 minus its autocorrelation there (D. Vollath, Journal of Microscopy 147, 279, 1987); a
    blurred plane has little. None where the noise hides it, or the plane is too small.
    """
    image = np.asarray(block, np.float64)
    if min(image.shape) < 2 * LAG + 1:
        return 0.0, 0.0, None
    corner = sum(
        weight * image[y : y + image.shape[0] - 2, x : x + image.shape[1] - 2]
        for (y, x), weight in np.ndenumerate(CORNER)
    )
    noise = math.sqrt(math.pi / 2) / 6 * float(np.abs(corner).mean())
    signal = float(image.var()) - noise**2
    if signal <= 0:
        return noise, 0.0, None
    ratio = math.sqrt(signal) / noise if noise else math.inf
    ratio = min(ratio, 1e6)  # JSON knows no infinity
    change = [
        float(np.square(image[LAG:] - image[:-LAG]).mean()),
        float(np.square(image[:, LAG:] - image[:, :-LAG]).mean()),
    ]
    focus = (sum(change) / 4 - noise**2) / signal
    return noise, ratio, max(0.0, focus) if ratio >= 1 else None


def _bins(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Numbers of bins that grow with the values: their leading bits as floats."""
    zero = np.float32(0)  # added, it makes one zero of two
    bits = (np.ascontiguousarray(values, np.float32) + zero).view(np.int32) >> KEPT_BITS
    return _turned(bits)


def _turned(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Negative numbers in the other order; turned twice, they are what they were.

    As floats have them, their bits grow with their size.
    """
    return np.where(bits < 0, np.int32(-(2 ** (31 - KEPT_BITS))) - bits - 1, bits)


def edges(bins: Iterable[int]) -> Floats:
    """The value of least magnitude in each bin; whole numbers up to 64 have bins of their own."""
    bits = _turned(np.array(list(bins), np.int32))
    return (bits << KEPT_BITS).astype(np.int32).view(np.float32).astype(np.float64)


@dataclass
class Channel:
    """One channel of a volume, of whose shards the facts are added up. It grows.

    Attributes
    ----------
    planes: sum over the shards of each plane, of mean intensity times voxels; and their voxels.
    blocks: noise, signal-to-noise ratio and focus, where they were measured, by (shard, plane).
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    at_maximum: int = 0
    histogram: dict[int, int] = field(default_factory=dict)
    planes: dict[tuple[int, ...], tuple[float, int]] = field(default_factory=dict)
    blocks: list[tuple[float, float, float | None]] = field(default_factory=list)

    def add(
        self, facts: Mapping[str, Any], planes: Iterable[tuple[int, ...]], plane_voxels: int
    ) -> None:
        """Take the facts of a shard, of which `planes` are the numbers and `plane_voxels` the size.

        Whichever shard comes first, the sum is the same but for the rounding of means.
        """
        self.minimum = min(self.minimum, facts["minimum"])
        if facts["maximum"] > self.maximum:
            self.maximum, self.at_maximum = facts["maximum"], 0
        if facts["maximum"] == self.maximum:
            self.at_maximum += facts["at_maximum"]
        for number, count in zip(*facts["histogram"], strict=True):
            self.histogram[number] = self.histogram.get(number, 0) + count
        for plane, mean in zip(planes, facts["planes"], strict=True):
            total, voxels = self.planes.get(plane, (0.0, 0))
            self.planes[plane] = total + mean * plane_voxels, voxels + plane_voxels
        self.blocks += [(noise, ratio, focus) for _, noise, ratio, focus in facts["blocks"]]

    def summary(self) -> dict[str, Any]:
        """What to write down: see docs/reference.md."""
        voxels = sum(count for _, count in self.planes.values())
        numbers = sorted(self.histogram)
        focus = [value for _, _, value in self.blocks if value is not None]
        return {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": sum(total for total, _ in self.planes.values()) / voxels,
            "fraction_at_maximum": self.at_maximum / voxels,
            "noise": _median([noise for noise, _, _ in self.blocks]),
            "signal_to_noise": _median([ratio for _, ratio, _ in self.blocks]),
            "focus": _median(focus) if focus else None,
            "histogram": {
                "values": edges(numbers).tolist(),
                "counts": [self.histogram[number] for number in numbers],
            },
            "plane_means": [total / count for _, (total, count) in sorted(self.planes.items())],
        }


def _median(values: list[float]) -> float:
    return float(np.median(values))
