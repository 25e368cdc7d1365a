"""The command line: text becomes typed values and one call.

Exit codes: 0 done, 1 the work failed, 2 the command, the settings or the inputs are wrong.
"""

import argparse
import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline import campaigns, cli_campaign, cli_parser, cluster, config, provenance
from pipeline.config import Campaign
from pipeline.sections import Section

TaskKind = TypeVar("TaskKind", bound=Section)
log = logging.getLogger("equiscope")
STAGES = ("ingest", "pretrain", "finetune", "predict", "plate", "report")
INPUTS = ("parent", "images", "image", "model", "predictions")
"""Options that name receipts that a stage starts from."""
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a disk that is full or read-only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every foreseen failure ends in one sentence, not a traceback."""
    parser = cli_parser.parser(CALLS)
    options, further = parser.parse_known_args(arguments)
    if further and options.command not in ("diff", "replay"):
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    options.further = further
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s {options.command} {_label(options)}%(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        with _alone(options), _recorded(options):
            options.call(options)
    except ValueError as fault:
        return _failed(fault, 2)
    except (RuntimeError, OSError) as fault:
        return _failed(fault, 1)
    return 0


def _failed(fault: Exception, code: int) -> int:
    log.debug("", exc_info=fault)
    print(f"equiscope: {_sentence(fault)}", file=sys.stderr)
    return code


def _sentence(fault: Exception) -> str:
    """What happened and what to do; of a disk that fails, the system says the first alone."""
    if not isinstance(fault, OSError) or fault.errno not in DISK:
        return str(fault)
    where = f" ({fault.filename})" if fault.filename else ""
    return (
        f"{os.strerror(fault.errno)}{where}. Make room on the disk that holds the results, or "
        "have it mounted writable, and run again: what was written stays."
    )


@contextlib.contextmanager
def _alone(options: argparse.Namespace) -> Iterator[None]:
    """Wait until no other process makes the same result: one whose Snakemake was killed goes on."""
    if not hasattr(options, "receipt") or options.command in ("summary", "replay"):
        yield
        return
    path: Path = options.receipt.with_name(f".{options.receipt.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process still makes this result: waiting for its end")
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            log.debug("no lock on %s: %s", path, error)  # a file system without locks
        yield


@contextlib.contextmanager
def _recorded(options: argparse.Namespace) -> Iterator[None]:
    """Of a stage: write down, beside the receipt, what made the result."""
    if options.command not in STAGES:
        yield
        return
    clock = provenance.Clock.start()
    yield
    has_jobs = hasattr(options, "job_logs")
    asked = dataclasses.asdict(cluster.allocation(options)) if has_jobs else {}
    allocation = {key: value for key, value in asked.items() if value not in ("", math.inf)}
    jobs = cluster.known(_job_logs(options)) if has_jobs else {}
    given = [getattr(options, name, None) or [] for name in INPUTS]
    inputs = [one for ones in given for one in (ones if isinstance(ones, list) else [ones])]
    provenance.write(
        options.receipt,
        inputs,
        clock,
        allocation,
        {name: dataclasses.asdict(job) for name, job in jobs.items()},
    )
    if options.command == "report":
        from pipeline import crate, report_costs

        report_costs.write(options.receipt)
        crate.write(options.receipt)


def _job_logs(options: argparse.Namespace) -> Path:
    return options.job_logs or options.receipt.with_suffix(".jobs")


def _label(options: argparse.Namespace) -> str:
    receipt = getattr(options, "receipt", None)
    if receipt is None:
        return ""
    is_of_model = options.command in ("predict", "export")
    name = f"{receipt.parent.name}/{receipt.stem}" if is_of_model else receipt.stem
    return f"{name}: "


def _task(
    options: argparse.Namespace, kind: type[TaskKind], of: Callable[[Campaign], TaskKind]
) -> TaskKind:
    """The settings of one task, from --settings or the part of --config that `of` picks."""
    if options.settings is None:
        return of(_campaign(options))
    try:
        return kind.model_validate_json(options.settings)
    except ValidationError as error:
        raise ValueError(f"--settings does not hold a {options.command} task: {error}") from error


def _campaign(options: argparse.Namespace) -> Campaign:
    return campaigns.load(*_given(options)).campaign


def _given(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The file of a campaign's settings, and what the command line says instead."""
    try:
        overrides: dict[str, Any] = json.loads(options.overrides)
    except json.JSONDecodeError as error:
        raise ValueError(f"--overrides is no JSON: {error}.") from error
    return options.config or Path("config.yaml"), overrides


