"""All benchmarks by name. To add one, write its module and name it here."""

from types import ModuleType

from benchmarks import (
    campaign,
    cluster,
    demo,
    depth,
    detection,
    exactness,
    fewshot,
    inference,
    ingest,
    localisation,
    plan,
    quality,
    resume,
    throughput,
)

BENCHMARKS: dict[str, ModuleType] = {
    "campaign": campaign,
    "cluster": cluster,
    "demo": demo,
    "depth": depth,
    "detection": detection,
    "exactness": exactness,
    "fewshot": fewshot,
    "inference": inference,
    "ingest": ingest,
    "localisation": localisation,
    "plan": plan,
    "quality": quality,
    "resume": resume,
    "throughput": throughput,
}
