"""Export: a prediction in the forms that other tools ask for."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline import ngff, publication, receipts, volumes
from pipeline.tables import labels_of
from pipeline.tiles import Box, Level, boxes
from pipeline.volumes import Volume

log = logging.getLogger("equiscope.export")
MOST_DENSE = np.iinfo(np.uint32).max
"""Objects that 32-bit labels can name, 0 being the background."""
PLACES = ("first_", "last_")
NO_FEATURES = {"t", "z", "y", "x", "z_um", "y_um", "x_um"}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predict receipt speaks of.

    Attributes
    ----------
    levels: of the label image, which has the axes `axes`, no channels.
    identity: hash of all that the receipt says.
    """

    receipt: Path
    model: str
    volume: Volume
    axes: str
    levels: tuple[Level, ...]
    identity: str

    @property
    def labels(self) -> Path:
        """The store of the label image."""
        return self.volume.store / "labels" / self.model


def export(receipt: Path, form: Literal["dense", "anndata", "napari"], out: Path | None) -> Path:
    """Write a prediction in another form. Returns where it lies.

    `receipt` is that of predict, RESULTS/predict/MODEL/ACQUISITION.json. "dense" makes
    `labels/MODEL_dense` in the volume, with the ids 1 to N as uint32, and `tables/MODEL_dense`,
    which tells the id that each stands for. "anndata" makes an .h5ad file at `out`, by default
    beside the receipt, and "napari" a .csv file of objects' places, which napari opens as points.

    Raises ValueError where the volume holds another prediction than the receipt speaks of, dense
    ids do not suffice, `out` makes no sense, or the package anndata is not installed.
    """
    prediction = _opened(receipt)
    if form == "anndata":
        return _anndata(prediction, out or receipt.with_suffix(".h5ad"))
    if form == "napari":
        return _napari(prediction, out or receipt.with_suffix(".points.csv"))
    if out is not None:
        raise ValueError(
            f"--out {out}: dense labels are part of their volume and go into "
            f"{prediction.volume.store}. Leave out --out."
        )
    return _dense(prediction, receipt.with_suffix(".dense.building"))


def _opened(receipt: Path) -> Prediction:
    made = receipts.read(receipt)
    model = receipt.parent.name
    ingested = receipt.parents[2] / "ingest" / receipt.name
    volume = volumes.open_volume(receipts.result(ingested, "volume"))
    own = volumes.attributes(volume.store / "labels" / model).get("equiscope", {})
    if own.get("recipe") != made["recipe"]:
        raise ValueError(
            f"{receipt} speaks of other labels than {volume.store / 'labels' / model} holds: run "
            "predict again."
        )
    return Prediction(
        receipt=receipt,
        model=model,
        volume=volume,
        axes=volume.axes.replace("c", ""),
        levels=volume.label_levels,
        identity=receipts.identity(receipt),
    )


def _napari(prediction: Prediction, target: Path) -> Path:
    """Write where objects are, in voxels, and all else that is known of them as properties."""
    table = volumes.read_table(prediction.volume.store, prediction.model).sort_index()
    named = {axis: f"axis-{number}" for number, axis in enumerate(prediction.axes)}
    rows = table[[*prediction.axes, *features(table)]].rename(columns=named).reset_index()
    rows = rows[[*named.values(), *(name for name in rows if name not in named.values())]]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    rows.to_csv(partial, index_label="index")
    partial.replace(target)
    log.info("%d objects in %s", len(table), target)
    return target


def _dense(prediction: Prediction, building: Path) -> Path:
    """Write label image and table, one shard and 8 bytes per object in memory."""
    name = f"{prediction.model}_dense"
    labels, tables = (prediction.volume.store / group for group in ("labels", "tables"))
    recipe = receipts.recipe("export", {"as": "dense"}, {"predict": prediction.identity})
    standing = volumes.attributes(labels / name)
    if standing and standing.get("equiscope", {}).get("recipe", {}).get("stage") != "export":
        raise ValueError(
            f"{labels / name} is no export but labels of its own. Rename that model, or remove "
            "its labels."
        )
    ids = labels_of(tables / prediction.model / volumes.TABLE)
    refuse_too_many(len(ids))

    rows = building.with_name(f"{building.name}.table")
    for leftover in (building, rows):
        shutil.rmtree(leftover, ignore_errors=True)
    volumes.create(building, prediction.levels, prediction.axes, np.uint32, "labels")
    for level, box, values in _shards(prediction):
        volumes.write_shard(building, level, box, numbered(values, ids))
    own = {"recipe": recipe, "facts": {"objects": len(ids)}}
    volumes.annotate(building, _described(prediction, name, own))
    index = pd.RangeIndex(1, len(ids) + 1, name="label").astype(np.int64)
    volumes.write_table(rows, pd.DataFrame({"id": ids}, index=pd.Index(index)), name, own)

    publication.publish(rows, tables / name)
    publication.publish(building, labels / name)
    publication.list_children(tables, "tables")
    publication.list_children(labels, "labels")
    log.info("%d objects, numbered from 1, in %s", len(ids), labels / name)
    return labels / name


