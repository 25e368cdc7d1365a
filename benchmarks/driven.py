"""Stages as commands: their processes, and the files that they leave."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

import pipeline
from benchmarks import staging
from pipeline import receipts, shards
from pipeline.config import IngestTask

HOME = Path(pipeline.__file__).resolve().parents[1]
LOCAL: Mapping[str, object] = {"--place": "local", "--mem-mb": 4000}
"""Resources of jobs that are processes of this machine."""
HARMED = SHORTENED, EMPTIED, DELETED = "shortened", "emptied", "deleted"
"""How a crash of the machine may leave a file that was not yet on the disk."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One command of a stage, and where its result comes to lie.

    Attributes
    ----------
    words: of the command, after `python -m pipeline`.
    building: where the store grows.
    results: where it is published, and what is published with it.
    variables: of the environment.
    """

    receipt: Path
    words: tuple[str, ...]
    building: Path
    results: tuple[Path, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.Popen[bytes]:
        """Give the command, its output going to a log."""
        command = [sys.executable, "-m", "pipeline", *self.words]
        variables = os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
        variables |= self.variables
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, cwd=HOME, env=variables, start_new_session=True
            )

    @property
    def log(self) -> Path:
        """What the commands say."""
        return self.receipt.with_suffix(".log")

    def recorded(self) -> list[Path]:
        """The shards' records."""
        return list(shards.units_folder(self.building).glob("*.json"))

    def settled(self) -> dict[str, tuple[int, int]]:
        """Inode and time of change of the file of every shard that is there as recorded."""
        found = {}
        for record in self.recorded():
            said = receipts.read(record)
            file = self.building / said["file"]
            if file.is_file() and file.stat().st_size == said["bytes"]:
                found[str(said["file"])] = marks(file)
        return found

    def unrecorded(self) -> int:
        """Files of shards that have no record."""
        recorded = {receipts.read(record)["file"] for record in self.recorded()}
        return len(shard_files(self.building) - recorded)

    def jobs(self) -> list[psutil.Process]:
        """The jobs that run, and their controllers."""
        folder, found = str(self.receipt.with_suffix(".jobs")), []
        for process in psutil.process_iter():
            try:
                if any(word.startswith(folder) for word in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def forget(self) -> None:
        """Take away the result, so that it is made again."""
        for path in (*self.results, self.receipt.with_suffix(".jobs")):
            shutil.rmtree(path)
        self.receipt.unlink()

    def end(self) -> None:
        """Kill the jobs of all drivers."""
        while jobs := self.jobs():
            for job in jobs:
                with contextlib.suppress(psutil.NoSuchProcess):
                    job.kill()
            psutil.wait_procs(jobs, timeout=1)


def predicting(image: Path, model: Path, receipt: Path, tile: tuple[int, ...], count: int) -> Scene:
    """Predict one volume with one model, in `count` jobs at once."""
    options = {
        "--image": image,
        "--model": model,
        "--settings": staging.predicting(tile).model_dump_json(),
    }
    store = receipts.result(image, "volume")
    return Scene(
        receipt=receipt,
        words=_words("predict", receipt, options, count),
        building=receipt.with_suffix(".building"),
        results=(store / "labels" / model.stem, store / "tables" / model.stem),
    )


def ingesting(
    receipt: Path, task: IngestTask, count: int, resources: Mapping[str, object] = LOCAL
) -> Scene:
    """Ingest one raw file, in `count` jobs at once, which get these resources."""
    store = receipt.with_suffix(".ome.zarr")
    return Scene(
        receipt=receipt,
        words=_words("ingest", receipt, {"--settings": task.model_dump_json()}, count, resources),
        building=store.with_name(f"{store.name}.building"),
        results=(store,),
    )


def _words(
    stage: str,
    receipt: Path,
    options: Mapping[str, object],
    count: int,
    resources: Mapping[str, object] = LOCAL,
) -> tuple[str, ...]:
    every = {**options, "--jobs": count, **resources}
    return (stage, str(receipt), *(f"{option}={value}" for option, value in every.items()))


def harm(file: Path, how: str, generator: np.random.Generator) -> None:
    """Harm a file in one of the ways of `HARMED`."""
    if how == DELETED:
        file.unlink()
    else:
        os.truncate(file, 0 if how == EMPTIED else int(generator.integers(1, file.stat().st_size)))


def marks(file: Path) -> tuple[int, int]:
    """What changes when a file is written again: inode, and time of change in ns."""
    said = file.stat()
    return said.st_ino, said.st_mtime_ns


def shard_files(store: Path) -> set[str]:
    """The files of all shards of all levels that are there, temporary ones left out."""
    return {str(p.relative_to(store)) for p in store.glob("[0-9]*/c/**/[0-9]*") if p.is_file()}


def snapshot(folders: Sequence[Path]) -> dict[str, str]:
    """Digests of all files in these folders, by name."""
    return {
        f"{folder.name}/{path.relative_to(folder)}": receipts.bytes_digest(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