def _run(options: argparse.Namespace) -> Callable[[cluster.Work[Any]], None]:
    allocation = cluster.allocation(options)
    folder = _job_logs(options)
    name = f"{options.command}-{options.receipt.stem}"

    def run(work: cluster.Work[Any]) -> None:
        cluster.complete(work, allocation, folder, name)

    return run


def _doctor(options: argparse.Namespace) -> None:
    cli_campaign.doctor(options, lambda: _campaign(options))


def _status(options: argparse.Namespace) -> None:
    cli_campaign.status(options, lambda: _campaign(options))


def _notify(options: argparse.Namespace) -> None:
    cli_campaign.notify(options, lambda: _campaign(options))


def _diff(options: argparse.Namespace) -> None:
    from pipeline import diff

    print(diff.text(diff.diff(Path("config.yaml"), options.further)))


def _inspect(options: argparse.Namespace) -> None:
    from pipeline import inspect

    print(inspect.inspect(options.path, config.load(*_given(options)).ingest))


def _verify(options: argparse.Namespace) -> None:
    from pipeline import verify

    faults = verify.verify(options.store)
    if faults:
        raise OSError("\n".join(faults))
    log.info("%s is whole: every byte is as it was written", options.store)


def _ingest(options: argparse.Namespace) -> None:
    from pipeline import ingest

    name = options.receipt.stem
    task = _task(options, config.IngestTask, lambda campaign: campaign.ingest_task(name))
    ingest.ingest(options.receipt, task, _run(options))


def _pretrain(options: argparse.Namespace) -> None:
    from pipeline import pretrain

    name = options.receipt.stem
    task = _task(options, config.PretrainTask, lambda campaign: campaign.pretrain_task(name))
    pretrain.pretrain(options.receipt, options.parent, task, _run(options))


def _finetune(options: argparse.Namespace) -> None:
    from pipeline import finetune

    name = options.receipt.stem
    task = _task(options, config.FinetuneTask, lambda campaign: campaign.finetune_task(name))
    images = {path.stem: path for path in options.images}
    finetune.finetune(options.receipt, images, task, _run(options))


def _predict(options: argparse.Namespace) -> None:
    from pipeline import predict

    task = _task(options, config.PredictTask, lambda campaign: campaign.predict_task())
    allocation = cluster.allocation(options)
    means = predict.Means(
        workers=allocation.cpus_per_task,
        memory_mb=allocation.mem_mb,
        jobs=lambda work, units: len(cluster.deal(work, units, allocation)),
    )
    predict.predict(options.receipt, options.image, options.model, task, means, _run(options))


def _plate(options: argparse.Namespace) -> None:
    from pipeline import plate

    plate.plate(options.receipt, options.images)


def _report(options: argparse.Namespace) -> None:
    from pipeline import report

    task = _task(options, config.ReportTask, lambda campaign: campaign.report_task())
    predictions = {(path.parent.name, path.stem): path for path in options.predictions}
    results = options.receipt.parent.parent
    report.report(options.receipt, results, predictions, task)


def _export(options: argparse.Namespace) -> None:
    from pipeline import export

    print(export.export(options.receipt, options.form, options.out))


def _rerun(options: argparse.Namespace) -> None:
    if not cluster.rerun(options.job):
        raise RuntimeError(f"{options.job} fails here, too: its traceback stands above.")


def _replay(options: argparse.Namespace) -> None:
    from pipeline import replay

    print(replay.replay(options.receipt, options.scratch, options.further))


def _crate(options: argparse.Namespace) -> None:
    print(cli_campaign.crate(campaigns.load(*_given(options))))


def _prune(options: argparse.Namespace) -> None:
    from pipeline import prune

    with prune.alone():
        things = prune.found(_campaign(options), options.unlisted)
        if options.yes:
            prune.prune(things)
    print(prune.text(things, options.yes))


def _summary(options: argparse.Namespace) -> None:
    from pipeline import report_summary

    print(report_summary.summary(options.receipt))


CALLS = {
    "doctor": _doctor,
    "status": _status,
    "notify": _notify,
    "diff": _diff,
    "inspect": _inspect,
    "verify": _verify,
    "ingest": _ingest,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "predict": _predict,
    "plate": _plate,
    "report": _report,
    "export": _export,
    "rerun": _rerun,
    "replay": _replay,
    "crate": _crate,
    "prune": _prune,
    "summary": _summary,
}
"""What each command does."""
