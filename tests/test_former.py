"""Laws of volumes that are ingested anew: labels in them wait in the new ones, kill or no kill."""

import json
import shutil
from pathlib import Path

import campaigns
import pytest

from pipeline import cli, former, publication, receipts, report, report_changes, verify, volumes

INGEST, PREDICT = Path("results/ingest/wound.json"), Path("results/predict/nuclei/wound.json")
STORE = Path("results/ingest/wound.ome.zarr")


@pytest.fixture
def waiting(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name under which labels will wait once the volume is ingested anew. We are in a campaign."""
    monkeypatch.chdir(campaigns.copy(reference, tmp_path / "campaign"))
    shutil.copytree(STORE / "labels/nuclei", STORE / "labels/by_hand")
    own = volumes.attributes(STORE / "labels/by_hand")
    volumes.annotate(STORE / "labels/by_hand", {"ome": own["ome"]})
    made = receipts.read(PREDICT)["recipe"]["hash"]
    return former.aside(STORE / "labels/nuclei", made).name


def ingested(sides: list[int]) -> int:
    settings = receipts.read(INGEST)["recipe"]["settings"]
    settings["ingest"]["chunk_voxels"]["yx"] = sides
    return cli.main(["ingest", str(INGEST), "--settings", json.dumps(settings)])


def held(folder: Path) -> dict[str, bytes]:
    """Bytes of all shards of labels, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


def check(waiting: str, before: dict[str, bytes]) -> None:
    assert held(STORE / "labels" / waiting) == before
    assert not (STORE / "labels/nuclei").exists()
    assert (STORE / "tables" / waiting).is_dir()
    listed = volumes.attributes(STORE / "labels")["ome"]["labels"]
    assert listed == sorted(["by_hand", waiting])
    assert not list(STORE.parent.glob(".*.replaced"))


def test_labels_of_a_volume_that_is_ingested_anew_wait_under_their_recipe(waiting: str) -> None:
    before = held(STORE / "labels/nuclei")
    assert ingested([16, 32]) == 0
    check(waiting, before)
    assert ingested([32, 32]) == 0, "and once more, back as it was"
    check(waiting, before)


@pytest.mark.parametrize("step", ["rename", "settle"])
def test_a_kill_between_the_two_volumes_loses_no_labels(
    waiting: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(STORE / "labels/nuclei")
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name.endswith(".building") and step == "rename":
            raise KeyboardInterrupt
        return rename(self, target)

    def settled(target: Path, _inherit: publication.Inherit | None = None) -> None:
        if target.exists() and publication._replaced(target).exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        if step == "settle":
            patch.setattr(publication, "settle", settled)
        with pytest.raises(KeyboardInterrupt):
            ingested([16, 32])
    assert ingested([16, 32]) == 0
    check(waiting, before)


def test_labels_of_the_new_volume_are_compared_with_those_of_the_old(waiting: str) -> None:
    assert ingested([16, 32]) == 0
    settings = json.dumps(receipts.read(PREDICT)["recipe"]["settings"])
    words = ["--image", str(INGEST), "--model", "results/finetune/nuclei.json"]
    receipts.write(Path("results/finetune/nuclei.json"), learned_again())
    assert cli.main(["predict", str(PREDICT), "--settings", settings, *words]) == 0
    assert former.before(STORE, "nuclei") == waiting
    p = report._open(Path("results"), "nuclei", "wound", PREDICT)
    found = report_changes.compared(p, 0.5)
    assert found is not None
    assert "another image" in found.facts["differs"]
    assert found.facts["counts"]["same"] == found.facts["objects"]
    assert verify.verify(STORE) == []


def learned_again() -> dict:
    """The receipt of the model, as if it had learned from the new volume to the same weights."""
    made = receipts.read(Path("results/finetune/nuclei.json"))
    made["recipe"]["inputs"]["wound"] = receipts.identity(INGEST)
    return made
