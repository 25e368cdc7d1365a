"""A real SLURM for the tests of this folder."""

import subprocess
from pathlib import Path

import pytest

PARTITIONS = {"cpu", "gpu", "preempt", "preempt0"}


def partitions() -> set[str]:
    """Of the cluster that answers; none when none does."""
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return set()
    return set(answer.stdout.split())


@pytest.fixture(scope="session", autouse=True)
def slurm_cluster() -> None:
    """The cluster of ./start, which is left running. Skips where there can be none."""
    found = partitions()
    if found >= PARTITIONS:
        return
    if found:
        pytest.skip(f"the SLURM of this machine has no partitions {sorted(PARTITIONS - found)}")
    start = subprocess.run(
        [Path(__file__).parent / "start"], stderr=subprocess.PIPE, text=True, timeout=300
    )
    if start.returncode == 77:
        pytest.skip(start.stderr.strip().splitlines()[-1])
    assert start.returncode == 0, start.stderr
