"""The command line: text becomes typed values and one call.

Exit codes: 0 done, 1 the work failed, 2 the command, the settings or the inputs are wrong.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline import __version__, cluster, config
from pipeline.config import Campaign, Section

TaskKind = TypeVar("TaskKind", bound=Section)
log = logging.getLogger("equiscope")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every foreseen failure ends in one sentence, not a traceback."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s {options.command} {_label(options)}%(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        options.call(options)
    except ValueError as fault:
        return _failed(fault, 2)
    except (RuntimeError, OSError) as fault:
        return _failed(fault, 1)
    return 0


def _failed(fault: Exception, code: int) -> int:
    log.debug("", exc_info=fault)
    print(f"equiscope: {fault}", file=sys.stderr)
    return code


def _label(options: argparse.Namespace) -> str:
    receipt = getattr(options, "receipt", None)
    if receipt is None:
        return ""
    name = receipt.stem if options.command != "predict" else f"{receipt.parent.name}/{receipt.stem}"
    return f"{name}: "


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Few-shot, equivariant microscopy: one stage at a time. `snakemake` runs them "
        "all, in order, and only those that are needed.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, call, add, summary in (
        ("doctor", _doctor, _add_nothing, "check a campaign against its files; write nothing"),
        ("ingest", _ingest, _add_nothing, "raw file -> OME-Zarr volume"),
        ("finetune", _finetune, _add_images, "annotated examples -> model"),
        ("predict", _predict, _add_image_and_model, "model + volume -> labels and table"),
        ("report", _report, _add_predictions, "all results -> a page that shows and judges them"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(call=call)
        if name != "doctor":
            command.add_argument(
                "receipt",
                type=Path,
                help="file to write when done, such as results/STAGE/NAME.json; results lie beside it",
            )
            chosen = command.add_mutually_exclusive_group(required=True)
            chosen.add_argument("--settings", help="settings of this one task, as JSON")
        else:
            chosen = command
        chosen.add_argument("--config", type=Path, help="the campaign's config.yaml")
        command.add_argument(
            "--overrides", default="{}", help="JSON that replaces parts of --config"
        )
        add(command)
        if name in ("ingest", "finetune", "predict"):
            command.add_argument(
                "--job-logs",
                type=Path,
                help="folder for the jobs' logs and records (default: beside the receipt)",
            )
            cluster.add_arguments(command)
    return parser


def _add_nothing(_: argparse.ArgumentParser) -> None:
    """Commands that need no other receipt."""


def _add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="ingest receipts of the shots"
    )


def _add_image_and_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, required=True, help="ingest receipt of the volume")
    parser.add_argument("--model", type=Path, required=True, help="finetune receipt of the model")


def _add_predictions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--predictions", type=Path, nargs="+", required=True, help="all predict receipts"
    )


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
    try:
        overrides: dict[str, Any] = json.loads(options.overrides)
    except json.JSONDecodeError as error:
        raise ValueError(f"--overrides is no JSON: {error}.") from error
    return config.load(options.config or Path("config.yaml"), overrides)


def _run(options: argparse.Namespace) -> Callable[[cluster.Work[Any]], None]:
    allocation = cluster.allocation(options)
    folder = options.job_logs or options.receipt.with_suffix(".jobs")
    name = f"{options.command}-{options.receipt.stem}"

    def run(work: cluster.Work[Any]) -> None:
        cluster.complete(work, allocation, folder, name)

    return run


def _doctor(options: argparse.Namespace) -> None:
    from pipeline import doctor

    faults = doctor.examine(_campaign(options))
    if faults:
        raise ValueError("\n".join(faults))
    log.info("the campaign can run")


def _ingest(options: argparse.Namespace) -> None:
    from pipeline import ingest

    name = options.receipt.stem
    task = _task(options, config.IngestTask, lambda campaign: campaign.ingest_task(name))
    ingest.ingest(options.receipt, task, _run(options))


def _finetune(options: argparse.Namespace) -> None:
    from pipeline import finetune

    name = options.receipt.stem
    task = _task(options, config.FinetuneTask, lambda campaign: campaign.finetune_task(name))
    images = {path.stem: path for path in options.images}
    finetune.finetune(options.receipt, images, task, _run(options))


def _predict(options: argparse.Namespace) -> None:
    from pipeline import predict

    task = _task(options, config.PredictTask, lambda campaign: campaign.predict_task())
    predict.predict(
        options.receipt, options.image, options.model, task, options.cpus_per_task, _run(options)
    )


def _report(options: argparse.Namespace) -> None:
    from pipeline import report

    task = _task(options, config.ReportTask, lambda campaign: campaign.report_task())
    predictions = {(path.parent.name, path.stem): path for path in options.predictions}
    report.report(options.receipt, predictions, task)
