"""What a campaign will take, as values and in sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline.progress import duration


@dataclass(frozen=True, slots=True)
class Between:
    """A number, and the lowest and highest that was measured in its place."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The mean of values, between the extremes."""
        return cls(min(values), sum(values) / len(values), max(values))

    def times(self, factor: float) -> "Between":
        """All three, so many times."""
        return Between(self.low * factor, self.middle * factor, self.high * factor)

    def plus(self, other: "Between") -> "Between":
        """Sums, as if both erred the same way."""
        return Between(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def shifted(self, amount: float) -> "Between":
        """All three, and so much more."""
        return Between(self.low + amount, self.middle + amount, self.high + amount)

    def said(self, how: Callable[[float], str]) -> str:
        """The number in words, and its bounds."""
        return f"{how(self.middle)} ({how(self.low)} to {how(self.high)})"


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage takes over the whole campaign.

    Attributes
    ----------
    results: that it makes; `done` are there already, and count no more.
    seconds: of one core or GPU; it and `bytes` are None where nothing could be measured.
    raw_bytes: before compression.
    passing: files that are there while results are made, and go.
    gpus: whether its jobs have GPUs.
    at_once: cores or GPUs that work at once, at most.
    """

    name: str
    results: int
    done: int
    jobs: int
    files: int
    seconds: Between | None
    bytes: Between | None
    raw_bytes: int
    passing: int
    gpus: bool
    at_once: int

    def sentence(self, on_gpu: bool) -> str:
        """What it takes; `on_gpu` says whether this machine, which was asked, has a GPU."""
        head = f"{self.name}: {self.results:,} results"
        if self.done:
            head += f", of which {self.done:,} are there"
        if self.results == self.done:
            return head
        parts = [head, f"{self.jobs:,} jobs", f"at most {self.files:,} files"]
        if not self.jobs:
            return ", ".join(parts)
        if self.raw_bytes:
            parts.append(f"{size(self.raw_bytes)} before compression")
        if self.bytes and self.bytes.high:
            parts.append(f"{self.bytes.said(size)} on disk")
        if self.seconds is None:
            return ", ".join([*parts, "time unknown: nothing was measured"])
        unit = "GPU" if on_gpu and self.name == "predict" else "core"
        hours = self.seconds.times(1 / 3600).said("{:.2g}".format)
        parts.append(f"{hours} {unit}-hours")
        if self.gpus and not on_gpu:
            parts.append("less on its GPUs, of which this machine has none to ask")
        else:
            wall = self.seconds.times(1 / self.at_once).said(duration)
            parts.append(f"{wall} with {self.at_once:,} at once")
        if self.name == "finetune":
            parts.append("for the network alone")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What all stages take, from `pieces` that were measured on this machine."""

    stages: tuple[Stage, ...]
    pieces: int
    on_gpu: bool

    @property
    def files(self) -> int:
        """Files that are still to be made, at most."""
        return sum(stage.files for stage in self.stages)

    @property
    def passing(self) -> int:
        """Files that go again, if all results were made at the same time."""
        return sum(stage.passing for stage in self.stages)

    @property
    def raw_bytes(self) -> int:
        """Bytes of voxels that are still to be made, before compression."""
        return sum(stage.raw_bytes for stage in self.stages)

    @property
    def least_bytes(self) -> float:
        """Bytes on disk that are still to be made, at least, as far as that was measured."""
        return sum(stage.bytes.low for stage in self.stages if stage.bytes)

    def __str__(self) -> str:
        """One line for each stage, and what they rest on."""
        rests = "These are counts alone: nothing was measured."
        if self.pieces:
            where = "with its GPU" if self.on_gpu else "on one core"
            rests = (
                f"Measured on {self.pieces} pieces of these images by this machine, {where}: the "
                "mean, and what the lowest and the highest of them would give. Waiting in a queue "
                "comes on top."
            )
        return "\n".join([*(stage.sentence(self.on_gpu) for stage in self.stages), rests])


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
