"""What a SLURM site grants, in its own words: partitions, nodes, accounts; and what exceeds it."""

import getpass
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline import sites

ANSWER_S = 15.0
"""A check before the first job may not take longer."""
Ask = Callable[..., str | None]
"""Runs a command. Gives what it prints; None where it fails or is not there."""


@dataclass(frozen=True, slots=True)
class Node:
    """Some nodes that are alike. Memory in MB; `gpus` by type, "" where it has no name."""

    count: int
    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]

    @property
    def gpu_count(self) -> int:
        """GPUs of one node, of all types."""
        return sum(self.gpus.values())


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, with limits that are infinite where it sets none.

    Attributes
    ----------
    runtime_min: longest run time of a job, in minutes.
    node_memory_mb, cpu_memory_mb: most memory of a job on one node, and for each of its cores.
    accounts, qos: those that may use it; empty where all may.
    """

    name: str
    is_default: bool
    is_up: bool
    runtime_min: float
    node_memory_mb: float
    cpu_memory_mb: float
    accounts: tuple[str, ...]
    qos: tuple[str, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster.

    Attributes
    ----------
    array_size: jobs of an array at most.
    accounts, qos: those of this user; empty where none are kept.
    """

    partitions: tuple[Partition, ...]
    array_size: float
    accounts: tuple[str, ...]
    qos: tuple[str, ...]

    def chosen(self, names: str) -> tuple[Partition, ...]:
        """The partitions that a setting names, or the default where it names none."""
        if not names:
            return tuple(p for p in self.partitions if p.is_default)
        return tuple(p for p in self.partitions if p.name in names.split(","))


def ask(*command: str) -> str | None:
    """What a command of SLURM prints in time; None where it prints nothing usable."""
    return sites.ask(*command, within_s=ANSWER_S)


def look(ask: Ask = ask) -> Site | None:
    """The cluster that this machine belongs to; None where its controller does not answer."""
    partitions = ask("scontrol", "--oneliner", "show", "partition")
    nodes = ask("sinfo", "--noheader", "--exact", "--format=%R|%D|%c|%m|%G")
    config = ask("scontrol", "show", "config")
    if partitions is None or nodes is None or config is None:
        return None
    mine = ask(
        *("sacctmgr", "--noheader", "--parsable2", "show", "associations"),
        *(f"user={getpass.getuser()}", "format=Account,QOS"),
    )
    return parsed(partitions, nodes, config, mine or "")


def parsed(partitions: str, nodes: str, config: str, associations: str) -> Site:
    """A site from what `scontrol`, `sinfo` and `sacctmgr` print."""
    shapes = [line.split("|") for line in nodes.splitlines() if line.count("|") == 4]
    found = [
        Node(int(count), _number(cpus), _number(memory), gpus(gres))
        for _, count, cpus, memory, gres in shapes
    ]
    rows = [row.split("|") for row in associations.splitlines() if "|" in row]
    return Site(
        tuple(
            _partition(
                dict(re.findall(r"(\w+)=(\S*)", line)),
                [
                    node
                    for row, node in zip(shapes, found, strict=True)
                    if line.startswith(f"PartitionName={row[0]} ")
                ],
            )
            for line in partitions.splitlines()
            if line.startswith("PartitionName=")
        ),
        sites.array_size(config) or math.inf,
        tuple(dict.fromkeys(row[0] for row in rows)),
        tuple(dict.fromkeys(name for row in rows for name in row[1].split(",") if name)),
    )


def _partition(said: Mapping[str, str], nodes: Sequence[Node]) -> Partition:
    return Partition(
        name=said["PartitionName"],
        is_default=said.get("Default") == "YES",
        is_up=said.get("State", "UP") == "UP",
        runtime_min=minutes(said.get("MaxTime", "UNLIMITED")),
        node_memory_mb=_limit(said.get("MaxMemPerNode", "UNLIMITED")),
        cpu_memory_mb=_limit(said.get("MaxMemPerCPU", "UNLIMITED")),
        accounts=_listed(said.get("AllowAccounts", "ALL")),
        qos=_listed(said.get("AllowQos", "ALL")),
        nodes=tuple(nodes),
    )


def minutes(text: str) -> float:
    """A time of SLURM, such as 1-12:00:00 or 30:00, in minutes; infinite where it is no time."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in [*parts, days or "0"]):
        return math.inf
    numbers = [int(part) for part in parts]
    if days:
        hours, minute, second = [*numbers, 0, 0][:3]
    else:
        hours, minute, second = ([0, 0, 0, *numbers] if len(numbers) > 1 else [0, *numbers, 0])[-3:]
    return int(days or 0) * 1440 + hours * 60 + minute + second / 60


def gpus(gres: str) -> dict[str, int]:
    """How many GPUs of each type, "" where it has no name: of `gpu:a100:4(S:0-1),shard:8`, 4."""
    found: dict[str, int] = {}
    for kind, count in re.findall(r"\bgpu(?::([^:,()]*[^\d:,()][^:,()]*))?(?::(\d+))?", gres):
        found[kind] = found.get(kind, 0) + int(count or 1)
    return found


def _listed(text: str) -> tuple[str, ...]:
    return () if text in ("ALL", "N/A", "(null)", "") else tuple(text.split(","))


def _limit(text: str) -> float:
    return int(text) if text.isdecimal() and int(text) else math.inf


def _number(text: str) -> int:
    """Of sinfo, which writes "8+" where nodes have more."""
    return int(re.match(r"\d*", text)[0] or 0)  # type: ignore[index]


def described(partition: Partition) -> str:
    """A partition in a line."""
    nodes = "; ".join(map(_node, partition.nodes)) or "no nodes"
    limit = partition.runtime_min
    runtime = "no time limit" if limit == float("inf") else f"at most {limit:.0f} minutes"
    notes = [", default" if partition.is_default else "", "" if partition.is_up else ", down"]
    return f"{partition.name}{''.join(notes)}: {nodes}; {runtime}"


def _node(node: Node) -> str:
    kinds = ", ".join(f"{count} x {kind or 'gpu'}" for kind, count in node.gpus.items())
    gpus = f", GPUs: {kinds}" if kinds else ""
    return f"{node.count} nodes of {node.cpus} cores, {node.memory_mb} MB{gpus}"
