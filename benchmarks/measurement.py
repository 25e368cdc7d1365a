"""What every benchmark gives: a protocol, the environment, and figures with spread and target."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self

PACKAGES = ("equiscope", "torch", "escnn", "zarr", "snakemake", "numpy")
"""Their versions stand beside every figure."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach."""

    sense: Literal[">=", "<="]
    bound: float

    def met_by(self, values: Sequence[float]) -> bool:
        """Whether the worst of the values reaches it."""
        return min(values) >= self.bound if self.sense == ">=" else max(values) <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One number measured.

    Attributes
    ----------
    value: mean over the repetitions.
    spread: lowest and highest of them; None where there was one.
    unit: of value and spread; empty for a score between 0 and 1.
    target: as text, such as ">= 0.9"; None where the figure is only reported.
    met: whether the worst repetition reached the target; None where there is none.
    """

    name: str
    value: float
    spread: tuple[float, float] | None
    unit: str
    target: str | None
    met: bool | None

    @classmethod
    def of(
        cls, name: str, values: Sequence[float], unit: str, target: Target | None = None
    ) -> Self:
        """The figure that the repetitions `values` give."""
        return cls(
            name=name,
            value=float(fmean(values)),
            spread=(float(min(values)), float(max(values))) if len(values) > 1 else None,
            unit=unit,
            target=str(target) if target else None,
            met=target.met_by(values) if target else None,
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that a benchmark found, and how."""

    benchmark: str
    protocol: tuple[str, ...]
    environment: Mapping[str, Any]
    figures: tuple[Figure, ...]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(path: Path) -> Measurement:
    """Read what `Measurement.write` wrote."""
    said = json.loads(path.read_text("utf-8"))
    figures = tuple(
        Figure(**row | {"spread": tuple(row["spread"]) if row["spread"] else None})
        for row in said["figures"]
    )
    return Measurement(said["benchmark"], tuple(said["protocol"]), said["environment"], figures)


def environment() -> dict[str, Any]:
    """Where a benchmark runs: what may show in times, and in a score's last digit."""
    return {
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_at_start": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def said(number: float) -> str:
    """A number with as many digits as mean something."""
    if number == int(number) and abs(number) < 1e6:
        return f"{number:.0f}"
    if abs(number) < 1e-3:
        return f"{number:.1e}"
    return f"{number:.3f}" if abs(number) < 2 else f"{number:.0f}"


def rows(measurement: Measurement) -> list[tuple[str, str, str, str]]:
    """Name, value, spread and target of each figure, as text."""
    verdict = {True: ", met", False: ", MISSED", None: ""}
    return [
        (
            figure.name,
            f"{said(figure.value)} {figure.unit}".strip(),
            " to ".join(map(said, figure.spread)) if figure.spread else "",
            f"{figure.target or ''}{verdict[figure.met]}",
        )
        for figure in measurement.figures
    ]


def table(measurement: Measurement) -> str:
    """The figures as a table for a terminal."""
    lines = [("figure", "value", "spread", "target"), *rows(measurement)]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
