"""Laws of a campaign's RO-Crate: what machines read of it is whole, true, and of its profile."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import campaigns
import pytest

from pipeline import campaigns as pipeline_campaigns
from pipeline import cli_campaign, crate, receipts

CHECKER = campaigns.ROOT / ".venv-peers" / "crate" / "bin" / "python"
CHECK = Path(__file__).with_name("crate_check.py")


@pytest.fixture
def results(reference: Path, tmp_path: Path) -> Path:
    """Results of a finished campaign, as the workflow left them."""
    return campaigns.copy(reference, tmp_path / "campaign") / "results"


def graph(results: Path) -> dict[str, dict[str, Any]]:
    said = json.loads((results / crate.METADATA).read_text("utf-8"))
    return {entity["@id"]: entity for entity in said["@graph"]}


def mentioned(value: Any) -> set[str]:
    """All that entities refer to."""
    if isinstance(value, dict):
        return {value["@id"]} if value.keys() == {"@id"} else mentioned(list(value.values()))
    return set().union(*map(mentioned, value)) if isinstance(value, list) else set()


def test_every_reference_leads_somewhere_and_every_file_is_there(results: Path) -> None:
    entities = graph(results)
    outward = {one for one in mentioned(list(entities.values())) if one.startswith("https://")}
    assert mentioned(list(entities.values())) - outward <= entities.keys()
    for part in entities["./"]["hasPart"]:
        assert (results / part["@id"]).exists()
        if digest := entities[part["@id"]].get("sha256"):
            assert receipts.bytes_digest(results / part["@id"]) == digest


def test_each_stage_is_an_action_that_leads_back_to_the_raw_file(results: Path) -> None:
    entities = graph(results)
    place, steps = "report/campaign.json", []
    while True:
        action = next(
            one
            for one in entities.values()
            if one["@type"] == "CreateAction"
            and {"@id": place} in one["result"]
            and one["@id"] != "#run"
        )
        steps.append(action["name"].split()[0])
        assert action["identifier"] == receipts.read(results / place)["recipe"]["hash"]
        used = [one["@id"] for one in action["object"]]
        if "#input/wound.ome.tif" in used:
            break
        place = next(one for one in used if one.endswith(".json"))
    assert steps in (["report", "predict", "ingest"], ["report", "predict", "finetune", "ingest"])
    raw = entities["#input/wound.ome.tif"]["identifier"]
    assert raw == receipts.file_fingerprint(results.parent / "wound.ome.tif")


def test_the_crate_names_its_profiles_and_its_workflow(results: Path) -> None:
    root = graph(results)["./"]
    profiles = {one["@id"] for one in root["conformsTo"]}
    assert {"https://w3id.org/ro/wfrun/workflow/0.5"} <= profiles
    assert root["mainEntity"] == {"@id": crate.WORKFLOW}
    assert (results / crate.WORKFLOW).read_bytes() == (campaigns.ROOT / "Snakefile").read_bytes()


def test_plates_and_acquisitions_without_a_model_are_in_the_crate(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    campaigns.change(results.parent, acquisitions={"alone": {"path": "wound.ome.tif"}})
    alone = receipts.read(results / "ingest/wound.json")
    receipts.write(results / "ingest/alone.json", alone)
    plate = receipts.recipe(
        "plate", {}, {"A/1/0": receipts.identity(results / "ingest/alone.json")}
    )
    receipts.write(results / "plate/screen.json", {"recipe": plate, "facts": {"plate": "gone"}})
    assert not {"#run/ingest/alone", "#run/plate/screen"} & graph(results).keys()
    loaded = pipeline_campaigns.load(Path("config.yaml"))
    cli_campaign.crate(dataclasses.replace(loaded, plates={"screen": ("alone",)}))
    entities = graph(results)
    assert {"@id": "plate/screen.json"} in entities["#run/plate/screen"]["result"]
    assert {"@id": "ingest/alone.json"} in entities["#run/plate/screen"]["object"]
    assert {"@id": "ingest/alone.json"} in entities["#run/ingest/alone"]["result"]
    assert {"@id": "report/report.html"} in entities["#run"]["result"]


def test_the_end_of_a_run_describes_what_the_report_does_not_rest_on(results: Path) -> None:
    campaigns.change(results.parent, acquisitions={"alone": {"path": "wound.ome.tif"}})
    assert campaigns.named(campaigns.finish(results.parent)) == {"ingest/alone"}
    assert {"@id": "ingest/alone.json"} in graph(results)["#run/ingest/alone"]["result"]


def checked(results: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CHECKER), str(CHECK), str(results)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(not CHECKER.is_file(), reason="make peers installs the validator")
def test_the_validator_of_the_profile_finds_no_fault_and_would_find_one(results: Path) -> None:
    done = checked(results)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    said = json.loads((results / crate.METADATA).read_text("utf-8"))
    for entity in said["@graph"]:
        if entity["@id"] == "./":
            del entity["mainEntity"]
        entity.pop("instrument", None)
    (results / crate.METADATA).write_text(json.dumps(said))
    done = checked(results)
    assert done.returncode == 1
    assert "workflow-ro-crate" in done.stdout
    assert "process-run-crate" in done.stdout
