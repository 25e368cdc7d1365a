"""All benchmarks by name. To add one, write its module and name it here."""

from types import ModuleType

from benchmarks import demo, exactness, fewshot, inference, plan, resume, throughput

BENCHMARKS: dict[str, ModuleType] = {
    "demo": demo,
    "exactness": exactness,
    "fewshot": fewshot,
    "inference": inference,
    "plan": plan,
    "resume": resume,
    "throughput": throughput,
}
