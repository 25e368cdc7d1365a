"""Laws of replaying: a receipt suffices to make its result again, and says so where it does not."""

import json
from pathlib import Path

import campaigns
import pytest

from pipeline import cli, provenance, receipts

PREDICT = Path("results/predict/nuclei/wound.json")


@pytest.fixture
def folder(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished campaign of one's own, which is where we are."""
    monkeypatch.chdir(campaigns.copy(reference, tmp_path / "campaign"))
    return tmp_path / "campaign"


def replayed(receipt: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.main(["replay", str(receipt)])
    said = capfd.readouterr()
    return code, said.out if code == 0 else said.err.strip().splitlines()[-1]


def test_every_stage_makes_the_same_bytes_from_its_receipt(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = campaigns.tree(folder)
    for name in ("ingest/wound", "finetune/nuclei", "predict/nuclei/wound", "report/campaign"):
        code, said = replayed(Path(f"results/{name}.json"), capfd)
        assert (code, "gives the same result again" in said) == (0, True), said
        assert "byte for byte" in said
    assert campaigns.tree(folder) == before, "nothing is left, nothing is touched"


def test_a_result_that_is_other_than_its_receipt_makes_it_is_named(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shard = next((folder / "results/ingest/wound.ome.zarr/0/c").rglob("[0-9]"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(bytes(content))
    code, said = replayed(Path("results/ingest/wound.json"), capfd)
    assert code == 1
    assert "gives another result" in said
    assert str(shard.relative_to(folder / "results")) in said


def test_inputs_that_changed_or_are_missing_are_named(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (folder / "wound.labels.tif").open("ab") as file:
        file.write(b"more")
    code, said = replayed(Path("results/finetune/nuclei.json"), capfd)
    assert code == 2
    assert "wound.labels.tif is not what it was" in said
    (folder / "wound.ome.tif").unlink()
    code, said = replayed(Path("results/ingest/wound.json"), capfd)
    assert code == 2
    assert "wound.ome.tif is missing" in said
    weights = folder / "results/finetune/nuclei.model/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    code, said = replayed(PREDICT, capfd)
    assert code == 2
    assert "weights.safetensors has other bytes" in said
    (folder / "results/finetune/nuclei.json").unlink()
    code, said = replayed(PREDICT, capfd)
    assert code == 2
    assert "an input is missing: there is no receipt results/finetune/nuclei.json" in said


def test_another_version_is_no_replay(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = receipts.read(PREDICT)
    made["recipe"]["version"] = "0.0.1"
    PREDICT.write_text(json.dumps(made))
    code, said = replayed(PREDICT, capfd)
    assert code == 2
    assert "made by version 0.0.1" in (folder and said)


def test_receipts_chain_from_the_raw_file_to_the_report(folder: Path) -> None:
    """Each names its inputs by what they are, and its provenance says where they lie."""
    report = receipts.read(folder / "results/report/campaign.json")
    predict = receipts.read(folder / PREDICT)
    ingest = receipts.read(folder / "results/ingest/wound.json")
    finetune = receipts.read(folder / "results/finetune/nuclei.json")
    assert report["recipe"]["inputs"]["nuclei/wound"] == receipts.fingerprint(predict)
    assert predict["recipe"]["inputs"] == {
        "image": receipts.fingerprint(ingest),
        "model": receipts.fingerprint(finetune),
    }
    assert finetune["recipe"]["inputs"]["wound"] == receipts.fingerprint(ingest)
    raw = receipts.file_fingerprint(folder / "wound.ome.tif")
    assert ingest["recipe"]["inputs"] == {"wound.ome.tif": raw}
    for name in ("ingest/wound", "finetune/nuclei", "predict/nuclei/wound", "report/campaign"):
        receipt = folder / "results" / f"{name}.json"
        for path, identity in provenance.read(receipt)["inputs"].items():
            assert receipts.identity(receipt.parent / path) == identity


def test_provenance_says_with_what_where_and_at_what_cost(folder: Path) -> None:
    said = provenance.read(folder / "results/finetune/nuclei.json")
    assert said["environment"]["packages"]["torch"]
    assert said["environment"]["python"].startswith("3.")
    assert said["code"]["version"] == receipts.read(PREDICT)["recipe"]["version"]
    assert len(said["code"]["source"]) == 64
    assert said["seeds"] == {"finetune.seed": 0}
    assert said["allocation"]["place"] == "local"
    assert {job["node"] for job in said["jobs"]} == {said["machine"]["node"]}
    assert said["cost"]["core_hours"] > 0
    assert said["began"] <= said["ended"]
    weights = folder / "results/finetune/nuclei.model/weights.safetensors"
    assert said["cost"]["bytes"] >= weights.stat().st_size
