"""A profile drafted from what a SLURM site says of itself."""

from collections.abc import Mapping, Sequence

from .grants import Partition, Site, described

MOST_RUNTIME_MIN = 240
WANTED: Mapping[str, tuple[int, int]] = {
    "ingest": (16, 3000),
    "finetune": (4, 3500),
    "predict": (16, 8000),
}
"""Jobs at once and MB of memory where a site sets no limits."""
CORES = 32
THREADS: Mapping[str, int] = {"ingest": 4, "finetune": 14, "predict": 4}
"""Some 30 MB of a login node's memory, and how many of them the process of a stage takes."""


def profile(site: Site) -> str:
    """The text of a profile: every limit with the partition that it comes from.

    Raises ValueError where the site has no partition that is up.
    """
    up = [p for p in site.partitions if p.is_up and p.nodes]
    if not up:
        raise ValueError("no partition of this SLURM is up: ask those who run it.")
    usual = next((p for p in up if p.is_default), up[0])
    with_gpus = [p for p in up if any(node.gpu_count for node in p.nodes)]
    fast = usual if usual in with_gpus else next(iter(with_gpus), None)
    lines = [
        "# A SLURM cluster, drafted from what sinfo and scontrol said. Read it before you use it;",
        "# profiles/slurm/config.yaml explains every line. Partitions of the site:",
        *(f"#   {described(p)}" for p in site.partitions),
        f"cores: {CORES}               # some 30 MB of this machine's memory each, as set-threads",
        "                        # deals them. Not the jobs at once: those are each stage's own",
        "default-resources:",
        "  mem_mb: 1000",
        "  disk_mb: 1000",
        "  place: slurm",
        *_where(site, usual),
        '  slurm_extra: ""       # more options of sbatch, such as "--qos=long --nice=5"',
        '  slurm_setup: ""       # shell commands before each job: "module load cuda/12"',
        "set-resources:",
        *_stage("ingest", usual, gpu=False),
        "    job_gvoxel: 5       # lower it if jobs time out",
        "    cpus_per_task: 1",
        *_stage("finetune", fast or usual, gpu=fast is not None, moved=fast is not usual),
        *_stage("predict", fast or usual, gpu=fast is not None, moved=fast is not usual),
        "    job_gvoxel: 5",
        "    cpus_per_task: 1    # on CPUs, each core works on a tile of its own",
        "set-threads:            # a stage waits for its jobs in a process here",
        *(f"  {stage}: {count}" for stage, count in THREADS.items()),
        "show-failed-logs: true",
        "rerun-incomplete: true",
        "nolock: true            # locks that end with their process stand in for Snakemake's",
    ]
    return "\n".join(lines) + "\n"


def _where(site: Site, usual: Partition) -> Sequence[str]:
    """Partition and account that jobs have where no stage says otherwise."""
    named = "" if usual.is_default else usual.name
    said = "the site's default" if usual.is_default else "the site has no default"
    account = "empty: your default account"
    if site.accounts:
        account = f"empty: your default of {', '.join(site.accounts)}"
    return [
        f'  slurm_partition: "{named}"   # {said}: {usual.name}',
        f'  slurm_account: ""     # {account}',
    ]


def _stage(name: str, partition: Partition, gpu: bool, moved: bool = False) -> list[str]:
    jobs, memory_mb = WANTED[name]
    fit = [node for node in partition.nodes if node.gpu_count] if gpu else partition.nodes
    most = min(max(node.memory_mb for node in fit), partition.node_memory_mb)
    runtime = int(min(MOST_RUNTIME_MIN, partition.runtime_min))
    lines = [
        f"  {name}:",
        f"    jobs: {jobs}",
        f"    mem_mb: {int(min(memory_mb, most))}        # {partition.name} has at most {most:.0f}",
        f"    runtime: {runtime}        # minutes",
    ]
    if gpu and moved:
        lines.append(f"    slurm_partition: {partition.name}")
    if gpu:
        kinds = sorted({kind for node in fit for kind in node.gpus if kind})
        other = f'; of a type: slurm_extra "--gres=gpu:{kinds[0]}:1"' if kinds else ""
        lines.append(f"    gpu: 1              # for each job{other}")
    return lines
