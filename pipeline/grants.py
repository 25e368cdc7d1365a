"""What a SLURM site grants, in its own words: partitions, nodes, accounts; and what exceeds it."""

import getpass
import math
import re
import shlex
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from .submission import Allocation

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
    """A cluster. `accounts` and `qos` are those of this user; empty where none are kept."""

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
    """What a command of SLURM prints; None where it fails, is silent, or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


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
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
    return Site(
        tuple(
            _partition(
                dict(re.findall(r"(\w+)=(\S*)", line)),
                [node for row, node in zip(shapes, found, strict=True) if f"={row[0]} " in line],
            )
            for line in partitions.splitlines()
            if line.startswith("PartitionName=")
        ),
        int(size[1]) if size else math.inf,
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


def faults(site: Site, stage: str, asked: Allocation) -> list[str]:
    """What a stage asks for and the site does not grant, one sentence each."""

    def said(name: str, sentence: str) -> str:
        return (
            f"set-resources.{stage}.{name} is {getattr(asked, name)!r} in the profile: {sentence}"
        )

    chosen = site.chosen(asked.slurm_partition)
    names = [p.name for p in site.partitions]
    unknown = [name for name in asked.slurm_partition.split(",") if name and name not in names]
    if unknown:
        return [
            said(
                "slurm_partition",
                f"there is no partition {unknown[0]}. There are: {_and(names)}. Name one of them.",
            )
        ]
    if not chosen:
        return [
            said(
                "slurm_partition",
                f"the site has no default partition. Name one of: {_and(names)}.",
            )
        ]
    found = [said(name, sentence) for name, sentence in _membership(site, chosen, asked)]
    # a job may go to any of the partitions, so it is enough that one takes it
    limits = [_limits(partition, asked) for partition in chosen]
    if all(limits):
        found += [said(name, sentence) for name, sentence in limits[0]]
    return found


def _membership(
    site: Site, chosen: Sequence[Partition], asked: Allocation
) -> list[tuple[str, str]]:
    """Accounts, qualities of service and partitions that this user may not use."""
    found = []
    account = asked.slurm_account
    extra = [word.partition("=") for word in shlex.split(asked.slurm_extra)]
    qos = next((value for name, _, value in extra if name == "--qos"), "")
    if account and site.accounts and account not in site.accounts:
        found.append(
            ("slurm_account", f"it is none of your accounts, {_and(site.accounts)}. Name one.")
        )
    if qos and site.qos and qos not in site.qos:
        found.append(("slurm_extra", f"--qos={qos} is none of yours, {_and(site.qos)}. Name one."))
    if all(not p.is_up for p in chosen):
        found.append(
            (
                "slurm_partition",
                f"the partition {chosen[0].name} is down. Name another, or wait until it is up.",
            )
        )
    for given, name, allowed in (
        (account, "slurm_account", [p.accounts for p in chosen]),
        (qos, "slurm_extra", [p.qos for p in chosen]),
    ):
        if given and all(allowed) and not any(given in names for names in allowed):
            found.append(
                (name, f"the partition {chosen[0].name} takes {_and(allowed[0])} alone. Name one.")
            )
    return found


def _limits(partition: Partition, asked: Allocation) -> list[tuple[str, str]]:
    """What exceeds the limits of a partition, or of all its nodes."""
    found: list[tuple[str, str]] = []
    other = "name another slurm_partition"
    where = f"the partition {partition.name}"
    if asked.runtime > partition.runtime_min:
        found.append(
            (
                "runtime",
                f"{where} ends jobs after {partition.runtime_min:.0f} minutes. Lower it (and "
                f"job_gvoxel, so that jobs end in time), or {other}.",
            )
        )
    most = min(partition.node_memory_mb, partition.cpu_memory_mb * asked.cpus_per_task)
    if asked.mem_mb > most:
        found.append(
            ("mem_mb", f"{where} gives a job at most {most:.0f} MB. Lower it, or {other}.")
        )
    if not partition.nodes:
        return found
    memory = max(node.memory_mb for node in partition.nodes)
    cpus = max(node.cpus for node in partition.nodes)
    if asked.mem_mb > memory:
        found.append(
            ("mem_mb", f"no node of {where} has more than {memory} MB. Lower it, or {other}.")
        )
    if asked.cpus_per_task > cpus:
        found.append(("cpus_per_task", f"no node of {where} has more than {cpus} cores. Lower it."))
    gpu_count = max(node.gpu_count for node in partition.nodes)
    if asked.gpu > gpu_count:
        has = f"no node of {where} has more than {gpu_count} GPUs"
        found.append(
            ("gpu", f"{has if gpu_count else f'{where} has no GPUs'}. {other.capitalize()}.")
        )
    together = [
        node
        for node in partition.nodes
        if node.memory_mb >= asked.mem_mb
        and node.cpus >= asked.cpus_per_task
        and node.gpu_count >= asked.gpu
    ]
    if not found and not together:
        found.append(
            (
                "mem_mb",
                f"no node of {where} has this and {asked.cpus_per_task} cores and "
                f"{asked.gpu} GPUs at once. Lower one of them, or {other}.",
            )
        )
    return found


def refused(stage: str, asked: Allocation) -> list[str]:
    """SLURM's own verdict on what a stage asks for, in a sentence; nothing is queued.

    It knows what no list tells: limits of accounts and qualities of service, names of gres.
    """
    options = _options(asked)
    command = ["sbatch", "--test-only", *options, "--wrap=true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    words = done.stderr.strip().replace("\n", "; ")
    if done.returncode == 0 or "Unable to contact" in words:
        return []
    return [
        f"SLURM refuses the jobs of {stage}: {words}. Check its slurm_partition, slurm_account, "
        f"slurm_extra and gpu in the profile: {' '.join(options)}"
    ]


def _options(asked: Allocation) -> list[str]:
    """What the array will ask of sbatch for each job."""
    given = {
        "time": asked.runtime,
        "mem": f"{asked.mem_mb}M",
        "cpus-per-task": asked.cpus_per_task,
        "gpus-per-node": asked.gpu,
        "partition": asked.slurm_partition,
        "account": asked.slurm_account,
    }
    words = [f"--{name}={value}" for name, value in given.items() if value]
    return [*words, *shlex.split(asked.slurm_extra)]


def _and(names: Collection[str], most: int = 12) -> str:
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
