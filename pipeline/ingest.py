"""Ingest: a raw file becomes a sharded OME-Zarr volume with a pyramid and measured intensities."""

import functools
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import (
    adoption,
    checksums,
    copying,
    former,
    ngff,
    publication,
    readers,
    receipts,
    shards,
    spot_checks,
    survey,
    volumes,
)
from pipeline.config import IngestTask
from pipeline.formats_arrays import ZARR
from pipeline.readers import Source
from pipeline.tiles import Box, Level

log = logging.getLogger("equiscope.ingest")
FEWEST_SHARDS, UNITS = 8, 32
"""Shards that a unit may have at least, one halving in 3-D; units that a volume shall have."""
SMALL_GVOXEL = 0.1
"""Coarse shards of no more billions of voxels in all are made here, by no job."""
SAMPLED_VOXELS = 2**22
"""Quantiles are taken at the finest level with at most so many voxels per channel."""


def ingest(receipt: Path, task: IngestTask, run: Callable[[shards.Shards], None]) -> None:
    """Write the volume beside its receipt, then the receipt.

    `run` completes the units that a phase lacks, wherever that is.
    Raises ValueError where the raw file cannot be read or does not say enough.
    """
    # plan
    source = readers.source(receipt.stem, task.acquisition)
    identity = readers.identity(source)
    recipe = receipts.recipe(
        "ingest", task.model_dump(mode="json"), {task.acquisition.path: identity}
    )
    target = receipt.with_suffix(".ome.zarr")
    own = volumes.attributes(target).get("equiscope", {})
    building = target.with_name(f"{target.name}.building")
    inherit = functools.partial(former.inherit, recipe_hash=recipe["hash"])
    if own.get("recipe") == recipe:
        harmed = checksums.harmed(target, volumes.levels_of(own), own["facts"]["digest"])
        if not harmed:
            publication.settle(target, inherit)
            log.info("%s is there and whole, made from the same recipe", target)
            receipts.write(receipt, {"recipe": recipe, "facts": own["facts"]})
            shutil.rmtree(shards.units_folder(building), ignore_errors=True)
            return
        _reopen(target, building, own, harmed)
    log.info("%s %s %s from %s", source.axes, source.shape, source.dtype, source.path)

    # act
    made = _adopted(source, task, target) or _converted(receipt, source, task, recipe, run)
    facts = {
        "volume": target.name,
        "axes": source.axes,
        "shape": list(source.shape),
        "dtype": source.dtype.name,
        "channels": list(source.channels),
        "voxel_size_um": source.voxel_size_um,
        "digest": made.digest,
        "adopted": made.adopted,
    }
    if own.get("recipe") == recipe and own["facts"]["digest"] != made.digest:
        log.warning("%s is no longer what it was: labels and tables in it are put aside", target)
        inherit(made.store, made.store)
    volumes.annotate(made.store, _attributes(source, task, made, recipe, facts))
    publication.publish(made.store, target, inherit)

    # receipt
    receipts.write(receipt, {"recipe": recipe, "facts": facts})
    shutil.rmtree(shards.units_folder(building), ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Made:
    """A store that is whole, but has no attributes and not its name yet.

    Attributes
    ----------
    digest: hash over all shards.
    adopted: whether its voxels lie where the source lies.
    """

    store: Path
    levels: tuple[Level, ...]
    digest: str
    adopted: bool


def _adopted(source: Source, task: IngestTask, target: Path) -> Made | None:
    """The source itself, where it is OME-Zarr that can be used as it is."""
    if not task.ingest.adopt or source.form != ZARR.name:
        return None
    store = target.with_name(f"{target.name}.adopting")
    shutil.rmtree(store, ignore_errors=True)
    try:
        levels = adoption.fit(source)
        digest = adoption.adopt(source, levels, store)
    except adoption.UnfitError as reason:
        log.info("%s is copied: %s", source.path, reason)
        shutil.rmtree(store, ignore_errors=True)
        return None
    log.info("%s is used where it lies: no voxel is copied", source.path)
    return Made(store, levels, digest, True)


def _converted(
    receipt: Path,
    source: Source,
    task: IngestTask,
    recipe: dict[str, Any],
    run: Callable[[shards.Shards], None],
) -> Made:
    """A copy of the source's voxels, with a pyramid."""
    building = receipt.with_suffix(".ome.zarr.building")
    levels = copying.levels(source, task.ingest)
    shards.begin(building, recipe, levels, source.axes, source.dtype, "image")
    work = shards.Shards(building, levels, recipe["hash"], (), copying.Copy(source), "mean")
    written = shards.complete(work, _here_if_small(run), most_per_unit(levels))
    _check(work, source, recipe["inputs"][task.acquisition.path])
    _describe_intensities(receipt.with_suffix(".statistics.json"), work, source)
    receipts.write(receipt.with_suffix(".cost.json"), shards.cost(work.units))
    return Made(building, levels, checksums.keep(building, written), False)


def _reopen(target: Path, building: Path, own: dict[str, Any], harmed: dict[str, str]) -> None:
    """Take a published volume apart, to make its harmed shards again."""
    if own["facts"]["adopted"]:
        file, how = next(iter(harmed.items()))
        raise OSError(
            f"{target / file} is {how}, as are {len(harmed) - 1} more shards. They lie where the "
            "acquisition's path leads: put them back whole, and run again."
        )
    log.warning("%s has %d harmed shards, which are made again", target, len(harmed))
    checksums.reopen(target, building, shards.units_folder(building), harmed)


def _check(work: shards.Shards, source: Source, identity: str) -> None:
    """Check that what was made is what the file held, and holds.

    Raises OSError where it is not.
    """
    if readers.identity(source) != identity:
        raise OSError(
            f"{source.path} was changed while it was read: run again, and it is read as it is now."
        )
    if strange := spot_checks.faults(work.store, work.levels, source):
        raise OSError(
            f"{strange[0]}; {len(strange)} such places were found. Delete {work.store} and "
            f"{work.units}, and run again."
        )


def _here_if_small(run: Callable[[shards.Shards], None]) -> Callable[[shards.Shards], None]:
    """`run`, but for the last few coarse shards: to start a job for them would take longer."""

    def chosen(phase: shards.Shards) -> None:
        missing = phase.missing()
        coarse = all(tree.first > 0 for tree in phase.trees)
        if missing and coarse and sum(map(phase.size, missing)) <= SMALL_GVOXEL:
            while missing:  # a process whose time is nearly up does one shard a call
                phase(missing)
                missing = phase.missing()
        else:
            run(phase)

    return chosen


def most_per_unit(levels: Sequence[Level]) -> int:
    """How many shards a unit may have: fewer in a small volume, so that several jobs share it."""
    return max(FEWEST_SHARDS, min(shards.MOST_SHARDS_PER_TREE, levels[0].shards // UNITS))


def _describe_intensities(path: Path, work: shards.Shards, source: Source) -> None:
    """Write down what the intensities are like.

    Shards of a volume that was reopened tell nothing: what was written when it was made stays.
    """
    if not receipts.is_of(path, work.recipe):
        found = survey.survey(work, source.axes, source.channels)
        receipts.write(path, {"recipe": work.recipe, "channels": found})


def _attributes(
    source: Source, task: IngestTask, made: Made, recipe: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any]:
    windows = _windows(made.store, made.levels, source.axes, task.ingest.quantiles)
    name = facts["volume"].removesuffix(".ome.zarr")
    placed = ngff.Calibration(source.voxel_size_um, source.time_step_s, source.position_um)
    blocks = ngff.multiscales(name, source.axes, made.levels, placed, "mean")
    return {
        "ome": {
            "version": ngff.OME_VERSION,
            "multiscales": [blocks],
            "omero": ngff.omero(source.channels, source.colours, windows, source.dtype),
        },
        "equiscope": {
            "name": name,
            "axes": source.axes,
            "levels": [asdict(level) for level in made.levels],
            "voxel_size_um": source.voxel_size_um,
            "time_step_s": source.time_step_s,
            "position_um": source.position_um,
            "acquired": source.acquired,
            "channels": list(source.channels),
            "windows": windows,
            "recipe": recipe,
            "facts": facts,
        },
    }


def _windows(
    store: Path, levels: tuple[Level, ...], axes: str, quantiles: tuple[float, float]
) -> list[tuple[float, float]]:
    """Low and high intensity of each channel over the whole volume, all times together."""
    at = axes.index("c")
    level = next(
        (level for level in levels if math.prod(level.shape) // level.shape[at] <= SAMPLED_VOXELS),
        levels[-1],
    )
    windows = []
    for channel in range(level.shape[at]):
        start = tuple(channel if i == at else 0 for i in range(len(axes)))
        stop = tuple(channel + 1 if i == at else n for i, n in enumerate(level.shape))
        values = np.asarray(volumes.open_level(store, level.number)[Box(start, stop).slices])
        low, high = (float(v) for v in np.quantile(values.astype(np.float64), quantiles))
        # Next to a large number one more makes no difference.
        windows.append((low, high if high > low else low + max(1.0, float(np.spacing(abs(low))))))
    return windows
