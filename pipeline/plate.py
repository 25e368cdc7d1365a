"""Plate: volumes of the fields of a plate become one OME-Zarr plate that refers to them."""

import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import formats_plates, ngff, publication, receipts, volumes

log = logging.getLogger("equiscope.plate")
FIELD = re.compile("[A-Za-z0-9]+/[A-Za-z0-9]+/[A-Za-z0-9]+")


def plate(receipt: Path, images: Sequence[Path]) -> None:
    """Write the plate beside its receipt, then the receipt.

    `images` are the ingest receipts of all fields. Each field of the plate is a symbolic link to
    its volume: nothing is stored twice, and labels and tables are in the plate once they are made.
    Raises ValueError where an image is no field of a plate, or its volume is lost or damaged.
    """
    # plan
    fields = _fields(images)
    stores = {name: _volume(image) for name, image in fields.items()}
    identities = {name: receipts.identity(image) for name, image in fields.items()}
    recipe = receipts.recipe("plate", {}, identities)
    target = receipt.with_suffix(".ome.zarr")
    wells: dict[str, list[str]] = {}
    for name in fields:
        well, _, field = name.rpartition("/")
        wells.setdefault(well, []).append(field)
    facts = {"plate": target.name, "wells": len(wells), "fields": len(fields)}
    own = volumes.attributes(target).get("equiscope", {})
    if own.get("recipe") == recipe and _is_linked(target, stores):
        log.info("%s is there and whole, made from the same recipe", target)
        receipts.write(receipt, {"recipe": recipe, "facts": facts})
        return

    # act
    building = target.with_name(f"{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    described = {"ome": ngff.plate(receipt.stem, wells), "equiscope": {"recipe": recipe}}
    volumes.write_group(building, described)
    for row in {well.partition("/")[0] for well in wells}:
        volumes.write_group(building / row, {})
    for well, names in wells.items():
        volumes.write_group(building / well, {"ome": ngff.well(names)})
    for name, store in stores.items():
        place = (target.parent.resolve() / target.name / name).parent
        (building / name).symlink_to(os.path.relpath(store.resolve(), place))
    publication.publish(building, target)
    log.info("%d fields in %d wells, in %s", len(fields), len(wells), target)

    # receipt
    receipts.write(receipt, {"recipe": recipe, "facts": facts})


def _fields(images: Sequence[Path]) -> dict[str, Path]:
    """The ingest receipt of each field, in the plate's order."""
    found: dict[str, Path] = {}
    for image in images:
        name = str(receipts.read(image)["recipe"]["settings"]["acquisition"]["series"])
        if not FIELD.fullmatch(name):
            raise ValueError(
                f"{image} is of the image {name!r}, which is no field of a plate, ROW/COLUMN/FIELD "
                "of letters and numbers. Leave it out."
            )
        if name in found:
            raise ValueError(
                f"{found[name]} and {image} are both of the field {name}: one plate has it once. "
                "Leave one out."
            )
        found[name] = image
    return {name: found[name] for name in sorted(found, key=formats_plates.order)}


def _volume(image: Path) -> Path:
    """The volume of a field, which is whole as far as names of its files tell."""
    store = receipts.result(image, "volume")
    again = f"Delete {image} and run again: it is made anew."
    own = volumes.attributes(store).get("equiscope", {})
    if own.get("facts") != receipts.read(image)["facts"]:
        raise ValueError(f"{store} is not the volume that its receipt speaks of. {again}")
    for name, _, _ in volumes.shard_files(volumes.levels_of(own)):
        file = store / name
        if not file.is_file() or not file.stat().st_size:
            raise ValueError(f"{file} is lost or empty. {again}")
    return store


def _is_linked(target: Path, stores: Mapping[str, Path]) -> bool:
    """Whether the plate leads to each of these volumes."""
    return all(
        (target / name).exists() and (target / name).samefile(store)
        for name, store in stores.items()
    )
