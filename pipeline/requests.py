"""What stages ask of a SLURM site and do not get, in sentences that name the setting."""

import os
import shlex
import subprocess
from collections.abc import Collection, Iterator, Sequence

from .grants import ANSWER_S, Partition, Site
from .submission import Allocation

NAMED = 12
CONF = "SLURM_CONF"
Complaint = tuple[str, str]
"""The setting, and what is wrong with its value."""


def faults(site: Site, stage: str, asked: Allocation) -> list[str]:
    """What a stage asks for and the site does not grant, one sentence each."""
    return [
        f"set-resources.{stage}.{name} is {getattr(asked, name)!r} in the profile: {sentence}"
        for name, sentence in _complaints(site, asked)
    ]


def _complaints(site: Site, asked: Allocation) -> list[Complaint]:
    names = [partition.name for partition in site.partitions]
    for name in filter(None, asked.slurm_partition.split(",")):
        if name not in names:
            sentence = f"there is no partition {name}. There are: {_and(names)}. Name one of them."
            return [("slurm_partition", sentence)]
    chosen = site.chosen(asked.slurm_partition)
    if not chosen:
        sentence = f"the site has no default partition. Name one of: {_and(names)}."
        return [("slurm_partition", sentence)]
    # a job may go to any of the partitions, so it is enough that one takes it
    exceeded = [list(_exceeded(partition, asked)) for partition in chosen]
    return [*_barred(site, chosen, asked), *(exceeded[0] if all(exceeded) else [])]


def _barred(site: Site, chosen: Sequence[Partition], asked: Allocation) -> Iterator[Complaint]:
    """Accounts, qualities of service and partitions that this user may not use."""
    account = asked.slurm_account
    words = [word.partition("=") for word in shlex.split(asked.slurm_extra)]
    qos = next((value for name, _, value in words if name == "--qos"), "")
    if account and site.accounts and account not in site.accounts:
        yield "slurm_account", f"it is none of your accounts, {_and(site.accounts)}. Name one."
    if qos and site.qos and qos not in site.qos:
        yield "slurm_extra", f"--qos={qos} is none of yours, {_and(site.qos)}. Name one."
    first = chosen[0].name
    if not any(partition.is_up for partition in chosen):
        yield (
            "slurm_partition",
            f"the partition {first} is down. Name another, or wait until it is up.",
        )
    accounts, services = [p.accounts for p in chosen], [p.qos for p in chosen]
    if account and all(account not in names for names in accounts) and all(accounts):
        yield "slurm_account", f"the partition {first} is for {_and(accounts[0])} alone. Name one."
    if qos and all(qos not in names for names in services) and all(services):
        yield "slurm_extra", f"the partition {first} is for the QOS {_and(services[0])} alone."


def _exceeded(partition: Partition, asked: Allocation) -> Iterator[Complaint]:
    """Limits of a partition, or of its largest nodes, that a job exceeds."""
    where, other = f"the partition {partition.name}", "or name another slurm_partition."
    if asked.runtime > partition.runtime_min:
        limit = f"{where} ends jobs after {partition.runtime_min:.0f} minutes."
        yield "runtime", f"{limit} Lower it (and job_gvoxel, so that jobs end in time), {other}"
    most = min(partition.node_memory_mb, partition.cpu_memory_mb * asked.cpus_per_task)
    if asked.mem_mb > most:
        yield "mem_mb", f"{where} gives a job at most {most:.0f} MB. Lower it, {other}"
    if not partition.nodes:
        return
    memory_mb = max(node.memory_mb for node in partition.nodes)
    cores = max(node.cpus for node in partition.nodes)
    gpus = max(node.gpu_count for node in partition.nodes)
    if asked.mem_mb > memory_mb:
        yield "mem_mb", f"no node of {where} has more than {memory_mb} MB. Lower it, {other}"
    if asked.cpus_per_task > cores:
        yield "cpus_per_task", f"no node of {where} has more than {cores} cores. Lower it, {other}"
    if asked.gpu > gpus:
        yield "gpu", f"no node of {where} has more than {gpus} GPUs. Lower it, {other}"
    fits = [
        node
        for node in partition.nodes
        if node.memory_mb >= asked.mem_mb
        and node.cpus >= asked.cpus_per_task
        and node.gpu_count >= asked.gpu
    ]
    within = asked.mem_mb <= memory_mb and asked.cpus_per_task <= cores and asked.gpu <= gpus
    if within and not fits:
        also = f"{asked.cpus_per_task} cores and {asked.gpu} GPUs"
        yield "mem_mb", f"no node of {where} has so much and {also}. Lower one of them, {other}"


def refused(stage: str, asked: Allocation) -> list[str]:
    """SLURM's own verdict on what a stage asks for, in a sentence; nothing is queued.

    It knows what no list tells: limits of accounts and qualities of service, names of gres.
    """
    options = _options(asked)
    command = ["sbatch", "--test-only", *options, "--wrap=true"]
    # what an enclosing job was given would be taken for asked
    own = {
        key: value
        for key, value in os.environ.items()
        if key == CONF or not key.startswith(("SLURM_", "SRUN_", "SBATCH_"))
    }
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, env=own)
    except (OSError, subprocess.TimeoutExpired):
        return []
    words = done.stderr.strip().replace("\n", "; ")
    if done.returncode == 0 or "Unable to contact" in words:
        return []
    sentence = (
        f"SLURM refuses the jobs of {stage}: {words}. Check set-resources.{stage} in the profile, "
        f"which asks for {' '.join(options)}"
    )
    return [sentence]


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


def _and(names: Collection[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
