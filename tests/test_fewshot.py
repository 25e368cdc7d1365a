"""The few-shot benchmark: who learns from what, how it is scored, and what is said of it."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from fewshots import WHOLE, Threshold, folder, method, scene

from benchmarks import fewshot, learners, methods, runs, scoring
from benchmarks.__main__ import main
from benchmarks.datasets import Example, Image
from benchmarks.peers import exchange, runner
from pipeline import config


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Threshold]:
    """Three methods, of which `worse` is worse and `more` may have twice the images."""
    found = {"ours": Threshold(), "worse": Threshold(0.98), "more": Threshold()}
    methods = tuple(
        method(name, learn, times=2 if name == "more" else 1) for name, learn in found.items()
    )
    monkeypatch.setattr(learners, "learners", lambda: methods)
    return found


def measured(data: Path, out: Path, *more: str) -> dict[str, Any]:
    command = ["fewshot", "--data", str(data), "--methods", "ours", "worse", "more"]
    command += ["--shots", "1", "2", "--draws", "3", "--seeds", "2", "--out", str(out), *more]
    assert main(command) == 0
    return dict(json.loads(out.read_text("utf-8")))


def told(said: dict[str, Any]) -> dict[str, Any]:
    """Values of all figures but times."""
    return {f["name"]: (f["value"], f["spread"]) for f in said["figures"] if f["unit"] != "s"}


# --- scores -------------------------------------------------------------------------------------


def test_average_precision_counts_as_cellpose_does() -> None:
    reference = np.zeros((40, 40), np.int32)
    for number in range(4):
        reference[10 * number : 10 * number + 8, 0:8] = number + 1
    predicted = np.roll(reference, 20, 1) * (reference.max(1, keepdims=True) == 4)
    predicted[0:8, 0:8], predicted[10:18, 0:5] = 5, 6
    found = scoring.scores(predicted, reference, smallest=0)
    assert found[scoring.AP50] == pytest.approx(2 / (2 + 1 + 2))
    assert found[scoring.F1] == pytest.approx(4 / (4 + 1 + 2))
    assert found[scoring.AP75] == pytest.approx(1 / (1 + 2 + 3))
    assert found[scoring.COUNT] == pytest.approx(1 / 4)


def test_small_objects_count_for_nothing_where_they_are_left_out() -> None:
    reference = np.zeros((20, 20), np.int32)
    reference[:10, :10], reference[15:17, 15:17] = 1, 2
    predicted = np.zeros_like(reference)
    predicted[:10, :10], predicted[0:2, 15:17] = 7, 9
    found = scoring.scores(predicted, reference, smallest=5)
    assert found[scoring.AP50] == pytest.approx(1 / 3)
    assert found[scoring.metrics(5)[-1]] == 1.0


def test_equal_methods_differ_by_nothing_and_clear_differences_show() -> None:
    generator = np.random.default_rng(0)
    one = generator.uniform(0.3, 0.9, (20, 3))
    assert scoring.interval([one - one], scoring.mean) == (0.0, 0.0)
    other = one + generator.normal(0, 0.02, one.shape)
    low, high = scoring.interval([one - other], scoring.mean) or (1, -1)
    assert low < 0 < high
    low, high = scoring.interval([one - (one - 0.1)], scoring.mean) or (0, 0)
    assert (low, high) == pytest.approx((0.1, 0.1))
    assert scoring.interval([one[:1]], scoring.mean) is None


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        low, high = scoring.interval([generator.normal(0, 1, (20, 1))], scoring.mean) or (0, 0)
        held += low <= 0 <= high
    assert 0.85 < held / 200 < 0.99


# --- the protocol -------------------------------------------------------------------------------


def test_all_methods_learn_from_the_same_draws_and_never_from_a_test(
    tmp_path: Path, fakes: dict[str, Threshold]
) -> None:
    data = folder(tmp_path / "set", WHOLE)
    measured(data, tmp_path / "out.json")
    assert fakes["ours"].seen == fakes["worse"].seen
    assert {name for names, _ in fakes["more"].seen for name in names} == {"a", "b", "c"}
    by_k = {1: 3 * 2, 2: 3 * 2}
    assert sorted(len(names) for names, _ in fakes["ours"].seen) == [1] * by_k[1] + [2] * by_k[2]
    assert all(isinstance(image, Image) for image in fakes["ours"].asked)
    assert len(fakes["ours"].asked) == 2 * sum(by_k.values())


@pytest.mark.usefixtures("fakes")
def test_figures_and_protocol_say_it_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = measured(folder(tmp_path / "set", WHOLE), tmp_path / "out.json", "--smallest", "4")
    figures = told(said)
    assert figures["set, 1 shot, ours: AP50"][0] > figures["set, 1 shot, worse: AP50"][0]
    value, (low, high) = figures["set, 2 shots, ours - worse: AP50"]
    assert 0 < low <= value + 1e-12
    assert value <= high + 1e-12
    assert {"set, 1 shot, ours: AP50 from 4 voxels", "set, 1 shot, ours: AP75"} <= figures.keys()
    protocol = " ".join(said["protocol"])
    assert "set: tests: 2; draws: k = 1: 3; k = 2: 3; seeds: 2." in protocol
    assert "more on set with 2 shots: learned from 3 images, there are not 4" in protocol
    assert "set, 1 shot, ours: AP50" in capsys.readouterr().out


@pytest.mark.usefixtures("fakes")
def test_domains_weigh_the_same(tmp_path: Path) -> None:
    one, two = {"shots": ["a", "b"], "test": ["c", "d"]}, {"shots": ["e"], "test": ["f"]}
    split = {"one": one, "two": two}
    said = told(measured(folder(tmp_path / "set", split, "abcdef"), tmp_path / "out.json"))
    title = "set, 1 shot, worse: AP50"
    each = [said[f"{title} on {domain}"][0] for domain in ("one", "two")]
    assert said[title][0] == pytest.approx(np.mean(each))
    assert said[f"{title} on two"][1] is None


@pytest.mark.usefixtures("fakes")
def test_domains_can_be_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = {"shots": ["a", "b"], "test": ["c", "d"]}, {"shots": ["e"], "test": ["f"]}
    data, out = folder(tmp_path / "set", {"one": one, "two": two}, "abcdef"), tmp_path / "out.json"
    said = measured(data, out, "--domains", "two")
    assert "set: tests: 1;" in " ".join(said["protocol"])
    assert main(["fewshot", "--data", str(data), "--domains", "three"]) == 1
    assert "--domains three: no set has it; there are one, two." in capsys.readouterr().err


def test_a_killed_run_goes_on_to_the_same_figures(
    tmp_path: Path, fakes: dict[str, Threshold]
) -> None:
    data = folder(tmp_path / "set", WHOLE)
    whole = measured(data, tmp_path / "out.json")
    kept = tmp_path / "out.partial.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:7]) + lines[7][:40])
    for fake in fakes.values():
        fake.seen.clear()
    again = measured(data, tmp_path / "out.json")
    assert told(again) == told(whole)
    assert again["protocol"] == whole["protocol"]
    assert sum(len(fake.seen) for fake in fakes.values()) == len(lines) - 7
    assert len(kept.read_text().splitlines()) == len(lines)


def test_a_run_is_done_again_where_its_method_or_its_images_changed(
    tmp_path: Path, fakes: dict[str, Threshold], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "set", WHOLE)
    measured(data, tmp_path / "out.json")
    before = {name: len(fake.seen) for name, fake in fakes.items()}
    changed = tuple(
        dataclasses.replace(one, version="2") if one.name == "ours" else one
        for one in learners.learners()
    )
    monkeypatch.setattr(learners, "learners", lambda: changed)
    measured(data, tmp_path / "out.json")
    assert len(fakes["ours"].seen) == 2 * before["ours"]
    assert len(fakes["worse"].seen) == before["worse"]
    tifffile.imwrite(data / "images" / "d.tif", scene(9)[0])
    measured(data, tmp_path / "out.json")
    assert len(fakes["worse"].seen) == 2 * before["worse"]


def test_quick_does_each_method_once(tmp_path: Path, fakes: dict[str, Threshold]) -> None:
    measured(folder(tmp_path / "set", WHOLE), tmp_path / "out.json", "--quick")
    assert [len(fake.seen) for fake in fakes.values()] == [1, 1, 1]


@pytest.mark.usefixtures("fakes")
def test_what_cannot_be_measured_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "set", {"shots": ["a"], "test": ["b"]}, "ab")
    said = measured(data, tmp_path / "out.json", "--peers", str(tmp_path / "python"))
    assert "set: not measured with 2 shots" in " ".join(said["protocol"])
    assert main(["fewshot", "--data", str(data), "--methods", "stardist", "--peers", "none"]) == 1
    assert "requirements.txt" in capsys.readouterr().err
    assert main(["fewshot", "--data", str(data), "--methods", "magic"]) == 1
    assert "there is no method 'magic'; there are ours" in capsys.readouterr().err


def test_a_training_cut_short_is_said(tmp_path: Path, fakes: dict[str, Threshold]) -> None:
    fakes["worse"].full_steps = 40_000
    said = " ".join(measured(folder(tmp_path / "set", WHOLE), tmp_path / "o.json")["protocol"])
    assert "worse: time cut 12 of 12 trainings short, to 15 of 40000 steps" in said


def test_results_are_read_back(tmp_path: Path) -> None:
    run = runs.Run("set", "", 1, 0, 0, "ours", "1", ("a",), "x", 0)
    result = runs.Result(run, {"AP50": 0.5}, 1.0, 2.0, 3, 4, 5)
    runs.append(tmp_path / "new" / "p.jsonl", result)
    assert runs.read(tmp_path / "new" / "p.jsonl") == {run: result}


# --- methods ------------------------------------------------------------------------------------


def test_peers_are_handed_what_they_hand_back(tmp_path: Path) -> None:
    every = [{"image": np.full((2, n), n, np.float32)} for n in (1, 2)]
    exchange.write(tmp_path / "images", every)
    found = exchange.read(tmp_path / "images")
    assert [arrays["image"].tolist() for arrays in found] == [a["image"].tolist() for a in every]
    assert runner.peer("stardist", tmp_path / "nothing", 1.0) is None


def test_a_version_follows_all_that_a_module_imports(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    one, two, other = (tmp_path / "package" / f"{name}.py" for name in ("one", "two", "other"))
    one.write_text("from package import two\n")
    two.write_text("from package.one import f\nimport numpy\n")
    other.write_text("")
    assert methods.sources(one, tmp_path) == {one, two}
    before = methods.digest([one, two])
    two.write_text("pass\n")
    assert methods.digest([one, two]) != before
    assert methods.digest([one, two], "more") != methods.digest([one, two])


@pytest.mark.parametrize("size", [1, 3])
def test_ours_learns_and_labels_images_of_any_scale(size: int) -> None:
    """Objects 11 voxels wide, and 33, which are worked on at a coarser level."""
    image, labels = (part.repeat(size, 0).repeat(size, 1) for part in scene(0, (47, 65)))
    example = Example("a", "", Image((image / 1000).astype(np.float32), (1.0, 1.0)), labels)
    few = {"steps": {"yx": 2, "zyx": 2}, "learning_rate": 0.01}
    campaign = config.load(learners.CONFIG, {"finetune": {"start": {"nothing": few}}})
    learn = learners.Train(campaign, "d4", base="none", turned=size == 1)
    learned = learn([example], 0)
    [found] = learned.predict([example.image])
    assert found.shape == labels.shape
    assert (learned.steps, learned.full_steps) == (2, 2)
    assert learned.predict.spacing == pytest.approx((size, size), rel=0.5)


def test_the_command_line_reads_what_it_says() -> None:
    parser = argparse.ArgumentParser()
    fewshot.add_arguments(parser)
    options = parser.parse_args(["--data", "a", "--data", "b", "--shots", "1", "5"])
    assert (options.data, options.shots) == ([Path("a"), Path("b")], [1, 5])
    assert all(pixel is None for pixel in (options.methods, options.tests))
