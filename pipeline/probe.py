"""What a job sees where it runs: memory, cores, GPUs, scratch, and this package."""

import dataclasses
import logging
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__, cluster, memory, receipts, storage
from pipeline.cluster import Allocation

log = logging.getLogger("equiscope.doctor")
DRIVER_S = 30.0
"""For a word of the GPUs' driver, which may be starting."""
RUNTIME_MIN = 10
"""Of a job that looks around."""


@dataclass(frozen=True, slots=True)
class Look:
    """A job that writes down what it sees. Pickles to the job."""

    file: Path

    def missing(self) -> list[str]:
        """The one unit, until the file is there."""
        return [] if self.file.is_file() else ["look"]

    def __call__(self, share: Sequence[str]) -> None:
        """Look, and write."""
        receipts.write(self.file, seen())


def seen() -> dict[str, Any]:
    """What this process sees of the machine that it runs on."""
    import torch  # takes seconds, and is what a job on a node may fail at

    from pipeline import bases

    scratch = Path(tempfile.gettempdir())
    return {
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME", ""),
        "partition": os.environ.get("SLURM_JOB_PARTITION", ""),
        "python": sys.executable,
        "version": __version__,
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory.granted_mb(0),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda or "",
        "driver": _driver(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "scratch": str(scratch),
        "scratch_free_bytes": storage.room(scratch).free_bytes,
        "bases": bases.names(),
        "time": time.time(),
    }


def _driver() -> str:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=DRIVER_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.split("\n") or [""])[0].strip() if done.returncode == 0 else ""


def probe(stages: Mapping[str, Allocation], folder: Path) -> list[str]:
    """Send one job for each kind of job that stages ask for. Returns faults, one sentence each.

    Says in the log what each saw. Jobs wait in the queue like all others; an interrupt cancels
    them. `folder` is one that all nodes see.
    """
    faults: list[str] = []
    asked: dict[Allocation, str] = {}
    for stage, allocation in stages.items():
        kind = dataclasses.replace(
            allocation, jobs=1, job_gvoxel=1.0, runtime=min(allocation.runtime, RUNTIME_MIN)
        )
        asked.setdefault(kind, stage)
    for kind, stage in asked.items():
        file = folder / f"{stage}.json"
        file.unlink(missing_ok=True)
        try:
            cluster.complete(Look(file), kind, folder / f"{stage}.jobs", f"doctor-{stage}")
        except RuntimeError as fault:
            faults.append(f"a job like those of {stage} cannot work: {fault}")
            continue
        found = receipts.read(file)
        log.info("%s", sentence(stage, found))
        faults += judged(stage, kind, found)
    return faults


def sentence(stage: str, found: Mapping[str, Any]) -> str:
    """What a job saw."""
    gpus = ", ".join(found["gpus"]) or "none"
    driver = f", driver {found['driver']}" if found["driver"] else ""
    return (
        f"a job like those of {stage} ran on {found['node'] or found['host']}: {found['cores']} "
        f"cores, {found['memory_mb']:.0f} MB, GPUs: {gpus}{driver}, torch {found['torch']}, "
        f"scratch {found['scratch']} with {found['scratch_free_bytes'] / 1e9:.3g} GB free"
    )


def judged(stage: str, asked: Allocation, found: Mapping[str, Any]) -> list[str]:
    """What a job saw less of than it asked for."""
    node, faults = found["node"] or found["host"], []
    if len(found["gpus"]) < asked.gpu:
        reason = (
            f"SLURM let it see CUDA_VISIBLE_DEVICES={found['visible']!r}. Check the node's driver"
            if found["cuda"]
            else f"this torch, {found['torch']}, is built without CUDA: install one that is"
        )
        faults.append(
            f"set-resources.{stage}.gpu is {asked.gpu}, but torch sees {len(found['gpus'])} in a "
            f"job on {node}: {reason}."
        )
    if found["memory_mb"] < 0.99 * asked.mem_mb:
        faults.append(
            f"set-resources.{stage}.mem_mb is {asked.mem_mb}, but a job on {node} may use "
            f"{found['memory_mb']:.0f} MB. Lower it to that."
        )
    if found["cores"] < asked.cpus_per_task:
        faults.append(
            f"set-resources.{stage}.cpus_per_task is {asked.cpus_per_task}, but a job on {node} "
            f"gets {found['cores']} cores. Lower it to that."
        )
    if found["version"] != __version__:
        faults.append(
            f"a job on {node} finds Equiscope {found['version']}, and this is {__version__}: "
            "install one in all places, or let all see the same folder."
        )
    return faults
