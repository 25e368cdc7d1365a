"""Laws of foresight: what `diff` says would be made is what then is made, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import campaigns
import numpy as np
import pytest
import tifffile

from pipeline import cli, diff, prospects, provenance, receipts

OPTIONS = (
    *("--snakefile", str(campaigns.ROOT / "Snakefile")),
    *("--profile", str(campaigns.ROOT / "profiles" / "local"), "--cores", "2", "--nocolor"),
)
HERE = ("--default-resources", "place=debug", "mem_mb=1000")
"""No processes for jobs: where a stage works changes nothing but the time that this takes."""
WOUND, CONTROL, MODEL, REPORT = (
    "ingest/wound",
    "ingest/control",
    "finetune/nuclei",
    "report/campaign",
)
ON_WOUND, ON_CONTROL = "predict/nuclei/wound", "predict/nuclei/control"
PREDICTIONS = {ON_WOUND, ON_CONTROL}
LEARNED = {MODEL, *PREDICTIONS, REPORT}


def made(*units: str) -> dict[str, str]:
    return dict.fromkeys(units, "made")


def outcomes(*options: str) -> dict[str, str]:
    """What `diff` says of the campaign in this folder."""
    found = diff.diff(Path("config.yaml"), [*OPTIONS, *options])
    return {one.prospect.job.unit: one.prospect.outcome for one in found}


@pytest.fixture(scope="session")
def pair(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign with two acquisitions. Tests copy it, and leave it as it is."""
    folder = campaigns.copy(reference, tmp_path_factory.getbasetemp() / "pair")
    campaigns.movie(folder, "control", 2, (97, 101), seed=3)
    campaigns.change(
        folder,
        acquisitions={"control": {"path": "control.ome.tif"}},
        models={"nuclei": {"acquisitions": ["wound", "control"]}},
    )
    campaigns.finish(folder, *HERE)
    return folder


