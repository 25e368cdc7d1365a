"""All benchmarks by name. To add one, write its module and name it here."""

from types import ModuleType

from benchmarks import demo

BENCHMARKS: dict[str, ModuleType] = {"demo": demo}
