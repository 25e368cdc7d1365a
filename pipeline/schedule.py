"""What Snakemake would run now, asked of Snakemake itself."""

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JOB = "job_info"
"""The event of Snakemake's log that tells of one job."""


@dataclass(frozen=True, slots=True)
class Job:
    """One result that Snakemake would have made.

    Attributes
    ----------
    stage, name: such as `predict` and `nuclei/wound`; the rule, and what its wildcards stand for.
    receipt, inputs: files; of the inputs, those that are receipts too.
    reason: why, in Snakemake's words.
    """

    stage: str
    name: str
    receipt: Path
    inputs: tuple[Path, ...]
    reason: str

    @property
    def unit(self) -> str:
        """The result, as STAGE/NAME."""
        return f"{self.stage}/{self.name}"


class _Listener(logging.Filter):
    """Takes note of jobs, and lets nothing be printed but errors."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Mapping[str, Any]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if str(getattr(record, "event", "")).lower().endswith(JOB):
            self.jobs.append(dict(record.__dict__))
        return record.levelno >= logging.ERROR


def overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """What Snakemake's options `--config` and `--configfile`, and its profile's, replace.

    Raises ValueError, with Snakemake's own words, for options that it does not know.
    """
    from snakemake import cli
    from snakemake.settings.types import ConfigSettings

    with contextlib.redirect_stderr(io.StringIO()) as said:  # which profile; the dry run says so
        try:
            _, given = cli.parse_args(list(arguments))
        except SystemExit:
            raise ValueError(said.getvalue().strip()) from None
    settings = ConfigSettings(config=cli.parse_config(given.config), configfiles=given.configfile)
    return dict(settings.overwrite_config)


def jobs(arguments: Sequence[str], results: Path) -> list[Job]:
    """The jobs of a dry run with these options of Snakemake, each after those it needs.

    `results` is the campaign's folder of results. Snakemake judges, by what it keeps in
    `.snakemake` and by its options; nothing runs, and nothing is written but what it keeps there.
    Raises ValueError where the campaign cannot run, RuntimeError where Snakemake says no more.
    """
    from snakemake import cli
    from snakemake.logging import logger

    listener = _Listener()
    logger.addFilter(listener)
    try:
        cli.main([*arguments, "--dry-run"])
    except SystemExit as end:
        if isinstance(end.code, str):
            raise ValueError(end.code.removeprefix("equiscope: ")) from None
        if end.code:
            raise RuntimeError("snakemake cannot plan this; its words stand above.") from None
    finally:
        logger.removeFilter(listener)
    found = [_job(said, results) for said in listener.jobs if said["output"]]
    return _ordered({job.receipt: job for job in found})


def _job(said: Mapping[str, Any], results: Path) -> Job:
    receipt = Path(said["output"][0])
    name = receipt.relative_to(results / said["rule_name"]).with_suffix("")
    return Job(
        stage=said["rule_name"],
        name=str(name),
        receipt=receipt,
        inputs=tuple(
            path
            for path in map(Path, said["input"])
            if path.suffix == receipt.suffix and path.is_relative_to(results)
        ),
        reason=" ".join(str(said["reason"]).split()),
    )


def _ordered(jobs: Mapping[Path, Job]) -> list[Job]:
    found: dict[Path, Job] = {}

    def add(job: Job) -> None:
        for path in job.inputs:
            if path in jobs and path not in found:
                add(jobs[path])
        found.setdefault(job.receipt, job)

    for job in jobs.values():
        add(job)
    return list(found.values())
