"""README.md does what it says: commands run, settings load, links lead somewhere.

Commands that take long, or a cluster, are planned and not run.
"""

import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import campaigns
import pytest
import tifffile
import yaml

from pipeline import config, doctor

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
ACTIVATE = ". .venv/bin/activate"
LOCAL = "snakemake --profile profiles/local --configfile mine.yaml"
SLURM = "snakemake --profile slurm"
QUICK = (
    "network={width: {yx: 16, zyx: 8}, levels: 1}",
    "every_model={base: none}",
    "finetune={start: {nothing: {steps: {yx: 24, zyx: 4}}}, gate: {members: []}}",
)
"""The same campaign with so little training that a test can wait for it."""


def blocks(language: str) -> list[str]:
    """The fenced blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Every line of the blocks for a shell, without its comment."""
    lines = "".join(blocks("bash") + blocks("sh")).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def snakemake(folder: Path, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """A snakemake command as typed in the repository's root, at work in another folder."""
    words = command.split()[1:]
    place = ["--directory", str(folder), "--cores", "2", "--nocolor"]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *words, *place, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env=campaigns.environment() | {"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README's own campaign names, and the campaign."""
    folder = tmp_path_factory.mktemp("mine")
    data = folder / "data"
    data.mkdir()
    for name, frames in (("well_a", 2), ("well_b", 1)):
        campaigns.movie(data, name, frames + 1, (97, 101), seed=frames)
    (data / "well_a.labels.tif").rename(data / "well_a_nuclei.tif")
    other = tifffile.imread(data / "well_b.ome.tif")[:, 0]
    tifffile.imwrite(data / "well_b.tif", other, photometric="minisblack", metadata=None)
    shutil.copy(ROOT / "config.yaml", folder)
    (folder / "mine.yaml").write_text(next(b for b in blocks("yaml") if "acquisitions:" in b))
    return folder


@pytest.fixture(scope="module")
def finished(mine: Path) -> Path:
    """The README's own campaign, run with the README's command. Returns where its volume is."""
    overrides = str(mine / "mine.yaml")
    done = snakemake(mine, LOCAL.replace("mine.yaml", overrides), "--config", *QUICK)
    assert done.returncode == 0, done.stderr
    results = mine / yaml.safe_load((mine / "mine.yaml").read_text())["results"]
    assert (results / "report" / "report.html").is_file()
    return results / "ingest" / "well_a.ome.zarr"


def test_every_command_is_known_to_a_test_below() -> None:
    known = {"make demo", "make test", ACTIVATE, LOCAL, SLURM}
    assert set(commands()) == known


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_make_knows_the_command(command: str) -> None:
    done = subprocess.run(
        [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert {"make demo": "snakemake", "make test": "pytest"}[command] in done.stdout


def test_the_environment_is_entered() -> None:
    if not (ROOT / ".venv" / "bin" / "activate").is_file():
        pytest.skip("these tests run in another environment than make's .venv")
    line = f"{ACTIVATE} && command -v python"
    said = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert os.path.samefile(Path(said.stdout.strip()).parent, ROOT / ".venv" / "bin")


def test_your_own_data_run_on_one_machine(finished: Path) -> None:
    receipts = {path.name for path in finished.parent.glob("*.json") if "." not in path.stem}
    assert receipts == {"well_a.json", "well_b.json"}


def test_slurm_is_planned(mine: Path) -> None:
    done = snakemake(mine, SLURM, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "place=slurm" in done.stdout + done.stderr


def yaml_blocks() -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in blocks("yaml")]


def test_settings_load_and_the_doctor_finds_no_fault(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    settings = [given for given in yaml_blocks() if "set-resources" not in given]
    assert settings
    for given in settings:
        assert doctor.examine(config.load(Path("config.yaml"), given)) == []


def test_resources_make_a_profile_that_plans(mine: Path, tmp_path: Path) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    [given] = [given for given in yaml_blocks() if "set-resources" in given]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(campaigns.merged(profile, given)))
    done = snakemake(mine, f"snakemake --profile {tmp_path}", "--dry-run")
    assert done.returncode == 0, done.stderr
    planned = done.stdout + done.stderr
    for stage, wanted in given["set-resources"].items():
        [*found] = re.findall(rf"rule {stage}:\n.*?resources: (.*?)\n", planned, re.DOTALL)
        assert found
        for name, value in wanted.items():
            assert all(f"{name}={value}" in line.split(", ") for line in found)


def test_results_open_as_shown(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, Any]] = []

    class Viewer:
        """Stands in for napari, which needs a screen."""

        def add_image(self, image: Any, channel_axis: int) -> None:
            shown.append(("image", image.take(0, axis=channel_axis).shape))

        def add_labels(self, labels: Any) -> None:
            shown.append(("labels", labels.shape))

    napari = types.ModuleType("napari")
    napari.__dict__["Viewer"] = Viewer
    monkeypatch.setitem(sys.modules, "napari", napari)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        said = block.replace("results/ingest/scratch_assay.ome.zarr", str(finished))
        exec(compile(said, "README.md", "exec"), names)
    assert names["labels"][names["frame"], names["y"], names["x"]] in (0, *names["table"].index)
    assert dict(shown)["image"] == dict(shown)["labels"] == names["labels"].shape


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    inside = [link.partition("#")[0] for link in links if not link.startswith("http")]
    assert [link for link in inside if link and not (page.parent / link).exists()] == []


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > 400_000] == []
