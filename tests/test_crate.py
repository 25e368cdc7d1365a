"""Laws of a campaign's RO-Crate: what machines read of it is whole, true, and of its profile."""

import json
import subprocess
from pathlib import Path
from typing import Any

import campaigns
import pytest

from pipeline import crate, receipts

CHECKER = campaigns.ROOT / ".venv-peers" / "crate" / "bin" / "python"
CHECK = Path(__file__).with_name("crate_check.py")


@pytest.fixture
def results(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """Results of a finished campaign, as the workflow left them."""
    reference = campaigns.finished(tmp_path_factory.getbasetemp() / "finished")
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
