"""Checks of a prediction and of a whole campaign: what the report's red and green are made of."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import (
    charts,
    grids,
    groups,
    planes,
    report_groups,
    seams,
    stitching,
    volumes,
)
from pipeline import view as views
from pipeline.alarms import Check
from pipeline.charts import Chart
from pipeline.groups import Grouping
from pipeline.report_prediction import Prediction
from pipeline.seams import Objects
from pipeline.sentences import listed
from pipeline.tiles import Box, Level, boxes, placed

MOST_PLANES, LOOKED_AT = 192, 512
"""Planes of a channel that are looked at, and the longest side in pixels at which they are."""
MOST_VOXELS = 2**23
"""Voxels of the image and the labels that are compared shard by shard, at a coarser level."""


def of_prediction(p: Prediction) -> list[Check]:
    """Checks of one prediction and of the channel that it was made from, alarms first.

    Where a shard has no file that is all there is to say: nothing else can be read.
    """
    lost = files(p)
    if lost.state == "alarm":
        return [lost]
    return [lost, *_seams(p), _unlabelled(p), *_planes(p)]


def files(p: Prediction) -> Check:
    """Whether every shard of image and labels has a file that holds something."""
    name, missing, count = "shards", list[str](), 0
    stores = {p.volume.store: p.volume.levels}
    stores[p.volume.store / "labels" / p.model] = p.volume.label_levels
    for store, levels in stores.items():
        for file, _, _ in volumes.shard_files(levels):
            count += 1
            path = store / file
            if not path.is_file() or not path.stat().st_size:
                missing.append(str(path.relative_to(p.volume.store)))
    if missing:
        said = f"{len(missing)} of {count} lost or empty: {listed(missing, 4)}."
        return Check(name, "alarm", f"{said} Run again to make them anew.")
    redone = p.made["facts"].get("repaired", 0)
    again = f"; {redone} objects made again, with their shards" if redone else ""
    return Check(name, "fine", f"{count}, all there{again}.")


def _seams(p: Prediction) -> list[Check]:
    axes, table = p.volume.space, p.table
    lattice = views.view(p.volume, p.card.channel, p.card.voxel_size_um).lattice
    tile = grids.grid(p.card.network, lattice.coarse, _tile(p)).tile
    shard = p.volume.label_levels[0].shard[-len(axes) :]
    objects, places, width, step = {}, {}, {}, {}
    for number, axis in enumerate(axes):
        step[axis] = lattice.step[number]
        places[axis] = sorted(
            {*seams.positions(p.shape[number], step[axis], tile[number])}
            | {*seams.positions(p.shape[number], 1.0, shard[number])}
        )
        width[axis] = max(p.card.diameter_um / p.volume.voxel_size_um[axis], 4.0)
        first, last = (table[f"{end}_{axis}"].to_numpy(np.int64) for end in ("first", "last"))
        centre, size = table[axis].to_numpy(float), table["voxels"].to_numpy(float)
        objects[axis] = Objects(first, last, centre, size)
    if table.empty:
        return [Check("borders at seams", "off", "There is no object.")]
    return [seams.straight(objects, places, step), seams.density(objects, places, width)]


def _tile(p: Prediction) -> tuple[int, ...]:
    """Voxels of a tile, as the prediction's recipe has them."""
    return tuple(p.made["recipe"]["settings"]["predict"]["tile_voxels"][p.volume.space])


def _unlabelled(p: Prediction) -> Check:
    level = next(
        (v for v in p.volume.label_levels if math.prod(v.shape) <= MOST_VOXELS),
        p.volume.label_levels[-1],
    )
    space = p.volume.space
    whole = Box((0,) * len(space), level.shape[-len(space) :])
    frames = range(p.frames)
    labelled = np.stack([p.labels(level.number, whole, t) > 0 for t in frames])
    image = np.stack([p.image(level.number, whole, t) for t in frames]).astype(np.float64)
    if not labelled.any() or labelled.all():
        return Check("shards without objects", "off", "There is no object, or nothing else.")
    inside, outside = float(np.median(image[labelled])), float(np.median(image[~labelled]))
    middle = (inside + outside) / 2
    bright = image > middle if inside > outside else image < middle
    factors = level.factors[-len(space) :]
    typical = p.typical_size / math.prod(
        p.volume.voxel_size_um[a] * f for a, f in zip(space, factors, strict=True)
    )
    return seams.unlabelled(bright, labelled, list(_parts(p, level)), max(typical, 1.0))


