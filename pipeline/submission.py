"""What a job may use, and the submission of jobs through submitit."""

import argparse
import contextlib
import dataclasses
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import submitit
from submitit.core.utils import FailedJobError

from .failures import SETUP_FAILED

Place = Literal["debug", "local", "slurm"]

PASSING = re.compile(
    r"unable to contact|timed out|temporarily|try again|connection refused|zero bytes", re.I
)
"""What a controller says, or its silence, that is busy or starts anew."""
NO_LIMIT_MIN = 60 * 24 * 365
OWN_OPTIONS = frozenset({"array", "error", "job_name", "open_mode", "output", "wrap"})


class BusyError(RuntimeError):
    """SLURM did not take an array now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What one job of the array may use, and where the array runs.

    `debug` is this process, `local` processes of this machine (no limit of time or memory is
    imposed there), `slurm` a job array. Memory is in MB, run time in minutes; an empty string
    leaves partition and account to the site. `jobs` bounds how many jobs run at once, and
    `job_gvoxel` how many billions of voxels a job on SLURM gets, where its work has voxels.
    `slurm_setup` are shell commands that a job on SLURM begins with, `slurm_python` the words that
    start its Python; empty: the one that runs this.
    `slurm_answers` is a folder where drivers share what SLURM says; empty: each asks for itself.
    `exclude` are nodes that get no job.
    """

    place: Place
    jobs: int
    job_gvoxel: float
    cpus_per_task: int
    mem_mb: int
    runtime: int
    gpu: int
    slurm_partition: str
    slurm_account: str
    slurm_extra: str
    slurm_setup: str = ""
    slurm_python: str = ""
    slurm_answers: str = ""
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for setting in ("jobs", "cpus_per_task", "mem_mb", "runtime"):
            if getattr(self, setting) < 1:
                raise ValueError(f"{setting} is {getattr(self, setting)}: it must be at least 1.")
        if not self.job_gvoxel > 0:
            raise ValueError(
                f"job_gvoxel is {self.job_gvoxel}: it must be above 0. In a profile write a part of"
                " one as \"'0.5'\", since Snakemake rounds numbers."
            )
        if self.gpu < 0:
            raise ValueError(f"gpu is {self.gpu}: it must be 0 or more.")
        _options(self.slurm_extra)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `allocation` reads."""
    add = parser.add_argument_group("where the work runs, and what one job may use").add_argument
    add(
        "--place",
        choices=("debug", "local", "slurm"),
        default="debug",
        help="this process, processes of this machine, or a SLURM job array; %(default)s",
    )
    add("--jobs", type=int, default=1, help="at most so many jobs at once; %(default)s")
    add(
        "--job-gvoxel",
        type=float,
        default=math.inf,
        help="at most so many billions of voxels for a job on SLURM; %(default)s",
    )
    add("--cpus-per-task", type=int, default=1, help="CPU cores of a job; %(default)s")
    add("--mem-mb", type=int, default=4000, help="memory of a job in MB; %(default)s")
    add("--runtime", type=int, default=60, help="time limit of a job in minutes; %(default)s")
    add("--gpu", type=int, default=0, help="GPUs of a job; %(default)s")
    add("--slurm-partition", default="", help="partition; empty: the site's default")
    add("--slurm-account", default="", help="account; empty: the site's default")
    add(
        "--slurm-extra",
        default="",
        help='more options for sbatch, joined by "=": --slurm-extra="--qos=long --nice=5"',
    )
    add(
        "--slurm-setup",
        default="",
        help='shell commands that each job begins with, such as "module load cuda/12"',
    )
    add(
        "--slurm-python",
        default="",
        help='words that start Python in a job, such as "apptainer exec image.sif python";'
        " empty: the one that runs this",
    )
    add(
        "--slurm-answers",
        default="",
        help="folder where drivers share what SLURM says, so that together they ask once",
    )


def allocation(arguments: argparse.Namespace) -> Allocation:
    """The allocation that the options describe. Raises ValueError for a value out of range."""
    names = [field.name for field in dataclasses.fields(Allocation) if field.name != "exclude"]
    return Allocation(**{name: getattr(arguments, name) for name in names})


def submit(
    calls: Sequence[Callable[[], None]], allocation: Allocation, folder: Path, name: str
) -> Sequence[submitit.Job[None]]:
    """Start one job per call: a SLURM array called `name`, or processes of this machine.

    `folder` takes pickles and logs. Raises RuntimeError when SLURM refuses the array, `BusyError`
    when it may take it later, and may even have taken it.
    """
    settings, asked = _job_environment(allocation), parameters(allocation, name)
    executor: submitit.SlurmExecutor | submitit.LocalExecutor
    with _environment(settings):
        if allocation.place == "local":
            # a machine of one's own has no queue, so nothing is gained by a limit of time
            executor = submitit.LocalExecutor(folder)
            executor.update_parameters(timeout_min=NO_LIMIT_MIN)
        else:
            # exec: SLURM's signals reach the job's Python itself, not a shell that dies of them
            python = allocation.slurm_python or shlex.quote(sys.executable)
            executor = submitit.SlurmExecutor(folder, python=f"exec {python}")
            executor.update_parameters(**asked)
        try:
            return executor.submit_array(calls)
        except FailedJobError as error:
            if PASSING.search(str(error)):
                raise BusyError(str(error).strip()) from error
            raise RuntimeError(
                f"{name}: SLURM refused the array: {str(error).strip()}. Check what the"
                " profile asks for: partition, account, memory, run time, GPUs, jobs."
            ) from error


def parameters(allocation: Allocation, name: str) -> dict[str, Any]:
    """The array's parameters in submitit's words."""
    exports = [
        f"export {key}={shlex.quote(value)}" for key, value in _job_environment(allocation).items()
    ]
    return {
        "job_name": name,
        "time": allocation.runtime,
        "mem": f"{allocation.mem_mb}M",
        "cpus_per_task": allocation.cpus_per_task,
        "gpus_per_node": allocation.gpu or None,
        "partition": allocation.slurm_partition or None,
        "account": allocation.slurm_account or None,
        "array_parallelism": allocation.jobs,
        "setup": [*_setup(allocation.slurm_setup), *exports],
        # srun inside a job gets one CPU unless told otherwise (since SLURM 22.05), and asks the
        # controller once more; one process per job needs none
        "use_srun": False,
        "wckey": None,  # submitit would invent one, which sites that use such keys refuse
        "additional_parameters": _excluding(_options(allocation.slurm_extra), allocation.exclude),
    }


def _excluding(options: dict[str, str | bool], nodes: Sequence[str]) -> dict[str, str | bool]:
    """Options that exclude these nodes, too."""
    if not nodes:
        return options
    own = options.get("exclude", "")
    return options | {
        "exclude": ",".join([*([own] if isinstance(own, str) and own else []), *nodes])
    }


def _setup(commands: str) -> list[str]:
    """Lines that run these commands, and end a job whose environment they cannot make."""
    if not commands.strip():
        return []
    return ["{", commands, f"}} || {{ echo '{SETUP_FAILED}' >&2; exit 1; }}"]


def _options(extra: str) -> dict[str, str | bool]:
    """Options for sbatch, by name. Raises ValueError for what is none, or is not free."""
    options: dict[str, str | bool] = {}
    for word in shlex.split(extra):
        option, equals, value = word.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or not key or key in OWN_OPTIONS:
            raise ValueError(
                f"slurm_extra holds {word!r}: write --option=value or --option, and none of"
                f" {', '.join(sorted(OWN_OPTIONS))}, which the array needs itself."
            )
        options[key] = value if equals else True
    return options


def _job_environment(allocation: Allocation) -> dict[str, str]:
    """Variables of a job: its number of threads, and where it finds this package."""
    package = str(Path(__file__).resolve().parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {
        "OMP_NUM_THREADS": str(allocation.cpus_per_task),
        "PYTHONPATH": f"{package}{os.pathsep}{inherited}" if inherited else package,
    }


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """The environment with `settings`, and without what an enclosing SLURM job says of itself."""
    before = dict(os.environ)
    for key in before:
        if key.startswith(("SLURM_", "SRUN_", "SBATCH_")) and key != "SLURM_CONF":
            del os.environ[key]
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def devices(allocation: Allocation) -> list[str]:
    """For each job that fits on this machine at once, its GPUs as CUDA names them."""
    if not allocation.gpu:
        return [""]
    import torch  # takes seconds, and only GPUs of this machine need it

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",")[:count] if named else [str(index) for index in range(count)]
    if len(visible) < allocation.gpu:
        raise ValueError(
            f"gpu is {allocation.gpu}, but PyTorch sees {count} on this machine: set gpu to"
            f" {count} in the profile, or place to slurm."
        )
    starts = range(0, len(visible) - allocation.gpu + 1, allocation.gpu)
    return [",".join(visible[start : start + allocation.gpu]) for start in starts]
