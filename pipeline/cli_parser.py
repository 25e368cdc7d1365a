"""What may be typed: commands and their options."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline import __version__, cli_campaign, cluster

Call = Callable[[argparse.Namespace], None]
Command = Callable[[str, str], argparse.ArgumentParser]
"""Adds a command, given its name and what it does."""


def parser(calls: Mapping[str, Call]) -> argparse.ArgumentParser:
    """The command line; each command's `call` is the one of its name."""
    whole = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Few-shot, equivariant microscopy: one stage at a time. `snakemake` runs them "
        "all, in order, and only those that are needed.",
        epilog="@FILE stands for the arguments in FILE, one per line.",
        fromfile_prefix_chars="@",
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(call=calls[name])
        return added

    _before(command)
    _stages(command)
    _afterwards(command)
    return whole


def _before(command: Command) -> None:
    """What looks at a campaign and its files."""
    doctor = command("doctor", "check a campaign and its place; say what it takes")
    _add_config(doctor, doctor)
    cli_campaign.add_doctor(doctor)

    status = command("status", "say how far a campaign is, and what failed")
    _add_config(status, status)
    status.add_argument("--all", action="store_true", help="one line for each result")

    notify = command("notify", "run the command of `notify`, as the end of a run does")
    _add_config(notify, notify)
    notify.add_argument("outcome", choices=("done", "failed"), help="what became of the run")

    command(
        "diff",
        "say what snakemake, with the options that follow, would make again, why, and what it "
        "costs; write nothing",
    )

    inspect = command("inspect", "say what a file holds and what ingest would make of it")
    inspect.add_argument("path", help="a file, a folder, or a pattern such as cells_{z:04d}.tif")
    _add_config(inspect, inspect)

    verify = command("verify", "check every byte of a volume, its labels and tables")
    verify.add_argument("store", type=Path, help="a volume, results/ingest/NAME.ome.zarr")


def _stages(command: Command) -> None:
    """What makes results."""
    ingest = command("ingest", "raw file -> OME-Zarr volume")
    _add_stage(ingest)
    _add_jobs(ingest)

    pretrain = command("pretrain", "simulated fields -> base model")
    _add_stage(pretrain)
    pretrain.add_argument("--parent", type=Path, help="pretrain receipt of the base to start from")
    _add_jobs(pretrain)

    finetune = command("finetune", "annotated examples -> model")
    _add_stage(finetune)
    _add_receipts(finetune, "--images", "ingest receipts of the shots' acquisitions")
    _add_jobs(finetune)

    predict = command("predict", "model + volume -> labels and table")
    _add_stage(predict)
    predict.add_argument("--image", type=Path, required=True, help="the volume's ingest receipt")
    predict.add_argument("--model", type=Path, required=True, help="the model's finetune receipt")
    _add_jobs(predict)

    plate = command("plate", "volumes of all fields -> one plate that refers to them")
    plate.add_argument(
        "receipt", type=Path, help="file to write when done: results/plate/NAME.json"
    )
    _add_receipts(plate, "--images", "ingest receipts of all fields")

    report = command("report", "all results -> a page that shows and judges them")
    _add_stage(report)
    _add_receipts(report, "--predictions", "predict receipts of the whole campaign")


def _afterwards(command: Command) -> None:
    """What is done with results."""
    export = command("export", "labels and table of a prediction -> other tools' formats")
    export.add_argument("receipt", type=_existing, help="the predict receipt")
    export.add_argument(
        "--as",
        dest="form",
        choices=("dense", "anndata", "napari"),
        required=True,
        help="dense: labels 1 to N in 32 bits, in the volume; anndata: the table as .h5ad; napari: "
        "objects' places as .csv, which napari opens as points",
    )
    export.add_argument("--out", type=Path, help=".h5ad or .csv file (default: beside the receipt)")

    rerun = command("rerun", "do here, unit by unit, what a job left undone, to see it fail")
    rerun.add_argument("job", type=Path, help="ARRAY/ID, as the log says: logs/.../001/15_0")

    replay = command(
        "replay",
        "make a result again from its receipt, elsewhere, and compare; further options say where "
        "its jobs run, as those of its stage do",
    )
    replay.add_argument("receipt", type=_existing, help="the receipt, results/STAGE/NAME.json")
    replay.add_argument("--scratch", type=Path, help="folder to work in, which is kept")

    crate = command("crate", "say in linked data what a campaign's results were made from")
    _add_config(crate, crate)

    prune = command("prune", "say what could be deleted, and delete it if told to")
    _add_config(prune, prune)
    prune.add_argument(
        "--unlisted", action="store_true", help="also results that the settings do not name"
    )
    prune.add_argument("--yes", action="store_true", help="delete it")

    summary = command("summary", "say what a campaign found, and where to look")
    summary.add_argument("receipt", type=Path, help="the report's receipt")


def _existing(text: str) -> Path:
    """A receipt that is there: no command makes folders for one that is mistyped."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no receipt {path}: run its stage first.")
    return path


def _add_stage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "receipt",
        type=Path,
        help="file to write when done: results/STAGE/NAME.json; results lie beside it",
    )
    settings = parser.add_mutually_exclusive_group(required=True)
    settings.add_argument("--settings", help="settings of this one task, as JSON")
    _add_config(parser, settings)


def _add_config(
    parser: argparse.ArgumentParser,
    group: argparse._ActionsContainer,  # the one type of a parser and its groups
) -> None:
    group.add_argument("--config", type=Path, help="the campaign's config.yaml")
    parser.add_argument("--overrides", default="{}", help="JSON that replaces parts of --config")


def _add_receipts(parser: argparse.ArgumentParser, option: str, help_text: str) -> None:
    parser.add_argument(option, type=Path, nargs="+", required=True, help=help_text)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--job-logs",
        type=Path,
        help="folder for the jobs' logs and records (default: beside the receipt)",
    )
    cluster.add_arguments(parser)
