"""How much memory this process may use: what it was promised, and what the system grants."""

import os
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")


def granted_mb(promised_mb: int) -> float:
    """The least of what was promised, what SLURM and control groups allow, and what there is.

    Where nothing was promised, `promised_mb` is 0.
    """
    limits = [psutil.virtual_memory().total / 1e6]
    if promised_mb:
        limits.append(float(promised_mb))
    per_node = os.environ.get("SLURM_MEM_PER_NODE", "")
    if per_node.isdecimal() and int(per_node):
        limits.append(int(per_node) * 2**20 / 1e6)
    limits += [found / 1e6 for found in map(_limit, _groups()) if found is not None]
    return min(limits)


def _groups() -> list[Path]:
    """Files that hold the limits of this process' control groups, of either version."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = CGROUPS / controllers
            file = "memory.limit_in_bytes" if controllers else "memory.max"
            group = root / path.lstrip("/")
            within = [place for place in (group, *group.parents) if place.is_relative_to(root)]
            found += [place / file for place in within]
    return found


def _limit(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