def refuse_too_many(objects: int) -> None:
    """Raise ValueError where 32-bit labels cannot name so many objects."""
    if objects > MOST_DENSE:
        raise ValueError(
            f"--as dense: {objects:,} objects are more than the {MOST_DENSE:,} that 32-bit labels "
            "can name. Use the labels as predict wrote them, which have 64 bits."
        )


def numbered(labels: npt.NDArray[np.uint64], ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Labels with each id replaced by 1 + its place in the sorted `ids`; 0 stays 0.

    Raises ValueError where a label is none of them.
    """
    flat = np.flatnonzero(labels)
    mine = labels.reshape(-1)[flat].astype(np.int64)
    place = np.searchsorted(ids, mine)
    known = place < len(ids)
    known[known] = ids[place[known]] == mine[known]
    if not known.all():
        raise ValueError(
            f"the labels hold the id {mine[~known][0]}, which the table has no row of: run predict "
            "again."
        )
    dense = np.zeros(labels.size, np.uint32)
    dense[flat] = place + 1
    return dense.reshape(labels.shape)


def _shards(prediction: Prediction) -> Iterator[tuple[Level, Box, npt.NDArray[np.uint64]]]:
    for level in prediction.levels:
        for box in boxes(level.shape, level.shard):
            values = volumes.read_box(prediction.labels, level, box, prediction.receipt)
            yield level, box, values


def _described(prediction: Prediction, name: str, own: dict[str, Any]) -> dict[str, Any]:
    """Attributes of the dense label image."""
    volume = prediction.volume
    blocks = ngff.multiscales(name, prediction.axes, prediction.levels, volume.calibration, "first")
    levels = [asdict(level) for level in prediction.levels]
    return {"ome": ngff.image_label(blocks), "equiscope": {"levels": levels, **own}}


def features(table: pd.DataFrame) -> Sequence[str]:
    """The columns of a table of objects that say what an object is like, not where it is."""
    names = [str(name) for name in table]
    return [n for n in names if n not in NO_FEATURES and not n.startswith(PLACES)]


def _anndata(prediction: Prediction, target: Path) -> Path:
    """Write the table of objects as AnnData; all of it is in memory at once.

    X holds size, shape, intensities and doubts; obs the label, the frame, the centroid and the
    bounding box in voxels; obsm["spatial"] the centroid, x first, in um.
    """
    try:
        import anndata
    except ImportError as error:
        raise ValueError(
            "--as anndata needs the package anndata, which is not installed: type "
            "`pip install .[anndata]` in Equiscope's folder and export again."
        ) from error
    table = volumes.read_table(prediction.volume.store, prediction.model).sort_index()
    described = features(table)
    space = prediction.volume.space[::-1]
    observed = table.drop(columns=[*described, *(f"{axis}_um" for axis in space)])
    observed.insert(0, "label", table.index.to_numpy())
    observed["region"] = pd.Categorical([prediction.model] * len(table))
    observed.index = pd.Index([str(identity) for identity in table.index])
    content = anndata.AnnData(
        X=table[described].to_numpy(np.float64),
        obs=observed,
        var=pd.DataFrame(index=pd.Index(described)),
        obsm={"spatial": table[[f"{axis}_um" for axis in space]].to_numpy()},
        uns={
            "spatialdata_attrs": {
                "region": prediction.model,
                "region_key": "region",
                "instance_key": "label",
            }
        },
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    content.write_h5ad(partial)
    partial.replace(target)
    log.info("%d objects in %s", len(table), target)
    return target
