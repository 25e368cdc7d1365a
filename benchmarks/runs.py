"""Runs of the few-shot benchmark, and the file that keeps them so that a killed one goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """One training and its test: all that its scores depend on.

    Attributes
    ----------
    draw: number of the draw of k shots from this domain of the set.
    version: of the method.
    shots: names of all examples that were learned from.
    data: digest of all images and labels of the domain.
    smallest: of the scores without small objects.
    """

    set: str
    domain: str
    k: int
    draw: int
    seed: int
    method: str
    version: str
    shots: tuple[str, ...]
    data: str
    smallest: int

    @property
    def where(self) -> str:
        """The set, and the domain where it has several."""
        return f"{self.set}/{self.domain}" if self.domain else self.set


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run: mean scores over the tests, seconds, and training steps.

    `full_steps` are those that the method's own recipe takes.
    """

    run: Run
    scores: Mapping[str, float]
    learn_s: float
    predict_s: float
    tests: int
    steps: int
    full_steps: int


def read(path: Path) -> dict[Run, Result]:
    """The results that `append` wrote; a last line that a kill cut short does not count."""
    if not path.is_file():
        return {}
    *lines, last = path.read_text("utf-8").split("\n")
    if last:
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    results = (_result(json.loads(line)) for line in lines)
    return {result.run: result for result in results}


def append(path: Path, result: Result) -> None:
    """Add a result as one line of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(result)) + "\n")


def _result(said: dict[str, Any]) -> Result:
    run = Run(**said["run"] | {"shots": tuple(said["run"]["shots"])})
    return Result(**said | {"run": run})
