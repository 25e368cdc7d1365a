"""Results whose place newer ones took: they stay beside these, under their recipe, until pruned.

Where the settings go back to such a recipe, the result goes back to its place: nothing is computed.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline import checksums, publication, receipts, volumes
from pipeline.tiles import Level

log = logging.getLogger("equiscope.former")

LETTERS = 12
"""Of a recipe's hash, in a name."""
ASIDE = re.compile(rf"(.+)\.([0-9a-f]{{{LETTERS}}})")
"""A name with a dot is no model's, so it never stands in the way of one."""
LOOK_FIRST = "_look_first"
"""Ends the names of tables that the report writes beside those of the objects."""
BEFORE = " before"
"""Ends the name of a report's input that is the name of earlier labels."""
BY = "replaced_by"
"""Attribute that names the recipe of the result that took the place."""


def aside(target: Path, recipe_hash: str) -> Path:
    """Where a result with this recipe waits: `nuclei.1a2b3c4d5e6f`, `nuclei.1a2b3c4d5e6f.model`."""
    name, dot, ending = target.name.partition(".")
    return target.with_name(f"{name}.{recipe_hash[:LETTERS]}{dot}{ending}")


def in_place(waiting: Path) -> Path:
    """The place of what waits aside, where the result is that it made room for."""
    name, ending = waiting.name, ""
    if not ASIDE.fullmatch(name):
        name, ending = waiting.stem, waiting.suffix
    named = ASIDE.fullmatch(name)
    return waiting.with_name(f"{named[1]}{ending}") if named else waiting


def put_aside(target: Path, recipe_hash: str) -> Path:
    """Move a result out of the way of one with another recipe."""
    place = aside(target, recipe_hash)
    shutil.rmtree(place, ignore_errors=True)
    target.rename(place)
    return place


def labels(store: Path, model: str) -> dict[str, dict[str, Any]]:
    """What earlier labels of a model say of themselves, by the names they wait under."""
    found = {}
    for folder in sorted((store / "labels").glob(f"{model}.*")):
        named = ASIDE.fullmatch(folder.name)
        own = volumes.attributes(folder).get("equiscope", {})
        if named and named[1] == model and own.get("recipe"):
            found[folder.name] = own
    return found


def before(store: Path, model: str) -> str:
    """The name of the labels whose place those of now took; empty where there are none.

    They, or the volume that those were made from, which was ingested anew.
    """
    places = (store / "labels" / model, store)
    hashes = [
        volumes.attributes(place).get("equiscope", {}).get("recipe", {}).get("hash")
        for place in places
    ]
    waiting = {said[BY]: name for name, said in labels(store, model).items() if said.get(BY)}
    return next((waiting[one] for one in hashes if one in waiting), "")


def put_labels_aside(store: Path, model: str, recipe_hash: str) -> None:
    """Make room for labels and table of another recipe. A crash in between does no harm."""
    for kind in ("tables", "labels"):
        target = store / kind / model
        said = volumes.attributes(target)
        former = said.get("equiscope", {}).get("recipe", {}).get("hash", recipe_hash)
        if former == recipe_hash:
            continue
        place = put_aside(target, former)
        _say(place, said, place.name, {BY: recipe_hash})
        log.info("the %s of another recipe stay as %s", kind, place)


def inherit(old: Path, new: Path, recipe_hash: str) -> None:
    """Take labels and tables of a volume along into the one of this recipe that takes its place.

    Those with a recipe wait under it, for the volume is another than they were made from. What has
    none somebody else put there: it keeps its name.
    """
    for kind in ("labels", "tables"):
        for folder in sorted(p for p in (old / kind).glob("*") if (p / "zarr.json").is_file()):
            said, place = volumes.attributes(folder), new / kind / folder.name
            made = said.get("equiscope", {}).get("recipe", {}).get("hash")
            is_current = made and not ASIDE.fullmatch(folder.name)
            place = aside(place, made) if is_current else place
            if place == folder or place.exists():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(place)
            if is_current:
                _say(place, said, place.name, {BY: recipe_hash})
                log.info("the %s of the volume before stay as %s", kind, place)
        if (new / kind).is_dir():
            publication.list_children(new / kind, kind)


def take_labels_back(
    store: Path, model: str, recipe: dict[str, Any], levels: Sequence[Level]
) -> bool:
    """Put labels and table that this recipe made before into their place, if they are whole."""
    waiting = {kind: aside(store / kind / model, recipe["hash"]) for kind in ("tables", "labels")}
    own = volumes.attributes(waiting["labels"]).get("equiscope", {})
    if own.get("recipe") != recipe or not all(map(Path.is_dir, waiting.values())):
        return False
    if receipts.bytes_digest(waiting["tables"] / volumes.TABLE) != own["facts"]["table"]:
        return False
    if checksums.harmed(waiting["labels"], levels, own["facts"]["digest"]):
        return False
    publication.find_room(store)
    put_labels_aside(store, model, recipe["hash"])
    for kind, place in waiting.items():
        _say(place, volumes.attributes(place), model, {})
        place.rename(store / kind / model)
    publication.list_children(store / "tables", "tables")
    publication.list_children(store / "labels", "labels")
    log.info("%s goes back to its place: it was made from this recipe", waiting["labels"])
    return True


def models(folder: Path, ending: str) -> Iterator[Path]:
    """Earlier models, or bases, of all names."""
    for path in sorted(folder.glob(f"*{ending}")):
        if ASIDE.fullmatch(path.name.removesuffix(ending)):
            yield path


def _say(place: Path, said: dict[str, Any], name: str, more: dict[str, str]) -> None:
    """Let labels or a table know which recipe replaced them, and a table which labels it is of."""
    own = {key: value for key, value in said["equiscope"].items() if key != BY} | more
    if "region" in said:
        said = said | {"region": {"path": f"../labels/{name}"}}
    volumes.annotate(place, said | {"equiscope": own})
