"""Predict as a command: its processes, and the files that they leave."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import pipeline
from benchmarks import staging
from pipeline import receipts, shards

HOME = Path(pipeline.__file__).resolve().parents[1]
MEMORY_MB = 4000


@dataclass(frozen=True, slots=True)
class Scene:
    """One volume and one model, and where the prediction comes to lie."""

    image: Path
    model: Path
    receipt: Path
    tile: tuple[int, ...]
    count: int
    """Jobs at once."""

    @property
    def building(self) -> Path:
        """Where labels grow."""
        return self.receipt.with_suffix(".building")

    @property
    def results(self) -> tuple[Path, Path]:
        """Where labels and table are published."""
        store = receipts.result(self.image, "volume")
        return store / "labels" / self.model.stem, store / "tables" / self.model.stem

    def start(self) -> subprocess.Popen[bytes]:
        """Give the command, its output going to a log."""
        options = {
            "--image": self.image,
            "--model": self.model,
            "--settings": staging.predicting(self.tile).model_dump_json(),
            "--place": "local",
            "--jobs": self.count,
            "--mem-mb": MEMORY_MB,
        }
        command = [sys.executable, "-m", "pipeline", "predict", str(self.receipt)]
        command += [str(word) for option in options.items() for word in option]
        variables = os.environ | {"PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"}
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
        """Inode and time of change of the file of every recorded shard."""
        files = {str(receipts.read(record)["file"]) for record in self.recorded()}
        return {file: marks(self.building / file) for file in files}

    def unrecorded(self) -> int:
        """Files of shards that have no record."""
        return len(shard_files(self.building) - self.settled().keys())

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
