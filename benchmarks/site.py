"""A real SLURM on this machine, what is done to it, and how often it is asked."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import staging

START = staging.ROOT / "tests" / "slurm" / "start"
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo")
LIMIT_S = 300
COUNTING = """#!/bin/sh
echo "$(date +%s.%N) {name}" >>{log}
{barred}exec {real} "$@"
"""
BARRED = '[ "$(date +%s)" -ge "$(cat {bar} 2>/dev/null || echo 0)" ] || exit 1\n'


def started(**settings: object) -> None:
    """Have a SLURM that runs, with these settings of tests/slurm/start.

    Raises RuntimeError where this machine cannot run one.
    """
    variables = {f"EQUISCOPE_SLURM_{name.upper()}": str(value) for name, value in settings.items()}
    done = subprocess.run(
        [START], capture_output=True, text=True, timeout=LIMIT_S, env=os.environ | variables
    )
    if done.returncode:
        raise RuntimeError(f"no SLURM: {done.stderr.strip()}")


def said(*command: str) -> str:
    """What a command of SLURM prints."""
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=LIMIT_S
    ).stdout.strip()


def counting(folder: Path, real: Mapping[str, str]) -> str:
    """Put commands before SLURM's that note each call in `folder/calls`. Returns the PATH.

    `squeue` fails until the time, in seconds since 1970, that `folder/bar` holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in real.items():
        barred = BARRED.format(bar=folder / "bar") if name == "squeue" else ""
        script = folder / name
        script.write_text(
            COUNTING.format(name=name, log=folder / "calls", real=path, barred=barred), "utf-8"
        )
        script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def calls(folder: Path) -> list[tuple[float, str]]:
    """When which command was called, in order."""
    path = folder / "calls"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return sorted((float(at), name) for at, _, name in (line.partition(" ") for line in lines))


@contextlib.contextmanager
def down(node: str) -> Iterator[None]:
    """A node that is down meanwhile."""
    said("scontrol", "update", f"nodename={node}", "state=down", "reason=benchmark")
    try:
        yield
    finally:  # refused where the node came back by itself
        subprocess.run(
            ["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True
        )


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of 64 MB in this folder. Raises RuntimeError where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"no disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
