"""What a site's SLURM says of itself: its nodes, its limits."""

import functools
import re
import subprocess

ANSWER_S = 60.0  # as long as for questions about jobs
TROUBLED = ("DOWN", "DRAIN", "FAIL", "NOT_RESPONDING", "REBOOT", "MAINT", "UNKNOWN", "*")


def troubled(node: str) -> bool:
    """Whether a node is down, drained or does not answer."""
    state = ask("sinfo", "--noheader", "--Format=StateLong", f"--nodes={node}") or ""
    return any(word in state.upper() for word in TROUBLED)


@functools.cache
def most_tasks() -> int | None:
    """How many jobs an array of this site may have; None where nothing says so."""
    return array_size(ask("scontrol", "show", "config") or "")


def array_size(config: str) -> int | None:
    """How many jobs an array may have, of what `scontrol show config` prints.

    SLURM numbers them from 0 to below MaxArraySize.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.M)
    return int(found[1]) if found and int(found[1]) else None


def memories_mb(partition: str) -> dict[str, int]:
    """The memory of each node of a partition, the default one unless named; or what it grants."""
    asked = f"--partition={partition}" if partition else "--all"
    output = ask("sinfo", "--noheader", "--Node", "--format=%N|%m|%P", asked) or ""
    rows = [line.strip().split("|") for line in output.splitlines() if line.count("|") == 2]
    chosen = {row[0]: int(row[1]) for row in rows if partition or row[2].endswith("*")}
    shown = ask("scontrol", "--oneliner", "show", "partition", partition) if partition else ""
    granted = re.search(r"MaxMemPerNode=(\d+)", shown or "")
    most = int(granted[1]) if granted else None
    return {node: mb if most is None else min(mb, most) for node, mb in chosen.items()}


def ask(*command: str, within_s: float = ANSWER_S) -> str | None:
    """What a command of SLURM prints; None where it fails, is silent, or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=within_s)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
