"""All benchmarks by name. To add one, write its module and name it here."""

from types import ModuleType

from benchmarks import demo, fewshot, inference

BENCHMARKS: dict[str, ModuleType] = {"demo": demo, "fewshot": fewshot, "inference": inference}
