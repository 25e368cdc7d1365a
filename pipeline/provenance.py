"""Beside each receipt: what made its result. Code, packages, machine, jobs, seeds, time, cost.

None of it decides anything, and none of it is in the receipt: the same recipe on another machine,
or with other packages, is the same recipe, and its result is told apart by its bytes.
"""

import hashlib
import importlib.metadata
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import __version__, receipts

ENDING = ".provenance.json"
COST = "cost.html"
"""A report's page that tells of time and machines: no result, for it is never the same again."""
EARLIER = "earlier"
"""What made the results that came before, by their receipts: they may come back."""
PACKAGE = Path(__file__).parent
GIT_S = 10.0
"""A version control that takes longer is not asked."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When work began: the time of day, and this process's own."""

    began: str
    wall_s: float
    cpu_s: float

    @classmethod
    def start(cls) -> "Clock":
        """The clock as it stands."""
        return cls(_now(), time.monotonic(), time.process_time())


def path(receipt: Path) -> Path:
    """Where the provenance of a receipt's result lies."""
    return receipt.with_name(f"{receipt.stem}{ENDING}")


def read(receipt: Path) -> dict[str, Any]:
    """What made the result of a receipt; empty where nobody knows, or it was another result."""
    said = _read(path(receipt))
    return said if said and said["receipt"] == receipts.identity(receipt) else {}


def last(receipt: Path) -> dict[str, Any]:
    """What made the last result at a receipt's place, whether it is still there or not."""
    return _read(path(receipt))


def write(
    receipt: Path,
    inputs: Sequence[Path],
    clock: Clock,
    allocation: Mapping[str, Any],
    jobs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write down what made the result that the receipt speaks of, now that it is there.

    `inputs` are the receipts that it was made from; `jobs`, by the names of their records, all
    that ever ran for it: where, and for how many seconds on how many cores and GPUs. Where none
    ran since the same result was made, it was found whole, and what is written stays.
    """
    made = receipts.read(receipt)
    known, identity = _read(path(receipt)), receipts.fingerprint(made)
    new = {name: job for name, job in jobs.items() if name not in known.get("records", ())}
    if known.get("receipt") == identity and not new:
        return
    earlier = known.pop(EARLIER, {})
    if known:
        earlier[known["receipt"]] = known
    if identity in earlier and not new:
        receipts.write(path(receipt), earlier.pop(identity) | {EARLIER: earlier})
        return
    said = {
        EARLIER: earlier,
        "receipt": identity,
        "recipe": made["recipe"]["hash"],
        "inputs": {_relative(receipt, one): receipts.identity(one) for one in inputs},
        "seeds": dict(_seeds(made["recipe"]["settings"])),
        "code": code(),
        "environment": environment(),
        "machine": machine(),
        "allocation": dict(allocation),
        "jobs": list(new.values()),
        "records": list(jobs),
        "began": clock.began,
        "ended": _now(),
        "cost": _cost(receipt, made, clock, list(new.values())),
    }
    receipts.write(path(receipt), said)


def _read(path: Path) -> dict[str, Any]:
    try:
        return receipts.read(path)
    except ValueError:
        return {}


def code() -> dict[str, Any]:
    """The version of this package: its number, the commit where there is one, a hash of it all."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.glob("*.py")) + sorted(PACKAGE.glob("*.j2")):
        digest.update(f"{file.name}:{receipts.bytes_digest(file)}:".encode())
    # without this one an enclosing repository, of which the package is no part, would answer
    tracked = _git("ls-files", "--error-unmatch", "__init__.py") is not None
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return {
        "version": __version__,
        "source": digest.hexdigest(),
        "commit": _git("rev-parse", "HEAD") if tracked else None,
        "changed": bool(changed) if tracked else None,
    }


def environment() -> dict[str, Any]:
    """Python and every package that is installed beside it, with their versions."""
    packages = {
        found.metadata["Name"]: found.version for found in importlib.metadata.distributions()
    }
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def machine() -> dict[str, Any]:
    """Where the stage's own process runs: jobs may run elsewhere, and say so themselves."""
    return {
        "node": socket.gethostname(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _cost(
    receipt: Path, made: Mapping[str, Any], clock: Clock, jobs: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    own_s = time.process_time() - clock.cpu_s
    return {
        "wall_s": round(time.monotonic() - clock.wall_s, 3),
        "core_hours": (sum(job["seconds"] * job["cpus"] for job in jobs) + own_s) / 3600,
        "gpu_hours": sum(job["seconds"] * job["gpus"] for job in jobs) / 3600,
        "bytes": sum(map(_bytes, results(receipt, made))),
    }


def results(receipt: Path, made: Mapping[str, Any]) -> list[Path]:
    """Files and folders that a receipt speaks of."""
    if made["recipe"]["stage"] == "predict":
        store = receipt.parents[2] / "ingest" / f"{receipt.stem}.ome.zarr"
        return [store / kind / receipt.parent.name for kind in ("labels", "tables")]
    if made["recipe"]["stage"] == "report":
        # which files there are, the report knows; locks and what is half-written begin with a dot
        beside = sorted(receipt.parent.iterdir())
        named = [p for p in beside if not p.name.startswith(".") and p.name != COST]
        return [p for p in named if p.suffix != ".json"]
    names = (made["facts"].get(kind) for kind in ("volume", "model", "base", "plate"))
    return [receipt.parent / name for name in names if name]


def _bytes(result: Path) -> int:
    """Bytes of a result: of a volume without its labels and tables, and not what links lead to."""
    if not result.is_dir():
        return result.lstat().st_size if result.exists() else 0
    total = 0
    for folder, inner, files in os.walk(result):
        if Path(folder) == result:
            inner[:] = [name for name in inner if name not in ("labels", "tables")]
        total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return total


def _seeds(settings: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, int]]:
    """Every setting called `seed`, by its full name."""
    for name, value in settings.items():
        if name == "seed":
            yield f"{place}{name}", value
        elif isinstance(value, Mapping):
            yield from _seeds(value, f"{place}{name}.")


def _relative(receipt: Path, other: Path) -> str:
    return os.path.relpath(other.resolve(), receipt.parent.resolve())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(*words: str) -> str | None:
    """What git says of this package; None where it is not under version control."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, timeout=GIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
