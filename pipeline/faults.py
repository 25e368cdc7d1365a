"""What is wrong with settings, in sentences for those who wrote them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError


def explain(path: Path, values: dict[str, Any], error: ValidationError) -> str:
    """One sentence per setting that is wrong."""
    said: dict[tuple[str | int, ...], list[str]] = {}
    for fault in error.errors():
        place = _place(fault["loc"], values)
        name, found = ".".join(map(str, place)), json.dumps(fault["input"], default=str)
        match fault["type"]:
            case "extra_forbidden":
                sentence = f"{name} is no setting. Correct its name or delete it."
            case "missing":
                sentence = f"{name} is missing. Add it, as in the config.yaml that comes along."
            case "value_error":
                sentence = str(fault["ctx"]["error"])
            case _:
                sentence = f"{name} is {found[:80]}: {fault['msg'][:1].lower()}{fault['msg'][1:]}."
        said.setdefault(place, []).append(sentence)
    # An entry that holds a fault is called faulty itself; the fault says it better.
    leaves = [p for p in said if not p or not any(q[: len(p)] == p for q in said if q != p)]
    return "\n".join(f"{path}: {_joined(said[place])}" for place in leaves)


def _joined(sentences: Sequence[str]) -> str:
    """Each kind of value that is allowed has refused the value in its own sentence."""
    first, *others = sentences
    start = first.partition(": ")[0]
    return (
        "; or ".join(
            [first.rstrip("."), *(s.removeprefix(f"{start}: ").rstrip(".") for s in others)]
        )
        + "."
    )


def _place(steps: Sequence[str | int], values: Any) -> tuple[str | int, ...]:
    """The setting's name, without the names of types that pydantic mixes in."""
    place: list[str | int] = []
    for number, step in enumerate(steps):
        known = (
            step in values
            if isinstance(values, dict)
            else isinstance(step, int) and isinstance(values, list)
        )
        if known:
            values = values[step]
        if known or (isinstance(values, dict) and number == len(steps) - 1 and step != "[key]"):
            place.append(step)
    return tuple(place)
