"""Commands on a whole campaign: check it, say what it takes, say how far it is."""

import argparse
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Campaign

if TYPE_CHECKING:
    from pipeline.allocations import Given
    from pipeline.campaigns import Expanded
    from pipeline.forecast import Estimate

log = logging.getLogger("equiscope.doctor")
PROFILES = Path("profiles")
NOTIFY_S = 60.0
"""A run does not wait longer for its command at the end."""
PROBES = Path("logs/doctor")
"""Where jobs that look around leave what they saw: a folder that all nodes see."""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the options that `doctor` reads."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--profile", help="check what this profile of Snakemake asks for, too")
    where.add_argument(
        "--stages", help="the same, as JSON of stages' options: Snakemake's own call"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="measure nothing: a matter of seconds")
    how.add_argument(
        "--probe", action="store_true", help="send a job of each kind, and say what it sees"
    )
    parser.add_argument(
        "--write-profile",
        metavar="NAME",
        help="write profiles/NAME/config.yaml from what SLURM says of itself, and do nothing else",
    )


def doctor(options: argparse.Namespace, campaign: Callable[[], Campaign]) -> None:
    """Check a campaign and where it is to run; say what it takes.

    Raises ValueError with all faults, one sentence each.
    """
    if options.write_profile:
        print(write_profile(options.write_profile))
        return
    from pipeline import doctor, storage

    checked = campaign()
    faults, sources = doctor.look(checked)
    faults += storage.faults(Path(checked.results), ["ingest", "finetune", "predict"])
    given = _given(options)
    faults += slurm_faults(given)
    if not faults:
        from pipeline import estimate

        make = estimate.counted if options.quick else estimate.measured
        found = make(checked, sources, given)
        faults += room_faults(found, Path(checked.results))
        if not options.quick:
            print(found)
    if not faults and options.probe:
        faults += _probed(given)
    if faults:
        raise ValueError("\n".join(faults))
    log.info("the campaign can run")


def _given(options: argparse.Namespace) -> "Given":
    from pipeline import allocations

    if options.profile:
        return allocations.of_profile(options.profile)
    return allocations.of_options(options.stages or "{}")


def slurm_faults(given: "Given") -> list[str]:
    """What stages ask of SLURM and do not get. Silence of SLURM is no fault: it may be back."""
    stages = given.on_slurm
    if not stages:
        return []
    if shutil.which("sbatch") is None:
        absent = (
            "place is slurm in the profile, but there is no sbatch on this machine: run on a "
            "login node of the cluster, or with profiles/local."
        )
        return [absent]
    from pipeline import grants, requests

    site = grants.look()
    if site is None:
        log.warning("SLURM does not answer: what the profile asks for was not checked")
        return []
    for name in dict.fromkeys(one.slurm_partition for one in stages.values()):
        for partition in site.chosen(name):
            log.info("partition %s", grants.described(partition))
    log.info("an array has at most %g jobs", site.array_size)
    faults = [fault for name, one in stages.items() for fault in requests.faults(site, name, one)]
    if faults:
        return faults
    return [fault for name, one in stages.items() for fault in requests.refused(name, one)]


def room_faults(found: "Estimate", results: Path) -> list[str]:
    """What the disk of the results has too little of."""
    from pipeline import storage
    from pipeline.forecast import size

    room = storage.room(results)
    faults = []
    if room.free_files is not None and found.files > room.free_files:
        faults.append(
            f"results is {str(results)!r}, whose disk has room for {room.free_files:,} more files, "
            f"and the campaign makes up to {found.files:,}. Choose another disk, or make "
            "ingest.shard_voxels larger."
        )
    elif room.free_files is not None and found.files + found.passing > room.free_files:
        log.warning(
            "%s has room for %s more files: those that stay fit, but not with those that go again "
            "if all results were made at once",
            results,
            f"{room.free_files:,}",
        )
    if found.least_bytes > room.free_bytes:
        faults.append(
            f"results is {str(results)!r}, whose disk has {size(room.free_bytes)} free, and the "
            f"campaign needs {size(found.least_bytes)} or more. Make room, or choose another disk."
        )
    elif found.pieces == 0 and found.raw_bytes > room.free_bytes:
        log.warning(
            "%s has %s free, and the campaign makes %s before compression: whether that fits,"
            " python -m pipeline doctor measures",
            results,
            size(room.free_bytes),
            size(found.raw_bytes),
        )
    return faults


def status(options: argparse.Namespace, campaign: Callable[[], Campaign]) -> None:
    """Say how far a campaign is."""
    from pipeline import status

    for line in status.status(campaign()).lines(options.all):
        print(line)


def notify(options: argparse.Namespace, campaign: Callable[[], Campaign]) -> None:
    """Hand the status to the command that the settings name. That it fails is a warning."""
    from pipeline import status

    finished = campaign()
    said = {"EQUISCOPE_CAMPAIGN": finished.campaign, "EQUISCOPE_OUTCOME": options.outcome}
    text = "\n".join([options.outcome, *status.status(finished).lines()]) + "\n"
    try:
        done = subprocess.run(
            finished.notify,
            shell=True,
            input=text,
            text=True,
            env=os.environ | said,
            timeout=NOTIFY_S,
            stdout=sys.stderr,
        )
        failure = f"ends with exit code {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    if failure:
        log.warning("notify is %r, which did not work: %s", finished.notify, failure)


def crate(loaded: "Expanded") -> Path:
    """Write the RO-Crate, and what all cost, of all that a campaign has made. Returns the crate.

    Also of plates, and of acquisitions that no model was used on.
    """
    from pipeline import crate, report_costs

    results = Path(loaded.campaign.results)
    names = [f"ingest/{name}" for name in loaded.campaign.acquisitions]
    names += [f"plate/{name}" for name in loaded.plates]
    receipts = [results / f"{name}.json" for name in names]
    report = results / "report" / "campaign.json"
    report_costs.write(report, receipts)
    return crate.write(report, receipts)


def _probed(given: "Given") -> list[str]:
    from pipeline import probe

    if not given.stages:
        raise ValueError("--probe needs --profile: it says what jobs ask for.")
    return probe.probe(given.stages, PROBES)


def write_profile(name: str) -> str:
    """Draft a profile, and say how to use it.

    Raises ValueError where there is one of this name, or no SLURM to ask.
    """
    from pipeline import drafts, grants

    path = PROFILES / name / "config.yaml"
    if path.exists():
        raise ValueError(f"there is a {path}: give another NAME, or delete it.")
    site = grants.look()
    if site is None:
        raise ValueError(
            "scontrol and sinfo do not answer here: run this on a login node of the cluster."
        )
    text = drafts.profile(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return (
        f"{path} is written: read it, then\n"
        f"  python -m pipeline doctor --profile {path.parent} --probe\n"
        f"  snakemake --profile {path.parent}"
    )
