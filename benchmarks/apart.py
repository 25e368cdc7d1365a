"""Calls and commands in processes of their own: their time, and the most memory they took."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

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


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command took with all the processes that it started.

    Attributes
    ----------
    code: its exit code.
    cpu_s: user's and system's, of all that were waited for.
    peak_mb: of the process that had most.
    together_mb: the most of all that lived at once; what they share counts for each.
    """

    code: int
    seconds: float
    cpu_s: float
    peak_mb: float
    together_mb: float


def spent(command: Sequence[str], log: Path, **options: Any) -> Spent:
    """Run a command, its output going to `log`, from the start of its process to its end."""
    peak = together = 0.0
    with log.open("wb") as stream:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=stream, stderr=stream, **options)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            family = _family(process.pid)
            peak = max(peak, *map(_peak_mb, family))
            together = max(together, sum(map(_now_mb, family)))
            time.sleep(POLL_S)
        seconds = time.perf_counter() - began
    _, status, usage = ended
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    return Spent(process.returncode, seconds, cpu_s, peak, max(peak, together))


def _family(process: int) -> list[int]:
    """A process and all that descend from it; itself alone where it has just ended."""
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process).children(recursive=True)
        return [process, *(child.pid for child in children)]
    return [process]


def _measured(call: Callable[..., Result], given: Sequence[Any]) -> Apart[Result]:
    began = time.perf_counter()
    result = call(*given)
    return Apart(result, time.perf_counter() - began, _peak_mb("self"))


def _peak_mb(process: int | str) -> float:
    """Of a process; 0 where it has ended, or the system does not tell.

    The system's own account of a child (`ru_maxrss`) would start from the memory of its parent.
    """
    return _resident_mb(process, "VmHWM:")


def _now_mb(process: int) -> float:
    return _resident_mb(process, "VmRSS:")


def _resident_mb(process: int | str, field: str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0.0
    said = [line.split()[1] for line in lines if line.startswith(field)]
    return int(said[0]) * 1024 / 1e6 if said else 0.0
