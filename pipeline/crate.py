"""RO-Crate of a campaign: all that its report rests on, as linked data that machines read.

Written by the profile Workflow Run Crate (https://w3id.org/ro/wfrun/workflow/0.5): the workflow,
one action for each stage's run, with the tool, its settings, what it used and what came out. The
folder of results becomes the crate; nothing is copied into it but Snakefile and settings.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from pipeline import __version__, origins, provenance, receipts
from pipeline.origins import Original

PROFILES = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
SPECIFICATION = "1.1"
"""Of RO-Crate: the one that these profiles build on."""
WORKFLOW = "Snakefile"
OUTSIDE = "#input/"
METADATA = "ro-crate-metadata.json"
SNAKEMAKE = "https://snakemake.github.io"
HOME = Path(__file__).parents[1]
MEDIA = {
    ".json": "application/json",
    ".html": "text/html",
    ".safetensors": "application/octet-stream",
}


def write(report: Path, beside: Sequence[Path] = ()) -> Path:
    """Write the crate's metadata into the folder of results that a report belongs to.

    `report` is the report's receipt, the end of the chain that is followed back to raw files;
    `beside` are receipts of the campaign that it may not rest on, such as those of plates.
    Returns the file.
    """
    last = origins.opened(report)
    made = list(origins.chain(last, beside))
    crate = ROCrate(version=SPECIFICATION)
    crate.name = f"Equiscope campaign {last.recipe['settings']['campaign']}"
    crate.description = (
        f"Objects found in microscopy by Equiscope {__version__}: volumes, models, labels, tables "
        "and the report on them, with what each was made from."
    )
    crate.license = crate.add(
        ContextEntity(
            crate,
            "#licence",
            properties={
                "@type": "CreativeWork",
                "name": "No licence is stated",
                "description": "Ask those who recorded the images what may be done with them.",
            },
        )
    )
    crate.root_dataset["conformsTo"] = [
        crate.add(
            ContextEntity(
                crate,
                url,
                properties={"@type": "CreativeWork", "name": name, "version": version},
            )
        )
        for url, name, version in PROFILES
    ]
    workflow = _workflow(crate, last.results)
    entities: dict[Path, Entity] = {}
    actions = [_action(crate, one, workflow, entities) for one in made]
    crate.root_dataset["mentions"] = [*actions, _run(crate, made, workflow, entities)]
    whole = json.dumps(crate.metadata.generate(), indent=1, ensure_ascii=False)
    partial = last.results / f".{METADATA}.partial"
    partial.write_text(whole + "\n", encoding="utf-8")
    partial.replace(last.results / METADATA)
    return last.results / METADATA


def _workflow(crate: ROCrate, results: Path) -> Entity:
    """The workflow itself, a copy of which lies in the crate."""
    shutil.copyfile(HOME / WORKFLOW, results / WORKFLOW)
    language = crate.add(
        ContextEntity(
            crate,
            "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
            properties={
                "@type": "ComputerLanguage",
                "name": "Snakemake",
                "url": {"@id": SNAKEMAKE},
                "identifier": {"@id": SNAKEMAKE},
            },
        )
    )
    workflow = crate.add_file(
        results / WORKFLOW,
        WORKFLOW,
        properties={
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": "Equiscope",
            "programmingLanguage": {"@id": language.id},
            "version": __version__,
            "softwareVersion": __version__,
        },
    )
    crate.root_dataset["mainEntity"] = workflow
    return workflow


def _action(
    crate: ROCrate, one: Original, workflow: Entity, entities: dict[Path, Entity]
) -> Entity:
    """One stage's run."""
    said = provenance.read(one.receipt)
    number = str(one.receipt.relative_to(one.results).with_suffix(""))
    tool = crate.dereference(f"#equiscope-{one.stage}") or crate.add(
        ContextEntity(
            crate,
            f"#equiscope-{one.stage}",
            properties={
                "@type": "SoftwareApplication",
                "name": f"python -m pipeline {one.stage}",
                "softwareVersion": one.recipe["version"],
                "isPartOf": {"@id": workflow.id},
            },
        )
    )
    used = [_input(crate, one, name, entities) for name in one.recipe["inputs"]]
    used.append(
        crate.add(
            ContextEntity(
                crate,
                f"#settings/{quote(number)}",
                properties={
                    "@type": "PropertyValue",
                    "name": f"settings of {number}",
                    "value": json.dumps(one.recipe["settings"], sort_keys=True),
                },
            )
        )
    )
    about = {
        "@type": "CreateAction",
        "name": f"{one.stage} {one.receipt.stem}",
        "instrument": {"@id": tool.id},
        "object": [{"@id": entity.id} for entity in used],
        "result": [{"@id": entity.id} for entity in _results(crate, one, entities)],
        "identifier": one.recipe["hash"],
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    if said:
        about |= {"startTime": said["began"], "endTime": said["ended"]}
        about["description"] = _sentence(said)
    return crate.add(ContextEntity(crate, f"#run/{quote(number)}", properties=about))


def _run(
    crate: ROCrate, made: Sequence[Original], workflow: Entity, entities: dict[Path, Entity]
) -> Entity:
    """The workflow's run as a whole: raw files in, the report out."""
    times = [said for one in made if (said := provenance.read(one.receipt))]
    given = [one.id for one in crate.contextual_entities if one.id.startswith(OUTSIDE)]
    about: dict[str, Any] = {
        "@type": "CreateAction",
        "name": "the whole campaign",
        "instrument": {"@id": workflow.id},
        "object": [{"@id": one} for one in given],
        "result": [{"@id": entity.id} for entity in _results(crate, made[-1], entities)],
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    if times:
        about["startTime"] = min(said["began"] for said in times)
        about["endTime"] = max(said["ended"] for said in times)
    return crate.add(ContextEntity(crate, "#run", properties=about))


def _input(crate: ROCrate, one: Original, name: str, entities: dict[Path, Entity]) -> Entity:
    """What a stage started from: another's receipt, a base model, or a file of the user's.

    Files outside the crate are no data of it: they are named, with their fingerprints.
    """
    receipt = origins.receipt_of(one, name)
    if one.stage != "ingest" and receipt.is_file():
        return _file(crate, receipt, one.results, entities)
    identity = one.recipe["inputs"][name]
    place = f"{OUTSIDE}{quote(name)}"
    return crate.dereference(place) or crate.add(
        ContextEntity(
            crate,
            place,
            properties={"@type": "CreativeWork", "name": name, "identifier": identity},
        )
    )


def _results(crate: ROCrate, one: Original, entities: dict[Path, Entity]) -> Iterator[Entity]:
    """The receipt, what made it, and the files and stores that it speaks of."""
    yield _file(crate, one.receipt, one.results, entities)
    beside = provenance.path(one.receipt)
    if beside.is_file():
        yield _file(crate, beside, one.results, entities)
    for path in provenance.results(one.receipt, one.said):
        if path.exists():
            yield _file(crate, path, one.results, entities)


def _file(crate: ROCrate, path: Path, results: Path, entities: dict[Path, Entity]) -> Entity:
    """A file or folder of the results."""
    place = path.resolve()
    if place not in entities:
        name = os.path.relpath(path, results)
        if path.is_dir():
            entities[place] = crate.add_dataset(path, name, properties={"name": name})
        else:
            about = {
                "name": name,
                "contentSize": str(path.stat().st_size),
                "encodingFormat": MEDIA.get(path.suffix, "application/octet-stream"),
                "sha256": receipts.bytes_digest(path),
            }
            entities[place] = crate.add_file(path, name, properties=about)
    return entities[place]


def _sentence(said: Mapping[str, Any]) -> str:
    """With what, where, and at what cost."""
    cost, environment = said["cost"], said["environment"]
    nodes = sorted({job["node"] for job in said["jobs"]} or {said["machine"]["node"]})
    jobs = ", ".join(job["job"] for job in said["jobs"]) or "none of its own"
    commit = f", commit {said['code']['commit']}" if said["code"]["commit"] else ""
    return (
        f"Equiscope {said['code']['version']}{commit}, Python {environment['python']} on "
        f"{environment['platform']}; nodes: {', '.join(nodes)}; jobs: {jobs}; "
        f"{cost['core_hours']:.3g} core-hours, {cost['gpu_hours']:.3g} GPU-hours."
    )
