"""Prune: delete, when told to, what newer results made superfluous and what work left behind."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import former, publication, receipts, volumes
from pipeline.config import Campaign

CAMPAIGN_LOCK = Path(".snakemake/campaign.lock")
"""Held by Snakemake while it is at work; see workflow/rules/common.smk."""
WORK = (".building", ".building.units", ".building.table", ".adopting")
"""Endings of what grows while a stage is at work."""
HIDDEN = ("*.replaced", "*.building", "*.probe", "*.partial", ".replay-*")
KINDS = ("labels", "tables")


@dataclass(frozen=True, slots=True)
class Superfluous:
    """What may go, the bytes that this frees, and why it is not needed."""

    path: Path
    bytes: int
    reason: str


def found(campaign: Campaign, unlisted: bool) -> list[Superfluous]:
    """What may be deleted of a campaign's results; with `unlisted`, also what it does not name.

    Results in their place that the campaign names are never among them, nor is work that goes on
    when the same command is typed again, nor what links lead to.
    """
    results = Path(campaign.results)
    things = [*_earlier(results), *_leftovers(results)]
    if unlisted:
        things += _not_named(campaign, results)
    inside = {one.path for one in things}
    return [one for one in things if not inside & set(one.path.parents)]


def text(things: Sequence[Superfluous], deleted: bool) -> str:
    """What goes, or went, in lines."""
    if not things:
        return "There is nothing to prune."
    lines = [f"{one.path}  ({one.bytes / 1e6:,.3g} MB): {one.reason}" for one in things]
    total = f"{len(things)} things, {sum(one.bytes for one in things) / 1e6:,.3g} MB"
    end = "were deleted." if deleted else "would be deleted: add --yes to do so."
    return "\n".join([*lines, f"{total}, {end}"])


def prune(things: Sequence[Superfluous]) -> None:
    """Delete them. Links go, what they lead to stays."""
    for one in things:
        if one.path.is_dir() and not one.path.is_symlink():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)
        if one.path.parent.name in KINDS and one.path.parent.is_dir():
            _list(one.path.parent)


def _list(group: Path) -> None:
    publication.list_children(group, "labels" if group.name == "labels" else "tables")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep Snakemake from this campaign meanwhile.

    Raises RuntimeError where it is at work.
    """
    if not CAMPAIGN_LOCK.is_file():
        yield
        return
    with CAMPAIGN_LOCK.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError("snakemake is at work on this campaign: wait for it.") from None
        except OSError:
            pass  # a file system without locks
        yield


def _earlier(results: Path) -> Iterator[Superfluous]:
    """Labels, tables and models whose place others took. Without those, they are all there is."""
    places = [p for kind in KINDS for p in results.glob(f"ingest/*.ome.zarr/{kind}/*")]
    places += former.models(results / "finetune", ".model")
    for path in sorted(places):
        place = former.in_place(path)
        if place != path and place.exists():
            yield _superfluous(path, f"{place.name} of another recipe took its place")


def _leftovers(results: Path) -> Iterator[Superfluous]:
    """What work that was killed left behind, but not what it would go on with."""
    for folder in _folders(results):
        for path in sorted(folder.iterdir()):
            if any(path.match(pattern) for pattern in HIDDEN) and path.name.startswith("."):
                yield _superfluous(path, "left behind when something was killed")
            elif path.name.endswith(WORK):
                receipt = path.with_name(f"{path.name.partition('.')[0]}.json")
                if receipt.is_file():
                    yield _superfluous(path, f"unfinished work; {receipt.name} says it is done")


def _folders(results: Path) -> Iterator[Path]:
    yield results
    for pattern in ("*", "predict/*", "ingest/*.ome.zarr/labels", "ingest/*.ome.zarr/tables"):
        yield from (p for p in sorted(results.glob(pattern)) if p.is_dir() and p.suffix == "")


def _not_named(campaign: Campaign, results: Path) -> Iterator[Superfluous]:
    """Results of acquisitions and models that the campaign's settings do not list."""
    reason = "the settings name no such {}"
    for kind in KINDS:
        for path in sorted(results.glob(f"ingest/*.ome.zarr/{kind}/*")):
            own = volumes.attributes(path).get("equiscope", {})
            owner = former.in_place(path).name.removesuffix(former.LOOK_FIRST)
            pair = (owner, path.parents[1].name.removesuffix(".ome.zarr"))
            is_ours = own.get("recipe", {}).get("stage") == "predict"
            if (is_ours or path.name.endswith(former.LOOK_FIRST)) and pair not in campaign.pairs:
                yield _superfluous(path, reason.format("prediction"))
    named = (
        ("ingest", "acquisition", {*campaign.acquisitions}),
        ("finetune", "model", {*campaign.models}),
    )
    for stage, noun, known in named:
        for path in _of_others(results / stage, known):
            yield _superfluous(path, reason.format(noun))
    for model in sorted((results / "predict").glob("*")):
        acquisitions = {a for m, a in campaign.pairs if m == model.name}
        for path in _of_others(model, acquisitions):
            yield _superfluous(path, reason.format("prediction"))


def _of_others(folder: Path, known: set[str]) -> Iterator[Path]:
    """All files and stores in a stage's folder whose receipt's name is not known."""
    if folder.is_dir():
        for receipt in sorted(folder.glob("[!.]*.json")):
            if "." not in receipt.stem and receipt.stem not in known and _is_receipt(receipt):
                yield from sorted(folder.glob(f"{receipt.stem}.*"))
                yield from folder.glob(f".{receipt.name}.lock")


def _is_receipt(path: Path) -> bool:
    try:
        return "recipe" in receipts.read(path)
    except ValueError:
        return False


def _superfluous(path: Path, reason: str) -> Superfluous:
    size = path.lstat().st_size
    if path.is_dir() and not path.is_symlink():
        size = sum(
            os.lstat(os.path.join(folder, name)).st_size
            for folder, _, names in os.walk(path)
            for name in names
        )
    return Superfluous(path, size, reason)
