"""Benchmarks: what they write, what they say, and that README.md says the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import demo, measurement, numbers
from benchmarks.__main__ import main
from benchmarks.measurement import Figure, Measurement, Target
from pipeline.cards import Certificate

LOG = """\
[Sat Nov 22 17:41:28 2025]
localrule ingest:
    output: results/ingest/wound.json
    jobid: 3
[Sat Nov 22 17:41:30 2025]
localrule finetune:
    output: results/finetune/nuclei.json
    jobid: 12
[Sat Nov 22 17:41:40 2025]
Finished jobid: 3 (Rule: ingest)
[Sat Nov 22 17:43:00 2025]
Finished jobid: 12 (Rule: finetune)
[Sat Nov 22 17:43:00 2025]
localrule all:
    jobid: 0
Finished jobid: 0 (Rule: all)
"""


def run(f1: float) -> demo.Run:
    """A run with this F1 at the looser overlap, and half of it at the stricter."""
    at = [
        {"overlap": 0.5, "f1": f1, "average_precision": f1 - 0.1},
        {"overlap": 0.75, "f1": f1 / 2, "average_precision": f1 / 3},
    ]
    score = {"origin": "made by an algorithm", "total": {"at": at}}
    return demo.Run(
        seconds=demo.durations(LOG.splitlines()),
        total=100.0,
        results={"nuclei/scratch_assay": {"objects": 700, "scores": [score]}},
        orphans={"nuclei/scratch_assay": 0},
        certificates={
            "nuclei": Certificate(
                equivariance=1e-6,
                equivariance_double=1e-15,
                between_lattice_turns=0.1,
                export=1e-6,
                beyond_receptive_field=0.0,
            )
        },
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo, quick as a thought: seed n finds an F1 of 0.95 - n / 50."""
    monkeypatch.setattr(demo, "_run", lambda _, seed: run(0.95 - seed / 50))


def written(path: Path, *options: str) -> dict[str, Any]:
    assert main(["demo", *options, "--out", str(path)]) == 0
    return dict(json.loads(path.read_text("utf-8")))


@pytest.mark.usefixtures("measured")
def test_what_is_written_has_the_agreed_shape(tmp_path: Path) -> None:
    said = written(tmp_path / "new" / "demo.json")
    assert list(said) == ["benchmark", "protocol", "environment", "figures"]
    assert said["benchmark"] == "demo"
    assert {"python", "cores", "processor", "torch"} <= said["environment"].keys()
    for figure in said["figures"]:
        assert list(figure) == ["name", "value", "spread", "unit", "target", "met"]
        low, high = figure["spread"]
        assert low <= figure["value"] <= high or low == pytest.approx(high)
        assert (figure["target"] is None) == (figure["met"] is None)


@pytest.mark.usefixtures("measured")
def test_quick_measures_the_same_once(tmp_path: Path) -> None:
    whole, quick = written(tmp_path / "a.json"), written(tmp_path / "b.json", "--quick")
    assert [f["name"] for f in quick["figures"]] == [f["name"] for f in whole["figures"]]
    assert all(figure["spread"] is None for figure in quick["figures"])


@pytest.mark.usefixtures("measured")
def test_the_protocol_says_where_references_come_from_and_how_often_it_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = " ".join(written(tmp_path / "demo.json", "--seeds", "4", "7")["protocol"])
    assert "reference labels of nuclei/scratch_assay were made by an algorithm" in protocol
    assert "2 runs, with finetune.seed 4, 7" in protocol
    shown = capsys.readouterr().out
    assert "made by an algorithm" in shown
    assert "F1 at overlap 0.5" in shown


@pytest.mark.parametrize(("seeds", "met"), [(["0", "1", "2"], True), (["0", "3"], False)])
@pytest.mark.usefixtures("measured")
def test_the_worst_run_decides_on_a_target(tmp_path: Path, seeds: list[str], met: bool) -> None:
    figures = written(tmp_path / "demo.json", "--seeds", *seeds)["figures"]
    [f1] = [f for f in figures if f["name"] == "nuclei/scratch_assay: F1 at overlap 0.5"]
    assert (f1["target"], f1["met"]) == (">= 0.9", met)


def test_stage_times_come_from_the_log() -> None:
    assert demo.durations(LOG.splitlines()) == {"ingest/wound": 12.0, "finetune/nuclei": 90.0}


def test_a_failed_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    (tmp_path / "config.yaml").write_text("campaign: none\n")
    with pytest.raises(RuntimeError, match="the demo failed"):
        demo._run(tmp_path / "run", 0)


def test_targets_hold_at_their_bound() -> None:
    assert Target(">=", 0.9).met_by([0.9, 1.0])
    assert not Target("<=", 1e-5).met_by([1e-6, 2e-5])
    assert str(Target("<=", 1e-5)) == "<= 1e-05"


def test_help_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "demo" in capsys.readouterr().out


def test_an_unknown_name_is_told_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["nothing"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "'nothing'" in said
    assert "demo" in said


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    figures = (Figure.of("a", [1.0, 2.0], "s"), Figure.of("b", [0.5], "", Target(">=", 0.9)))
    whole = Measurement("demo", ("once",), measurement.environment(), figures)
    whole.write(tmp_path / "demo.json")
    assert measurement.read(tmp_path / "demo.json") == whole


def test_a_block_is_replaced_and_all_else_kept(tmp_path: Path) -> None:
    figures = (Figure.of("speed", [1.0, 3.0], "s", Target("<=", 2.0)),)
    whole = Measurement("demo", ("How.",), measurement.environment(), figures)
    whole.write(tmp_path / "demo.json")
    text = "before\n<!-- figures: demo -->\nold\n<!-- end of figures -->\nafter\n"
    new = numbers.filled(text, tmp_path)
    assert new.startswith("before\n<!-- figures: demo -->\n| figure |")
    assert "| speed | 2 s | 1 to 3 | <= 2, MISSED |" in new
    assert new.endswith("<!-- end of figures -->\nafter\n")
    assert numbers.filled(new, tmp_path) == new
    with pytest.raises(ValueError, match="asks for the figures of 'gone'"):
        numbers.filled(text.replace("demo", "gone"), tmp_path)


def test_the_readme_holds_the_committed_figures() -> None:
    assert numbers.main(["--check"]) == 0, "python -m benchmarks.numbers"
