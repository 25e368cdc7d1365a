"""Pages of a report: what was found, as HTML that stands alone."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from pipeline import __version__, gate, report_scores
from pipeline.config import ReportTask
from pipeline.provenance import COST
from pipeline.report_image import Image

PAGE, PAGES, PICTURES = "report.html", "acquisitions", "pictures"
LOOK_FIRST, ERRORS, TRACKS = "look_first", "errors", "tracks"
FOLDERS = (PAGES, PICTURES, LOOK_FIRST, ERRORS, TRACKS)
MOST = 20
"""Results whose doubts the campaign's page spells out, and acquisitions that a sentence lists."""


def campaign(
    task: ReportTask, said: Mapping[str, Mapping[str, Any]], models: Sequence[Mapping[str, Any]]
) -> str:
    """The page on a whole campaign.

    `said` are the facts of each result, as the receipt has them, by MODEL/ACQUISITION; `models`
    what is shown of each model.
    """
    rows = [_row(f"{PAGES}/", *item) for item in said.items()]
    red = Counter(
        check["name"]
        for facts in said.values()
        for check in facts["checks"]
        if check["state"] == "alarm"
    )
    more = {"rows": rows, "models": models, "red": red.most_common(), "most": MOST, "cost": COST}
    return _rendered("report.html.j2", task, more)


def acquisition(
    task: ReportTask,
    name: str,
    names: Sequence[str],
    image: Image,
    shown: Sequence[Mapping[str, Any]],
    said: Mapping[str, Mapping[str, Any]],
) -> str:
    """The page on one acquisition, and all that is `shown` of what models found in it.

    `names` are all acquisitions, in order; `said` as for the campaign.
    """
    place = names.index(name)
    rows = [
        _row("", key, said[key]) | {"address": f"#{entry['name']}"}
        for entry in shown
        for key in [f"{entry['model']}/{name}"]
    ]
    more = {
        "acquisition": name,
        "before": names[place - 1] if place else None,
        "after": names[place + 1] if place + 1 < len(names) else None,
        "page": PAGE,
        "image": image,
        "shown": [dict(entry) | {"viewer": _viewer(task, entry["model"], name)} for entry in shown],
        "rows": rows,
    }
    return _rendered("report_acquisition.html.j2", task, more)


def _row(folder: str, key: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the table of results."""
    model, _, name = key.partition("/")
    red = sum(check["state"] == "alarm" for check in facts["checks"])
    return {
        "model": model,
        "acquisition": name,
        "address": f"{folder}{name}.html#{model}-{name}",
        "objects": facts["objects"],
        "red": red,
        "doubts": facts["doubts"],
        "weight": (red, len(facts["doubts"])),
        "expected": (facts["quality"] or {}).get("expected_f1"),
        "scores": facts["scores"] or facts["places"],
    }


def _viewer(task: ReportTask, model: str, name: str) -> str | None:
    """Where a viewer in a browser shows an acquisition; None where no viewer is set."""
    if task.report.viewer_url == "none":
        return None
    volume = f"ingest/{name}.ome.zarr"
    places = {"{image}": volume, "{labels}": f"{volume}/labels/{model}"}
    address = task.report.viewer_url
    for mark, place in places.items():
        address = address.replace(mark, place)
    return address


def costs(name: str, said: Mapping[str, Any]) -> str:
    """The page on what the campaign of this name cost."""
    return _filled("report_costs.html.j2", {"campaign": name, "page": PAGE} | dict(said))


def _rendered(template: str, task: ReportTask, more: Mapping[str, Any]) -> str:
    """A page of the report itself."""
    given = {
        "campaign": task.campaign,
        "overlap": task.report.overlap,
        "strict": report_scores.STRICT,
        "enough": report_scores.ENOUGH_F1,
        "advice": gate.advice,
    }
    return _filled(template, given | dict(more))


def _filled(template: str, given: Mapping[str, Any]) -> str:
    return _templates().get_template(template).render(version=__version__, **given)


@functools.cache
def _templates() -> jinja2.Environment:
    """Templates, each of which is compiled once for all pages."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
