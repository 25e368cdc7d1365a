"""Laws of the comparison of labels with those whose place they took."""

import json
from pathlib import Path

import campaigns
import pytest

from pipeline import cli, former, receipts, report, report_changes, volumes

PREDICT = Path("results/predict/nuclei/wound.json")


@pytest.fixture
def folder(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A campaign whose predictions were made anew, with another threshold; we are in it."""
    monkeypatch.chdir(campaigns.copy(reference, tmp_path / "campaign"))
    settings = receipts.read(PREDICT)["recipe"]["settings"]
    settings["predict"]["foreground"] = 0.65
    words = ["predict", str(PREDICT), "--settings", json.dumps(settings)]
    words += ["--image", "results/ingest/wound.json", "--model", "results/finetune/nuclei.json"]
    assert cli.main(words) == 0
    return tmp_path / "campaign"


def test_every_object_is_counted_once_and_shown_with_a_picture(folder: Path) -> None:
    p = report._open(folder / "results", "nuclei", "wound", PREDICT)
    found = report_changes.compared(p, 0.5)
    assert found is not None
    assert found.facts["differs"] == ["predict.foreground: 0.5 → 0.65"]
    counts = found.facts["counts"]
    old = volumes.read_table(p.volume.store, former.before(p.volume.store, "nuclei"))
    assert found.facts["objects"] == len(old)
    assert sum(counts.values()) >= max(len(old), len(p.table)) - 2 * (
        counts["split"] + counts["merged"]
    )
    assert counts["same"] + counts["moved"] + counts["lost"] + counts["split"] <= len(old)
    assert counts["same"] + counts["moved"] + counts["gained"] + counts["merged"] <= len(p.table)
    for kind, crops in found.crops.items():
        assert len(crops) == min(counts[kind], report_changes.CELLS)
        assert all(kind in crop.caption and crop.array.any() for crop in crops)


def test_the_page_compares_and_says_how_to_go_back(folder: Path) -> None:
    made = receipts.read(folder / "results/report/campaign.json")["recipe"]["settings"]
    words = ["report", "results/report/campaign.json", "--predictions", str(PREDICT)]
    assert cli.main([*words, "--settings", json.dumps(made)]) == 0
    page = (folder / "results/report/acquisitions/wound.html").read_text()
    assert "What changed since the labels before" in page
    assert "predict.foreground: 0.5 → 0.65" in page
    assert "Errors by kind and size" in page
    assert "To go back, set back what differs" in page
    said = receipts.read(folder / "results/report/campaign.json")
    assert said["recipe"]["inputs"]["nuclei/wound before"].startswith("nuclei.")
    assert said["facts"]["results"]["nuclei/wound"]["changes"]["counts"]
    assert cli.main(["replay", "results/report/campaign.json"]) == 0


def test_without_earlier_labels_nothing_is_compared(folder: Path) -> None:
    p = report._open(folder / "results", "nuclei", "wound", PREDICT)
    assert cli.main(["prune", "--yes"]) == 0
    assert report_changes.compared(p, 0.5) is None
