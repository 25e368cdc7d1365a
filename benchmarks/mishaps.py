"""What happens to jobs on a cluster: each mishap is done to a stage that runs."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tifffile

from benchmarks import site
from benchmarks.driven import Scene

PATIENCE_S, LOOK_S = 300.0, 0.2
SILENT_S = 60
PREEMPTIONS = 3
"""How often in a row."""
SHOW = ("scontrol", "--oneliner", "show", "job")
LITTLE_MB = 40
"""Less than Python and the stage's libraries take."""


@dataclass(slots=True)
class Running:
    """A stage that has begun; it may be begun again.

    Attributes
    ----------
    tools: folder with the commands that count; see `site.counting`.
    raw: the raw file.
    """

    scene: Scene
    process: subprocess.Popen[bytes]
    tools: Path
    raw: Path

    @property
    def folder(self) -> Path:
        """Where the driver keeps its records."""
        return self.scene.receipt.with_suffix(".jobs")

    def events(self) -> list[dict[str, Any]]:
        """What the driver recorded."""
        path = self.folder / "events.jsonl"
        return list(map(json.loads, path.read_text().splitlines())) if path.is_file() else []

    def array(self) -> dict[str, Any]:
        """The record of the last array."""
        return dict(json.loads((self.folder / "array.json").read_text()))

    def node(self) -> str:
        """Where the first job runs."""
        return site.said("squeue", "--noheader", "--format=%N", f"--jobs={self.array()['jobs'][0]}")

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds, or the driver has ended.

        Raises RuntimeError where neither happens.
        """
        end = time.monotonic() + PATIENCE_S
        while not condition() and self.process.poll() is None:
            if time.monotonic() > end:
                raise RuntimeError(f"nothing happened in {PATIENCE_S:.0f} s: {self.scene.log}")
            time.sleep(LOOK_S)

    def further(self, shards: int) -> None:
        """Wait until so many more shards are recorded."""
        enough = len(self.scene.recorded()) + shards
        self.until(lambda: len(self.scene.recorded()) >= enough)


def nothing(_: Running) -> None:
    """What happens is in the options already, or there is nothing to mend."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """One of them.

    Attributes
    ----------
    name: what happens.
    strike: does it to a stage that has recorded some shards.
    kinds: classes of the events that must be logged, one for each.
    stops: whether the driver has to stop; what `mend` does follows, then the same command.
    options: of the command, beside or instead of those of a calm run.
    site: settings of the SLURM.
    """

    name: str
    strike: Callable[[Running], None]
    kinds: tuple[str, ...]
    stops: bool = False
    mend: Callable[[Running], None] = nothing
    options: Mapping[str, object] = field(default_factory=dict)
    site: Mapping[str, object] = field(default_factory=dict)


def limit(running: Running) -> None:
    """A job hangs until the limit of its time strikes."""
    job = running.array()["jobs"][0]
    site.said("scancel", "--full", "--signal=STOP", job)
    site.said("scontrol", "update", f"jobid={job}", "timelimit=0:01")


def preempt(running: Running) -> None:
    """A job that counts more takes the node, again and again."""
    job = running.array()["jobs"][0]
    for number in range(PREEMPTIONS):
        again = {f"Restarts={number + 1}", "JobState=RUNNING"}
        words = ("-pcpu", "-wc1", "-c4", "--mem=100M", "-o/dev/null", "--wrap=sleep 1")
        site.said("sbatch", *words)
        running.until(lambda again=again: again <= set(site.said(*SHOW, job).split()))  # type: ignore[misc]
        running.further(10)


def cancel(running: Running) -> None:
    """Somebody cancels a job."""
    site.said("scancel", running.array()["jobs"][0])


def node_down(running: Running) -> None:
    """The node of a job goes down, and comes back when that was noticed."""
    with site.down(running.node()):
        running.until(running.events)


def spoil(running: Running) -> None:
    """A late page of the raw file, which is compressed, becomes unreadable."""
    shutil.copy2(running.raw, running.raw.with_suffix(".whole"))
    with tifffile.TiffFile(running.raw) as raw:
        page = raw.pages[-2]
        start, count = page.dataoffsets[0], page.databytecounts[0]
    with running.raw.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * count)


def restore(running: Running) -> None:
    """The raw file is what it was."""
    shutil.copy2(running.raw.with_suffix(".whole"), running.raw)


def kill_driver(running: Running) -> None:
    """The driver is killed, and the command is given again."""
    running.process.kill()
    running.process.wait()
    running.process = running.scene.start()


def mute(running: Running) -> None:
    """`squeue` fails for a while, and a job is cancelled in it."""
    (running.tools / "bar").write_text(f"{time.time() + SILENT_S:.0f}")
    cancel(running)


def fill(running: Running) -> None:
    """Somebody fills the disk."""
    with (running.scene.receipt.parent / "ballast").open("wb", buffering=0) as full:
        try:
            while full.write(bytes(4096)):
                pass
        except OSError:
            return


def make_room(running: Running) -> None:
    """The disk has room again."""
    (running.scene.receipt.parent / "ballast").unlink()


MISHAPS = (
    Mishap("a job hangs, and times out", limit, ("time",)),
    Mishap(
        "preempted 3 times in a row",
        preempt,
        ("preemption",) * PREEMPTIONS,
        options={"--jobs": 1, "--slurm-partition": "preempt0", "--slurm-extra": "--nodelist=c1"},
    ),
    Mishap("a job cancelled by somebody", cancel, ("cancelled",)),
    Mishap("node down, job requeued", node_down, ("node",), options={"--cpus-per-task": 4}),
    Mishap(
        "node down, job not requeued",
        node_down,
        ("node",),
        options={"--cpus-per-task": 4, "--slurm-extra": "--no-requeue"},
    ),
    Mishap("too little memory", nothing, ("memory",), options={"--mem-mb": LITTLE_MB, "--jobs": 1}),
    Mishap("an error in the data", spoil, ("error",), stops=True, mend=restore),
    Mishap("the driver killed, and started again", kill_driver, ()),
    Mishap("squeue fails from then on, a job cancelled", mute, ("cancelled",)),
    Mishap(
        "an array larger than the site's limit of 4",
        nothing,
        (),
        options={"--job-gvoxel": 0.0005},
        site={"array": 4},
    ),
    Mishap("the disk full", fill, ("disk",), stops=True, mend=make_room),
    Mishap("a job cancelled, with accounting", cancel, ("cancelled",), site={"accounting": 1}),
)
