"""A call in a process of its own, and the most memory that it took."""

import concurrent.futures
import multiprocessing
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Apart(Generic[Result]):
    """What a call gave, its wall-clock, and the process' peak of resident memory.

    Starting the process and loading what it needs to begin does not count as time.
    """

    result: Result
    seconds: float
    peak_mb: float


def apart(call: Callable[..., Result], *given: Any) -> Apart[Result]:
    """Call a function of a module in a fresh process, which ends with it.

    Raises what the call raises.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured, call, given).result()


def commanded(command: Sequence[str], log: Path, **options: Any) -> Apart[int]:
    """Run a command, its output going to `log`, to its exit code."""
    began, peak = time.perf_counter(), 0.0
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, **options)
        while process.poll() is None:
            peak = max(peak, _peak_mb(process.pid))
            time.sleep(POLL_S)
    return Apart(process.returncode, time.perf_counter() - began, peak)


def _measured(call: Callable[..., Result], given: Sequence[Any]) -> Apart[Result]:
    began = time.perf_counter()
    result = call(*given)
    return Apart(result, time.perf_counter() - began, _peak_mb("self"))


def _peak_mb(process: int | str) -> float:
    """Of a process; 0 where it has ended, or the system does not tell.

    The system's own account of a child (`ru_maxrss`) would start from the memory of its parent.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0.0
    said = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(said[0]) * 1024 / 1e6 if said else 0.0
