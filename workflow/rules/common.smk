"""Input functions and what all rules share. No rules, no logic of the science."""

import datetime
import fcntl
import getpass
import json
import os
import shlex
import socket
import subprocess

import yaml

# Rules say `python`: it is the one that runs Snakemake, whatever else the machine has. What fails
# before `tee` has failed: a prefix of one's own takes the place of Snakemake's, which says so.
# Nothing is written outside the campaign's folder: matplotlib would keep its fonts at home.
FONTS = str(Path(".snakemake/matplotlib").absolute())
shell.prefix(
    "set -euo pipefail;"
    f" export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    f" MPLCONFIGDIR={shlex.quote(FONTS)}; "
)


PIPELINE = [sys.executable, "-m", "pipeline"]
OVERRIDES = ".snakemake/overrides.arguments"
"""What the command line of Snakemake sets, for those who read config.yaml themselves."""
RESOURCES = yaml.safe_load(
    (Path(workflow.basedir) / "workflow" / "resources.yaml").read_text()
)
"""What a job of each stage may use, where a profile says nothing else."""
REPORT_ARGUMENTS = f"{LOGS}/report/campaign.arguments"
"""Names all predictions of a campaign: more than a command line holds."""
PLATE_ARGUMENTS = f"{LOGS}/plate/{{plate}}.arguments"
"""Names all fields of a plate."""


wildcard_constraints:
    acquisition="[^/]+",
    base="[^/]+",
    model="[^/]+",
    plate="[^/]+",


def cluster(wildcards, resources):
    """Where a stage's jobs run and what each may use: a rule's resources, as options.

    A function of resources, so that other resources rerun nothing.
    """
    names = ("jobs", "cpus_per_task", "mem_mb", "runtime", "gpu")
    given = {"place": resources.get("place", "local")}
    given |= {name: resources.get(name) for name in names}
    if "job_gvoxel" in resources.keys():
        given["job_gvoxel"] = resources.job_gvoxel
    given |= {
        name: resources.get(name, "")
        for name in (
            "slurm_partition",
            "slurm_account",
            "slurm_extra",
            "slurm_setup",
            "slurm_python",
        )
    }
    if given["place"] == "slurm":
        given["slurm_answers"] = f"{LOGS}/slurm"
    return " ".join(
        f"--{name.replace('_', '-')}={shlex.quote(str(value))}"
        for name, value in given.items()
    )


def located(where, path):
    """Where a file of the campaign is; what is nowhere ends the run with its sentence."""
    try:
        return str(settings.watched(settings.locate(path)))
    except ValueError as fault:
        raise SystemExit(f"equiscope: {where}: {fault}") from None


PREDICTED = sorted({name for _, name in campaign.pairs})
"""Acquisitions that a model is used on."""
RAW_FILES = {
    name: located(f"acquisitions.{name}.path", acquisition.path)
    for name, acquisition in campaign.acquisitions.items()
}
LABEL_FILES = {
    entry.labels.path: located(
        f"models.{name}.{kind}.{number}.labels.path", entry.labels.path
    )
    for name, model in campaign.models.items()
    for kind in ("shots", "references")
    for number, entry in enumerate(getattr(model, kind))
    if entry.labels
}


def raw_file(wildcards):
    """The file or folder of an acquisition."""
    return RAW_FILES[wildcards.acquisition]


def plate_volumes(wildcards):
    """Ingest receipts of all fields of a plate."""
    return [f"{RESULTS}/ingest/{name}.json" for name in PLATES[wildcards.plate]]


def parent_base(wildcards):
    """Pretrain receipt of the base that another starts from, if it does."""
    parent = campaign.pretrain.bases[wildcards.base].parent
    return [] if parent == "none" else f"{RESULTS}/pretrain/{parent}.json"


def shot_volumes(wildcards):
    """Ingest receipts of the acquisitions that a model learns from, else is to look at."""
    model = campaign.models[wildcards.model]
    learned_from = [shot.acquisition for shot in model.shots] or model.acquisitions[:1]
    return [f"{RESULTS}/ingest/{name}.json" for name in dict.fromkeys(learned_from)]


def shot_labels(wildcards):
    """Label files that a model learns from."""
    shots = campaign.models[wildcards.model].shots
    paths = dict.fromkeys(shot.labels.path for shot in shots if shot.labels)
    return [LABEL_FILES[path] for path in paths]


def predictions(wildcards):
    """Predict receipts of the whole campaign."""
    return [f"{RESULTS}/predict/{model}/{name}.json" for model, name in campaign.pairs]


def references(wildcards):
    """Label files that predictions are scored against."""
    paths = [
        r.labels.path for model in campaign.models.values() for r in model.references
    ]
    return [LABEL_FILES[path] for path in dict.fromkeys(paths)]


def arguments_in(path, *arguments):
    """Write arguments to a file, which a command line gives as @FILE. Returns that."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(f"{argument}\n" for argument in arguments))
    return f"@{path}"


def start():
    """Before the first job: nobody else is at work here, and the doctor finds no fault."""
    claim()
    arguments_in(OVERRIDES, "--overrides", json.dumps(config))
    stages = arguments_in(".snakemake/stages.arguments", "--stages", asked_for())
    if told("doctor", "--quick", stages):
        raise SystemExit(2)
    arguments_in(
        REPORT_ARGUMENTS,
        f"{RESULTS}/report/campaign.json",
        "--predictions",
        *predictions(None),
        "--settings",
        campaign.report_task().model_dump_json(),
    )
    for plate, fields in PLATES.items():
        arguments_in(
            PLATE_ARGUMENTS.format(plate=plate),
            f"{RESULTS}/plate/{plate}.json",
            "--images",
            *(f"{RESULTS}/ingest/{name}.json" for name in fields),
        )


def told(*command, **options):
    """Run a command of the pipeline on this campaign. Returns how it ended."""
    command = [*PIPELINE, *command, "--config", "config.yaml", f"@{OVERRIDES}"]
    return subprocess.call(command, env=dict(os.environ, MPLCONFIGDIR=FONTS), **options)


def claim():
    """Take the campaign's lock, or say who has it, and stop.

    The system lets go of the lock when this process ends, however it ends, so that a killed run
    needs no unlocking.
    """
    global lock
    path = Path(".snakemake/campaign.lock")
    try:
        lock = path.open("a+")
    except (
        PermissionError
    ):  # of somebody whose files others may not write: it locks all the same
        lock = path.open()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = path.read_text().strip() or "somebody who has not said so yet"
        raise SystemExit(
            f"equiscope: another snakemake is at work on this campaign: {holder}. Wait for it, "
            "or end it."
        ) from None
    except OSError:
        pass  # a file system without locks; each stage still guards its own result
    if lock.writable():
        lock.truncate(0)
        lock.write(
            f"{getpass.getuser()} on {socket.gethostname()}, process {os.getpid()}, since "
            f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}\n"
        )
        lock.flush()


def asked_for():
    """What each stage that is to run asks for, as JSON: the options of its first job."""
    asked = {"cores": workflow.resource_settings.cores}
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in RESOURCES and job.rule.name not in asked:
            asked[job.rule.name] = str(job.params.cluster)
    return json.dumps(asked)


def describe():
    """Say, in linked data, what all results were made from, now that all are there."""
    if Path(f"{RESULTS}/report/campaign.json").is_file():
        told("crate", stdout=subprocess.DEVNULL)


def notify(outcome):
    """Hand what became of the run to the command that `notify` names, if it names one."""
    if campaign.notify:
        told("notify", outcome)
