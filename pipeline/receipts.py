"""Small JSON files written last: a stage is done, from what recipe, with what facts."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__

PIECE_BYTES, SAMPLES = 65536, 64
BEGUN = "recipe.json"
"""In a folder of unfinished work: the recipe that it is made from."""


def recipe(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, Any]:
    """All that decides a result: the stage, its settings, its inputs' identities, the version."""
    whole = {
        "stage": stage,
        "version": __version__,
        "settings": dict(settings),
        "inputs": dict(inputs),
    }
    return whole | {"hash": fingerprint(whole)}


def fingerprint(value: Any) -> str:
    """SHA-256 of the value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_fingerprint(path: Path, chosen: Sequence[Path] = ()) -> str:
    """Identity of a raw file or folder, or of files chosen in it: names, sizes, samples of bytes.

    Reads at most 64 pieces of 64 KiB a file, and samples of at most 64 files of a folder, so that
    a terabyte takes no longer than a gigabyte; blind to changes between the pieces. No time stamp
    enters, so a copy has the same identity.
    """
    digest = hashlib.sha256()
    files = list(chosen) or [path]
    if path.is_dir() and not chosen:
        files = sorted(p for p in path.rglob("*") if p.is_file())
    base = path if path.is_dir() or not chosen else path.parent
    read = set(files[:: max(1, len(files) // SAMPLES)])
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(base)}:{size}:".encode())
        if file in read:
            starts = range(0, size, max(PIECE_BYTES, -(-size // SAMPLES)))
            with file.open("rb") as stream:
                for start in starts:
                    stream.seek(start)
                    digest.update(stream.read(PIECE_BYTES))
    return digest.hexdigest()


def bytes_digest(path: Path) -> str:
    """SHA-256 of a whole file; empty where there is no file."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(path: Path, content: Mapping[str, Any], durable: bool = True) -> None:
    """Write JSON so that a crash leaves the old file or the new one, never a part.

    `durable` outlasts a crash of the machine as well; it takes a disk its time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.write("\n")
        stream.flush()
        if durable:
            os.fsync(stream.fileno())
    partial.replace(path)


def read(path: Path) -> dict[str, Any]:
    """Read a receipt.

    Raises ValueError where there is none or it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"there is no receipt {path}: run the stage that writes it.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the receipt {path} is damaged ({error}): delete it, run again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"the receipt {path} is damaged: delete it, run again.")
    return content


def is_of(path: Path, recipe_hash: str) -> bool:
    """Whether a whole record of this recipe lies at `path`."""
    try:
        return bool(read(path)["recipe"] == recipe_hash)
    except (ValueError, KeyError):
        return False


def begin(building: Path, recipe: Mapping[str, Any]) -> None:
    """Go on in the folder that work of this recipe began, or sweep what is there and begin it."""
    record = building / BEGUN
    if not is_of(record, recipe["hash"]):
        shutil.rmtree(building, ignore_errors=True)
        write(record, {"recipe": recipe["hash"], "made_from": recipe})


def identity(path: Path) -> str:
    """One hash for all that a receipt says: recipe and facts."""
    return fingerprint(read(path))


def result(path: Path, kind: str) -> Path:
    """The result that a receipt speaks of, which lies beside it.

    Raises ValueError where it is gone.
    """
    found = path.parent / str(read(path)["facts"][kind])
    if not found.exists():
        raise ValueError(
            f"{path} speaks of {found}, which is gone. Delete the receipt and run again."
        )
    return found
