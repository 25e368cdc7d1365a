"""What each stage's jobs may use: as Snakemake tells it at the start of a run, or a profile."""

import argparse
import asyncio
import contextlib
import io
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline import cluster
from pipeline.cluster import Allocation

RULES = Path(__file__).parents[1] / "workflow" / "resources.yaml"
STAGES = ("ingest", "finetune", "predict")


@dataclass(frozen=True, slots=True)
class Given:
    """The allocation of each stage; and the cores of a run, of which a stage at work takes some.

    Attributes
    ----------
    threads: cores that a stage takes, where that is more than one.
    """

    stages: Mapping[str, Allocation]
    cores: int
    threads: Mapping[str, int] = field(default_factory=dict)

    def at_once(self, stage: str) -> int:
        """How many results of a stage may be at work at once."""
        return max(1, self.cores // self.threads.get(stage, 1))

    @property
    def on_slurm(self) -> dict[str, Allocation]:
        """Those whose jobs are SLURM's."""
        return {name: one for name, one in self.stages.items() if one.place == "slurm"}


def of_options(text: str) -> Given:
    """What a run is about to use: JSON of each stage's options, and of `cores`."""
    try:
        said: dict[str, Any] = json.loads(text)
        cores = int(said.pop("cores", 1))
        return Given({stage: _allocation(options) for stage, options in said.items()}, cores)
    except (json.JSONDecodeError, SystemExit, argparse.ArgumentError) as error:
        raise ValueError(f"--stages is {text!r}: it must be JSON of stages' options.") from error


def of_profile(name: str) -> Given:
    """What a profile of Snakemake gives, found and read as Snakemake does it.

    Raises ValueError where there is none of this name, or a value is out of range.
    """
    from snakemake.cli import parse_args
    from snakemake.exceptions import CliException

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _, options = parse_args(["--profile", name])
    except (CliException, SystemExit, OSError, yaml.YAMLError) as error:
        reason = said.getvalue().strip().splitlines()[-1:] or [str(error)]
        raise ValueError(
            f"--profile is {name!r}, which Snakemake cannot use: {reason[0]} Give a folder that "
            "holds a config.yaml, such as profiles/slurm."
        ) from error
    rules: dict[str, dict[str, Any]] = yaml.safe_load(RULES.read_text())
    every = _values(options.default_resources or {})
    own = {stage: _values(given) for stage, given in (options.set_resources or {}).items()}
    stages = {}
    for stage in STAGES:
        values = every | rules[stage] | own.get(stage, {})
        try:
            stages[stage] = _allocation(_options(values))
        except (ValueError, SystemExit, argparse.ArgumentError) as fault:
            raise ValueError(f"set-resources.{stage} of the profile {name}: {fault}") from fault
    cores = options.cores if isinstance(options.cores, int) else os.cpu_count() or 1
    threads = {stage: int(count) for stage, count in _values(options.set_threads or {}).items()}
    return Given(stages, cores, threads)


def _values(resources: Any) -> dict[str, Any]:
    """Values of resources; of those that are functions, the one for a job's first try."""
    from snakemake.resources import Resource

    found = {}
    for name in resources:
        resource = resources[name]
        if not isinstance(resource, Resource):
            found[name] = resource
            continue
        with contextlib.suppress(Exception):  # one that needs the job's files says nothing yet
            if resource.is_evaluable():
                resource = resource.evaluate(
                    None, input=[], attempt=1, threads=1, rulename="", async_run=asyncio.run
                )
            found[name] = resource.value
    return found


def _options(values: Mapping[str, Any]) -> str:
    """A stage's resources as its options."""
    names = ["place", "jobs", "cpus_per_task", "mem_mb", "runtime", "gpu", "job_gvoxel"]
    names += ["slurm_partition", "slurm_account", "slurm_extra", "slurm_setup", "slurm_python"]
    given = {name: values[name] for name in names if name in values}
    return shlex.join(f"--{name.replace('_', '-')}={value}" for name, value in given.items())


def _allocation(options: str) -> Allocation:
    parser = argparse.ArgumentParser(prog="a stage", exit_on_error=False)
    cluster.add_arguments(parser)
    return cluster.allocation(parser.parse_args(shlex.split(options)))