def _parts(p: Prediction, level: Level) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Shards of the labels by the names of their files, as parts of a level with frames first."""
    finest, axes = p.volume.label_levels[0], p.volume.axes.replace("c", "")
    for box in boxes(finest.shape, finest.shard):
        coarse = box.coarsened(level.factors).clipped(level.shape)
        spans = dict(zip(axes, coarse.slices, strict=True))
        part = tuple(spans.get(axis, slice(None)) for axis in ("t", *p.volume.space))
        yield volumes.shard_file(finest, box), part


def _planes(p: Prediction) -> list[Check]:
    """Checks of the frames of a movie, else of the planes of a stack, else of the one plane."""
    channel = p.volume.channel(p.card.channel)
    level = _coarse(p)
    what, count = ("frame", p.frames) if p.frames > 1 else ("plane", _depth(p))
    numbers = list(range(0, count, math.ceil(count / MOST_PLANES)))
    shown = [_plane(p, level, channel, number) for number in numbers]
    means = _means(p, count)
    factor = p.volume.spatial(level.factors)[-2:]
    middle = len(shown) // 2
    found = planes.checks(means, planes.measure(shown, numbers), what)
    where = f"{what} {numbers[middle]}"
    return [*found, stitching.check(shown[middle], where, (factor[0], factor[1]))]


def _depth(p: Prediction) -> int:
    return p.shape[0] if "z" in p.volume.axes else 1


def _coarse(p: Prediction) -> Level:
    """The finest level that is small enough and whose planes are those of full resolution."""
    flat = [v for v in p.volume.levels if p.volume.spatial(v.factors)[:-2] in ((), (1,))]
    small = [v for v in flat if max(p.volume.spatial(v.shape)[-2:]) <= LOOKED_AT]
    return small[0] if small else flat[-1]


def _plane(p: Prediction, level: Level, channel: int, number: int) -> npt.NDArray[Any]:
    """A frame, its middle plane where there is depth, or a plane: at most LOOKED_AT of it."""
    frame, depth = (number, _depth(p) // 2) if p.frames > 1 else (0, number)
    sides = p.volume.spatial(level.shape)[-2:]
    start = tuple((n - min(n, LOOKED_AT)) // 2 for n in sides)
    stop = tuple(a + min(n, LOOKED_AT) for a, n in zip(start, sides, strict=True))
    at = (depth,) if "z" in p.volume.axes else ()
    box = Box((*at, *start), (*(z + 1 for z in at), *stop))
    read = p.volume.read(level.number, placed(p.volume.axes, box, frame, channel))
    return read.reshape(box.shape[-2:])


def statistics(p: Prediction) -> dict[str, Any]:
    """What ingest measured of each channel; empty where it did not."""
    return volumes.statistics(p.volume.store)


def _means(p: Prediction, count: int) -> list[float]:
    """Mean intensity of each frame, or of each plane."""
    means = statistics(p).get(p.card.channel, {}).get("plane_means", [])
    if not means or len(means) % count:
        return []
    return [float(mean) for mean in np.reshape(means, (count, -1)).mean(axis=1)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What is held against other acquisitions of the same model.

    Attributes
    ----------
    acquired: when, as ISO 8601; "" where nobody told.
    groups: plate, well, position and day, those that are known.
    values: by the name of a feature; None where it is not known.
    channels: logarithms of what tells channels apart, by channel; empty without statistics.
    """

    acquisition: str
    acquired: str
    groups: Mapping[str, str]
    values: Mapping[str, float | None]
    channels: Mapping[str, Sequence[float]]


def measured(p: Prediction) -> Measured:
    """Of one prediction, the numbers that its campaign is charted by."""
    said = statistics(p)
    own = said.get(p.card.channel, {})
    of_image = {"mean intensity": "mean", "noise": "noise", "focus": "focus"}
    of_image["signal-to-noise ratio"] = "signal_to_noise"
    values: dict[str, float | None] = {name: own.get(key) for name, key in of_image.items()}
    field = math.prod(p.shape) * math.prod(p.volume.voxel_size_um.values()) * p.frames
    values["density of objects"] = len(p.table) / field
    of_objects = {"median diameter": "equivalent_diameter_um"}
    of_objects |= {"mean score": "score", "mean quality": "quality"}
    for name, column in of_objects.items():
        values[name] = None if p.table.empty else _median(p, column)
    known = report_groups.groups(p)
    return Measured(p.acquisition, p.volume.acquired, known, values, _channels(said))


def in_order(found: Sequence[Measured]) -> list[Measured]:
    """Acquisitions in the order of time, where all of them tell it, else in that of names."""
    is_told = all(one.acquired for one in found)
    return sorted(found, key=lambda one: (one.acquired if is_told else "", one.acquisition))


def of_campaign(
    found: Sequence[Measured],
) -> tuple[list[Check], list[Chart], list[Grouping]]:
    """Checks that hold acquisitions of one model, in order, against each other.

    And what they look at: charts, and groups of those kinds that are known of any.
    """
    names = tuple(one.acquisition for one in found)
    drawn = [
        Chart(feature, names, tuple(one.values[feature] for one in found))
        for feature in found[0].values
    ]
    groupings = report_groups.groupings([one.groups for one in found])
    features = {one.acquisition: one.channels for one in found if one.channels}
    checks = [charts.outliers(drawn), charts.drift(drawn), charts.swapped(features)]
    checks += [groups.unlike(drawn, one) for one in groupings if one.kind in report_groups.TESTED]
    return checks, drawn, groupings


def _median(p: Prediction, column: str) -> float | None:
    return float(p.table[column].median()) if column in p.table else None


def _channels(said: Mapping[str, Any]) -> dict[str, list[float]]:
    """Of each channel, logarithms of what tells channels apart."""
    return {
        name: [
            math.log(max(abs(one["mean"]), 1e-6)),
            math.log(max(one["noise"], 1e-6)),
            math.log(max(one["signal_to_noise"], 1e-3)),
        ]
        for name, one in said.items()
    }


def alarmed(checks: Sequence[Check]) -> list[str]:
    """What the checks that went red say."""
    return [f"{check.name}: {check.said}" for check in checks if check.state == "alarm"]


def facts(checks: Sequence[Check]) -> list[dict[str, str]]:
    """What a receipt says of checks."""
    return [{"name": check.name, "state": check.state, "said": check.said} for check in checks]
