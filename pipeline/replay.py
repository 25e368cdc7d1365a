"""Replay: a result is made again from its receipt, in a scratch folder, and compared."""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline import former, origins, provenance, receipts, volumes
from pipeline.origins import Original
from pipeline.prospects import changed
from pipeline.sentences import listed

log = logging.getLogger("equiscope.replay")
NAMED = 4
"""Files or facts that a sentence lists at most."""
PAGE = ".html"
WITH_JOBS = ("ingest", "pretrain", "finetune", "predict")


def replay(receipt: Path, scratch: Path | None, options: Sequence[str]) -> str:
    """Make a receipt's result again and compare all of it. Returns a sentence: it is the same.

    `options` say where jobs run, as those of a stage do. The scratch folder is deleted after,
    unless it is given.
    Raises ValueError where something that the result was made from is missing or was changed, and
    RuntimeError where another result came out.
    """
    original = origins.opened(receipt)
    if faults := [*origins.changed_inputs(original)]:
        raise ValueError("\n".join(f"{receipt} cannot be made again: {fault}" for fault in faults))
    notes = [*origins.other_conditions(original)]
    for note in notes:
        log.info("%s", note)
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        return _made_again(original, scratch, options, notes)
    with tempfile.TemporaryDirectory(prefix=".replay-", dir=original.results) as folder:
        return _made_again(original, Path(folder), options, notes)


def _made_again(
    original: Original, scratch: Path, options: Sequence[str], notes: Sequence[str]
) -> str:
    again = scratch / "results" / original.receipt.relative_to(original.results)
    arguments = [str(again), *_arguments(original, scratch / "results")]
    if original.stage != "plate":
        arguments += ["--settings", json.dumps(original.recipe["settings"])]
    if original.stage in WITH_JOBS:
        arguments += options
    given = scratch / "arguments"
    given.write_text("".join(f"{argument}\n" for argument in arguments), encoding="utf-8")
    said = provenance.read(original.receipt)
    threads = str(said.get("allocation", {}).get("cpus_per_task", 1))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", original.stage, f"@{given}"],
        env=os.environ | {"OMP_NUM_THREADS": threads},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{original.stage} failed; its words stand above.")
    differing, files = _differences(original, scratch / "results")
    if differing:
        raise RuntimeError(
            f"{original.receipt} gives another result: {listed(differing, NAMED)}."
            + "".join(f" {note}" for note in notes)
        )
    compared = f"its receipt and all {files:,} files" if files else "its receipt"
    return f"{original.receipt} gives the same result again: {compared}, byte for byte"


def _arguments(original: Original, results: Path) -> list[str]:
    """The options of the stage that name what it starts from."""
    names = list(original.recipe["inputs"])
    match original.stage:
        case "pretrain" if names:
            return ["--parent", str(origins.receipt_of(original, "parent"))]
        case "finetune":
            images = [p for name in names if (p := origins.receipt_of(original, name)).is_file()]
            return ["--images", *map(str, images)]
        case "predict":
            return [
                *("--image", str(_view(origins.receipt_of(original, "image"), results / "ingest"))),
                *("--model", str(origins.receipt_of(original, "model"))),
            ]
        case "plate":
            return ["--images", *(str(origins.receipt_of(original, name)) for name in names)]
        case "report":
            _beside(original.results, results)
            made = [p for name in names if (p := origins.receipt_of(original, name)).is_file()]
            inside = (results / path.relative_to(original.results) for path in made)
            return ["--predictions", *map(str, inside)]
    return []


def _view(image: Path, folder: Path) -> Path:
    """A volume without labels, into which they can be written; its voxels lie where they lie."""
    store = receipts.result(image, "volume")
    _linked(store, folder / store.name, leaving_out=("labels", "tables"))
    statistics = volumes.statistics_file(store)
    if statistics.is_file():  # adopted volumes have none
        shutil.copy2(statistics, folder)
    return Path(shutil.copy2(image, folder))


def _beside(theirs: Path, mine: Path) -> None:
    """All that a report reads, so that what it writes into volumes goes into these alone."""
    mine.mkdir(parents=True, exist_ok=True)
    for stage in ("finetune", "predict"):
        if not (mine / stage).exists():
            (mine / stage).symlink_to((theirs / stage).resolve())
    for entry in (theirs / "ingest").iterdir():
        place = mine / "ingest" / entry.name
        if entry.name.endswith(".ome.zarr"):
            _linked(entry, place, leaving_out=("tables",))
            if (entry / "tables").is_dir():
                _linked(entry / "tables", place / "tables")
        elif not place.exists():
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(entry.resolve())


def _linked(store: Path, seen: Path, leaving_out: Sequence[str] = ()) -> None:
    """A folder of links, but for the description of the group, which may be written anew."""
    seen.mkdir(parents=True, exist_ok=True)
    for entry in store.iterdir():
        place = seen / entry.name
        if entry.name == "zarr.json":
            shutil.copy2(entry, place)
        elif not (
            entry.name in leaving_out or entry.name.endswith(former.LOOK_FIRST) or place.exists()
        ):
            place.symlink_to(entry.resolve())


def _differences(original: Original, results: Path) -> tuple[list[str], int]:
    """What differs in another folder of results, and how many files were compared."""
    again = results / original.receipt.relative_to(original.results)
    made = receipts.read(again)
    differing = [
        f"{place} {old} -> {new}"
        for part in ("recipe", "facts")
        for place, old, new in changed(getattr(original, part), made[part])
        if place != "hash"
    ]
    if not _stands(original):
        log.info("another result has taken its place: only what the receipt says is compared")
        return differing, 0
    theirs = _files(provenance.results(original.receipt, original.said), original.results)
    mine = _files(provenance.results(again, made), results)
    differing += [
        name for name in sorted(theirs.keys() | mine.keys()) if theirs.get(name) != mine.get(name)
    ]
    return differing, len(theirs)


def _stands(original: Original) -> bool:
    """Whether what lies in the result's place is what this receipt speaks of."""
    place = provenance.results(original.receipt, original.said)[0]
    own = volumes.attributes(place).get("equiscope", {})
    return bool(own.get("recipe", original.recipe) == original.recipe)


def _files(places: Sequence[Path], results: Path) -> dict[str, str]:
    """The hash of every file of a result by its path, and where links lead.

    Of a volume, its labels and tables are left out: they are other results.
    """
    found = {}
    for result in places:
        if result.is_file():
            found[_name(result, results)] = _hash(result, results)
        for folder, inner, names in os.walk(result):
            if Path(folder) == result:
                inner[:] = [name for name in inner if name not in ("labels", "tables")]
            for path in (Path(folder, name) for name in inner):
                if path.is_symlink():
                    found[_name(path, results)] = str(path.resolve())
            for path in (Path(folder, name) for name in names):
                found[_name(path, results)] = _hash(path, results)
    return found


def _name(path: Path, results: Path) -> str:
    return str(path.relative_to(results))


def _hash(path: Path, results: Path) -> str:
    """SHA-256 of a file; of a page without the place of the results, which it names."""
    if path.suffix == PAGE:
        text = path.read_text(encoding="utf-8").replace(str(results), "results")
        return hashlib.sha256(text.encode()).hexdigest()
    return receipts.bytes_digest(path)
