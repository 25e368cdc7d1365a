"""Laws of pruning: it shows before it deletes, and never touches what is in its place."""

import fcntl
import shutil
from pathlib import Path

import campaigns
import pytest

from pipeline import cli, former, publication, receipts, volumes

OTHER = "0" * 64


@pytest.fixture
def folder(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished campaign with earlier labels and an earlier model, which is where we are."""
    folder = campaigns.copy(reference, tmp_path / "campaign")
    results = folder / "results"
    store = results / "ingest" / "wound.ome.zarr"
    for place in (
        store / "labels/nuclei",
        store / "tables/nuclei",
        results / "finetune/nuclei.model",
    ):
        shutil.copytree(place, former.aside(place, OTHER))
    publication.list_children(store / "labels", "labels")
    publication.list_children(store / "tables", "tables")
    monkeypatch.chdir(folder)
    return folder


def pruned(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert cli.main(["prune", *options]) == 0
    return capsys.readouterr().out


def test_it_shows_what_would_go_and_deletes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = campaigns.tree(folder)
    said = pruned(capsys)
    assert said.count(OTHER[: former.LETTERS]) == 3
    assert "3 things" in said
    assert "add --yes" in said
    assert campaigns.tree(folder) == before


def test_told_to_it_deletes_earlier_results_and_none_in_their_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = campaigns.tree(folder)
    pruned(capsys, "--yes")
    kept = {path: sha for path, sha in before.items() if OTHER[: former.LETTERS] not in path}
    after = campaigns.tree(folder)
    differing = {path for path in kept.keys() | after if kept.get(path) != after.get(path)}
    listings = {f"ingest/wound.ome.zarr/{kind}/zarr.json" for kind in ("labels", "tables")}
    assert differing == listings
    labels = folder / "results/ingest/wound.ome.zarr/labels"
    assert volumes.attributes(labels)["ome"]["labels"] == ["nuclei"]
    assert "nothing to prune" in pruned(capsys, "--yes")


def test_labels_without_others_in_their_place_are_all_there_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "results/ingest/wound.ome.zarr/labels/nuclei")
    assert "labels/nuclei." not in pruned(capsys)


def test_work_that_would_go_on_stays_and_what_it_left_goes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = folder / "results/ingest"
    for name in ("wound", "unfinished"):
        (stage / f"{name}.ome.zarr.building").mkdir()
    (folder / "results/finetune/.nuclei.model.replaced").mkdir()
    pruned(capsys, "--yes")
    assert not (stage / "wound.ome.zarr.building").exists()
    assert not (folder / "results/finetune/.nuclei.model.replaced").exists()
    assert (stage / "unfinished.ome.zarr.building").exists()


def test_what_links_lead_to_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder / "source" / "c"
    source.mkdir(parents=True)
    (source / "0").write_bytes(b"voxels")
    level = folder / "results/ingest/wound.ome.zarr.building" / "0"
    level.mkdir(parents=True)
    (level / "c").symlink_to(source)
    said = pruned(capsys, "--yes")
    assert "wound.ome.zarr.building  (" in said
    assert not level.exists()
    assert (source / "0").read_bytes() == b"voxels"


def test_what_the_settings_do_not_name_goes_only_when_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned(capsys, "--yes")
    given = campaigns.read(folder)
    given["models"] = {"others": given["models"]["nuclei"]}
    campaigns.write(folder, given)
    assert "nothing to prune" in pruned(capsys)
    pruned(capsys, "--yes", "--unlisted")
    left = set(campaigns.tree(folder))
    assert "ingest/wound.json" in left
    assert not {path for path in left if "nuclei" in path and not path.startswith("report/")}


def test_it_keeps_off_while_snakemake_is_at_work(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / ".snakemake" / "campaign.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli.main(["prune", "--yes"]) == 1
    assert "snakemake is at work" in capsys.readouterr().err


def test_labels_put_aside_come_back_as_they_were(folder: Path) -> None:
    store = folder / "results/ingest/wound.ome.zarr"
    levels = volumes.open_volume(store).label_levels
    recipe = receipts.read(folder / "results/predict/nuclei/wound.json")["recipe"]
    before = campaigns.tree(folder)
    former.put_labels_aside(store, "nuclei", OTHER)
    assert not (store / "labels/nuclei").exists()
    waiting = former.aside(store / "labels/nuclei", recipe["hash"])
    assert volumes.attributes(waiting)["equiscope"][former.BY] == OTHER
    assert former.take_labels_back(store, "nuclei", recipe, levels)
    assert not waiting.exists()
    assert campaigns.tree(folder) == before


def test_harmed_labels_do_not_come_back(folder: Path) -> None:
    store = folder / "results/ingest/wound.ome.zarr"
    levels = volumes.open_volume(store).label_levels
    recipe = receipts.read(folder / "results/predict/nuclei/wound.json")["recipe"]
    former.put_labels_aside(store, "nuclei", OTHER)
    waiting = former.aside(store / "tables/nuclei", recipe["hash"])
    (waiting / volumes.TABLE).write_bytes(b"")
    assert not former.take_labels_back(store, "nuclei", recipe, levels)
    assert waiting.exists()
