"""What acquisitions have in common: their plate, well, position and day, where these are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.groups import Grouping
from pipeline.report_prediction import Prediction

KINDS = ("plate", "well", "position", "day")
TESTED = ("plate", "position", "day")
"""Kinds whose groups should be alike; wells are there to differ."""


def groups(p: Prediction) -> Mapping[str, str]:
    """The group of each kind that an acquisition is part of; kinds that are not known are missing.

    A field of a plate says its well and position by its name in the file, `ROW/COLUMN/FIELD`; the
    plate is the file or folder. The day is that of the raw file's metadata.
    """
    found = dict[str, str]()
    given = p.ingested
    parts = str(given["series"]).split("/")
    if len(parts) == 3 and all(parts):
        found |= {"plate": Path(given["path"]).name, "well": f"{parts[0]}{parts[1]}"}
        found["position"] = parts[2]
    if p.volume.acquired:
        found["day"] = p.volume.acquired.partition("T")[0]
    return found


def groupings(known: Sequence[Mapping[str, str]]) -> list[Grouping]:
    """Of acquisitions with these groups, the groupings by each kind of which there are several."""
    wells = tuple(f"{one['plate']}/{one['well']}" if "well" in one else None for one in known)
    return [
        Grouping(kind, tuple(one.get(kind) for one in known), wells, kind == "position")
        for kind in KINDS
        if len({one[kind] for one in known if kind in one}) > 1
    ]
