"""What the few-shot benchmark compares: a method is a value, with a name and a way to learn."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets import Example, Image, Labels

Predict = Callable[[Sequence[Image]], list[Labels]]
"""Labels of each image, in their order. It is called once."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What learning gave.

    Attributes
    ----------
    predict: labels images.
    steps: of training that were taken.
    full_steps: that the method's own recipe takes, where nothing cuts it short.
    """

    predict: Predict
    steps: int
    full_steps: int


Learn = Callable[[Sequence[Example], int], Learned]
"""Learns from examples with a seed. Tests never come near it."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to learn.

    Attributes
    ----------
    told: what it is, in a sentence of the protocol.
    version: changes with whatever may change its results, so that no stale result is used.
    times: it may learn from so many times as many images as the others, if there are.
    axes: the spatial axes that it can do.
    """

    name: str
    learn: Learn
    told: str
    version: str
    times: int
    axes: tuple[str, ...]


def digest(paths: Iterable[Path], settings: str = "") -> str:
    """Changes with the content of any of the files, and with the settings."""
    found = hashlib.blake2b(settings.encode(), digest_size=8)
    for path in sorted(paths):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def sources(module: Path, root: Path) -> set[Path]:
    """A module and all that it imports from packages in `root`, directly or not."""
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                waiting += [root / f"{name.replace('.', '/')}.py" for name in names]
    return found
