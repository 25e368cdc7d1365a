"""Base models: made from simulation alone, made again from their settings, and used."""

from pathlib import Path

import pytest
import scenes

from pipeline import (
    bases,
    cards,
    config,
    finetune,
    pretrain,
    receipts,
    steerable,
    topology,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def campaign():
    return config.load(ROOT / "config.yaml")


def small(campaign, **given):
    """A base of the tests' network, from few small fields."""
    task = campaign.pretrain_task("nuclei_2d")
    base = task.base.model_copy(
        update={"steps": 12, "fields": 2, "field_voxels": (32, 32), **given}
    )
    asked = task.network.model_validate(scenes.NETWORK)
    return task.model_copy(update={"base": base, "network": asked, "checkpoint_steps": 4})


def made(task, folder, name="small", parent=None):
    receipt = folder / "pretrain" / f"{name}.json"
    pretrain.pretrain(receipt, parent, task, scenes.here)
    return receipts.result(receipt, "base")


def test_a_base_says_how_it_was_made_and_what_it_is(campaign, tmp_path):
    card = bases.read_card(str(made(small(campaign), tmp_path)))
    assert card.made_from["settings"]["base"]["steps"] == 12
    assert card.certificate.equivariance <= 1e-5
    assert 0 <= card.score <= 1


@pytest.mark.parametrize("died_after", [2, 7])
def test_a_killed_pretraining_goes_on_to_the_same_weights(
    campaign, tmp_path, monkeypatch, died_after
):
    task = small(campaign)
    calm = made(task, tmp_path / "calm")
    whole, drawn = pretrain.simulated, []

    def dying(*arguments):
        drawn.append(1)
        if len(drawn) == 2 * died_after + 1:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(pretrain, "simulated", dying)
    with pytest.raises(KeyboardInterrupt):
        made(task, tmp_path / "stormy")
    assert scenes.snapshot(made(task, tmp_path / "stormy")) == scenes.snapshot(calm)


def test_a_base_may_start_from_another(campaign, tmp_path):
    first = made(small(campaign), tmp_path, "first")
    parent = tmp_path / "pretrain" / "first.json"
    second = made(small(campaign, parent="first", steps=1), tmp_path, "second", parent)
    before, after = bases.learned(str(first)), bases.learned(str(second))
    assert all(float((before[k] - after[k]).abs().max()) < 0.1 for k in before if "weights" in k)


def test_the_shipped_bases_are_those_of_the_settings(campaign):
    """Whoever changes the settings of a base makes it again: `make bases`."""
    assert bases.names() == sorted(campaign.pretrain.bases)
    for name, base in campaign.pretrain.bases.items():
        settings = campaign.pretrain_task(name).model_dump(mode="json")
        made_from = bases.read_card(name).made_from
        assert made_from["settings"] == settings, name
        assert bool(made_from["inputs"]) == (base.parent != "none")


@pytest.mark.parametrize("name", bases.names())
def test_every_shipped_base_is_certified_and_fits_the_networks_of_the_settings(campaign, name):
    card = bases.read_card(name)
    assert card.certificate.equivariance <= 1e-5
    assert card.certificate.equivariance_double <= 1e-12
    asked = campaign.network
    axes = campaign.pretrain.bases[name].axes
    wanted = topology.design(
        axes, (1.0,) * len(axes), asked.group, asked.width.of(axes), asked.levels
    )
    assert name in bases.fitting("auto", wanted, asked.object_voxels)


@pytest.mark.parametrize("name", bases.names())
def test_a_shipped_base_does_here_what_it_did_where_it_was_made(campaign, name):
    """Whatever this processor makes of the filters' basis."""
    task = campaign.pretrain_task(name)
    said = bases.read_card(name).architecture
    pooling = tuple(map(tuple, said["pooling"]))
    made = steerable.build(topology.Architecture(**said | {"pooling": pooling}))
    steerable.restore(made, bases.learned(name))
    score = pretrain.judged(steerable.export(made), task)
    assert score == pytest.approx(bases.read_card(name).score, abs=0.02)


def test_a_base_of_another_network_is_refused():
    wide = topology.design("yx", (1.0, 1.0), "d4", 64, 2)
    with pytest.raises(ValueError, match="Choose base: none"):
        bases.fitting("nuclei_2d", wide, 11)
    assert bases.fitting("auto", wide, 11) == []
    with pytest.raises(ValueError, match="no base model 'nuclei'"):
        bases.fitting("nuclei", wide, 11)


@pytest.fixture
def shown(tmp_path):
    """An ingested image of 40 nuclei, and its labels as a shot."""
    return scenes.annotated(tmp_path, (96, 128), 5.0, 40)


def learn(shown, folder, shots=True, **given):
    receipt, shot = shown
    steps = {"yx": 10, "zyx": 5}
    task = scenes.finetune_task([shot] if shots else [], "channel_0", steps=steps, **given)
    if not shots:
        task = task.model_copy(update={"diameter_um": 5.0})
    made = folder / "finetune" / "cells.json"
    finetune.finetune(made, {"sample": receipt}, task, scenes.here)
    return cards.read(receipts.result(made, "model"))


def gated(*members):
    return scenes.GATE | {"members": members}


def test_the_gate_asks_about_objects_that_nobody_learned_from(campaign, shown, tmp_path):
    base = str(made(small(campaign), tmp_path))
    card = learn(shown, tmp_path, base=base, gate=gated("held_out", "half", "control"))
    assert card.base == base
    assert card.objects == 40
    assert card.gate.objects_held_out == pytest.approx(16, abs=1)
    counts = [objects for objects, _ in card.gate.learning_curve]
    assert counts[0] == 0
    assert counts[1] == pytest.approx(12, abs=1)
    assert counts[2] == 40 - card.gate.objects_held_out
    assert None not in (card.gate.base, card.gate.tuned, card.gate.control)
    assert card.gate.promoted == (card.gate.tuned >= card.gate.base + 0.01)
    assert card.origin == ("fine-tuned" if card.gate.promoted else "base")


def test_what_did_not_help_leaves_the_base_as_it_was(campaign, shown, tmp_path):
    base = str(made(small(campaign), tmp_path))
    strict = gated("held_out") | {"margin": 2.0}
    card = learn(shown, tmp_path, base=base, gate=strict)
    assert card.origin == "base"
    as_it_is = learn(shown, tmp_path / "zero", shots=False, base=base)
    folders = [
        tmp_path / "finetune" / "cells.model",
        tmp_path / "zero" / "finetune" / "cells.model",
    ]
    first, second = ((folder / cards.WEIGHTS).read_bytes() for folder in folders)
    assert first == second
    assert as_it_is.origin == "base"
    assert as_it_is.shots == 0


def test_without_shots_nothing_but_a_named_base_will_do(shown, tmp_path):
    with pytest.raises(ValueError, match="name one base"):
        learn(shown, tmp_path, shots=False, base="none")