@pytest.fixture
def folder(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished campaign of one's own, which is where we are."""
    monkeypatch.chdir(campaigns.copy(pair, tmp_path / "campaign"))
    return tmp_path / "campaign"


def setting(**sections: Any) -> Callable[[Path], None]:
    return lambda folder: campaigns.change(folder, **sections)


def model(**entry: Any) -> Callable[[Path], None]:
    return setting(models={"nuclei": entry})


def other_pixels(name: str) -> Callable[[Path], None]:
    """One voxel of a raw file or of labels has another value."""

    def change(folder: Path) -> None:
        path = folder / name
        with tifffile.TiffFile(path) as file:
            values, described = file.asarray(), file.ome_metadata
        values.reshape(-1)[0] += 1
        tifffile.imwrite(
            path,
            values,
            description=described.encode() if described else None,
            metadata=None if described else {"axes": "TYX"},
            photometric="minisblack",
        )

    return change


def without_receipt(unit: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "results" / f"{unit}.json").unlink()


def new_acquisition(folder: Path) -> None:
    campaigns.movie(folder, "third", 1, (64, 64), seed=4)
    setting(
        acquisitions={"third": {"path": "third.ome.tif"}},
        models={"nuclei": {"acquisitions": ["wound", "control", "third"]}},
    )(folder)


def new_model(folder: Path) -> None:
    entry = campaigns.read(folder)["models"]["nuclei"] | {"acquisitions": ["control"]}
    setting(models={"second": entry})(folder)


def another_shot(folder: Path) -> None:
    shots = campaigns.read(folder)["models"]["nuclei"]["shots"]
    model(shots=[*shots, campaigns.annotated("wound", region={"t": [1, 2]})])(folder)


def of_control_alone(folder: Path) -> None:
    model(acquisitions=["control"])(folder)


def of_wound_alone(folder: Path) -> None:
    given = campaigns.read(folder)
    del given["acquisitions"]["control"]
    given["models"]["nuclei"]["acquisitions"] = ["wound"]
    campaigns.write(folder, given)


def reference_of_its_own(folder: Path) -> None:
    """Another file to score against, with the same content."""
    (folder / "other.labels.tif").write_bytes((folder / "wound.labels.tif").read_bytes())
    model(
        references=[campaigns.annotated("wound", labels={"path": "other.labels.tif"}, origin="x")]
    )(folder)


CASES: dict[str, tuple[Callable[[Path], None], dict[str, str]]] = {
    "nothing": (setting(), {}),
    "setting of predict": (setting(predict={"foreground": 0.6}), made(*PREDICTIONS, REPORT)),
    "setting of finetune": (setting(finetune={"seed": 1}), made(*LEARNED)),
    "gate": (setting(finetune={"gate": {"margin": 0.5}}), made(*LEARNED)),
    "network": (setting(network={"width": {"yx": 8}}), made(*LEARNED)),
    "setting of ingest": (
        setting(ingest={"quantiles": [0.02, 0.99]}),
        made(WOUND, CONTROL, *LEARNED),
    ),
    "setting of pretrain": (setting(pretrain={"seed": 5}), {}),
    "setting of report": (setting(report={"overlap": 0.4}), made(REPORT)),
    "name of the campaign": (setting(campaign="renamed"), made(REPORT)),
    "a changed shot": (
        model(shots=[campaigns.annotated("wound", region={"t": [1, 2]})]),
        made(*LEARNED),
    ),
    "one more shot": (another_shot, made(*LEARNED)),
    "another channel": (model(channel="membrane"), made(*LEARNED)),
    "labels of shot and reference": (other_pixels("wound.labels.tif"), made(*LEARNED)),
    "another reference": (reference_of_its_own, made(REPORT)),
    "no reference": (model(references=[]), made(REPORT)),
    "a raw file": (other_pixels("control.ome.tif"), made(CONTROL, ON_CONTROL, REPORT)),
    "the raw file learned from": (other_pixels("wound.ome.tif"), made(WOUND, *LEARNED)),
    "what a raw file does not say": (
        setting(acquisitions={"control": {"time_step_s": 30.0}}),
        made(CONTROL, ON_CONTROL, REPORT),
    ),
    "one acquisition more": (new_acquisition, made("ingest/third", "predict/nuclei/third", REPORT)),
    "one acquisition less": (of_wound_alone, made(REPORT)),
    "a model on fewer": (of_control_alone, made(REPORT)),
    "one model more": (new_model, made("finetune/second", "predict/second/control", REPORT)),
    "a lost receipt": (
        without_receipt(ON_CONTROL),
        {ON_CONTROL: "kept", REPORT: "made"},
    ),
    "two at once": (
        lambda folder: (new_model(folder), setting(predict={"foreground": 0.6})(folder)),
        made("finetune/second", "predict/second/control", *PREDICTIONS, REPORT),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_would_be_made_is_what_depends_on_the_change(folder: Path, case: str) -> None:
    change, expected = CASES[case]
    change(folder)
    assert outcomes() == expected


@pytest.mark.usefixtures("folder")
def test_other_resources_make_nothing_anew() -> None:
    assert outcomes("--set-resources", "predict:mem_mb=9000", "ingest:jobs=5") == {}


@pytest.mark.usefixtures("folder")
def test_settings_of_the_command_line_count() -> None:
    assert outcomes("--config", "predict={foreground: 0.6}") == made(*PREDICTIONS, REPORT)


def test_files_that_are_only_newer_are_looked_at_and_kept(folder: Path) -> None:
    os.utime(folder / "control.ome.tif")
    said = outcomes("--max-checksum-file-size", "1KB")
    assert said.pop(CONTROL) == "kept"
    assert said == {ON_CONTROL: "kept", REPORT: "made"}


def test_what_is_said_is_what_then_happens(folder: Path) -> None:
    """Snakemake runs these and no others, and what made them tells which were made anew.

    The report runs whenever anything does, and takes the most time: it is left out here.
    """
    other_pixels("control.ome.tif")(folder)
    setting(predict={"foreground": 0.6})(folder)
    without_receipt(WOUND)(folder)
    _happens(folder, made(CONTROL, *PREDICTIONS, REPORT) | {WOUND: "kept", MODEL: "kept"})
    setting(predict={"foreground": 0.5})(folder)
    _happens(folder, made(ON_CONTROL, REPORT) | {ON_WOUND: "taken back"})


def _happens(folder: Path, expected: dict[str, str]) -> None:
    said = diff.diff(Path("config.yaml"), OPTIONS)
    assert {one.prospect.job.unit: one.prospect.outcome for one in said} == expected
    before = {unit: _made(folder, unit) for unit in expected if unit != REPORT}
    targets = [f"results/{unit}.json" for unit in expected if unit != REPORT]
    assert campaigns.named(campaigns.finish(folder, *HERE, "--", *targets)) == {*before}
    anew = {unit for unit, times in before.items() if _made(folder, unit) - times}
    assert anew | {REPORT} == {unit for unit, one in expected.items() if one == "made"}
    for one in said:
        if one.prospect.identity:
            assert receipts.identity(one.prospect.job.receipt) == one.prospect.identity
    assert outcomes() == made(REPORT)


def _made(folder: Path, unit: str) -> set[str]:
    """When results in a unit's place were made, that of now and all that came before."""
    said = provenance.last(folder / "results" / f"{unit}.json")
    return {said["began"], *(one["began"] for one in said[provenance.EARLIER].values())}


def test_reasons_name_the_setting_its_old_and_its_new_value(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting(predict={"foreground": 0.6})(folder)
    other_pixels("control.ome.tif")(folder)
    before = campaigns.tree(folder)
    assert cli.main(["diff", *OPTIONS]) == 0
    said = capsys.readouterr().out
    assert "predict.foreground: 0.5 -> 0.6" in said
    assert "control.ome.tif: other content" in said
    assert "ingest/control is made again" in said
    assert "as measured before" in said
    assert campaigns.tree(folder) == before


def test_a_campaign_that_cannot_run_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting(predict={"foreground": 1.6})(folder)
    assert cli.main(["diff", *OPTIONS]) == 2
    assert "predict.foreground is 1.6" in capsys.readouterr().err


def test_a_list_of_shots_is_compared_shot_by_shot() -> None:
    old = {"shots": [{"region": {"t": [0, 1]}}], "seed": 0}
    new = {"shots": [{"region": {"t": [0, 2]}}, {"region": {}}], "seed": 0}
    assert list(prospects.changed(old, new)) == [
        ("shots.0.region.t", [0, 1], [0, 2]),
        ("shots.1", prospects.NOTHING, {"region": {}}),
    ]


def test_arrays_of_numbers_are_values() -> None:
    pixels = np.zeros(3).tolist()
    assert list(prospects.changed({"a": pixels}, {"a": [1]})) == [("a", pixels, [1])]
