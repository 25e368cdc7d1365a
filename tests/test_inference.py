"""How the exported network is run: the same function, whichever way."""

import copy
import json
from importlib import util

import pytest
import torch

from benchmarks import engines, inference
from benchmarks.__main__ import main
from benchmarks.engines import Mode
from pipeline import fields, grids
from pipeline.topology import Architecture

ARCHITECTURES = [
    (Architecture("yx", "d4", 1, 2, ((2, 2), (2, 2))), (32, 32)),
    (Architecture("yx", "c8", 1, 2, ((2, 2),)), (10, 10)),
    (Architecture("yx", "trivial", 1, 2, ((2, 2), (2, 2), (2, 2))), (8, 8)),
    (Architecture("zyx", "c4", 1, 1, ((1, 2, 2), (2, 2, 2))), (4, 8, 8)),
    (Architecture("zyx", "d4", 1, 1, ((2, 2, 2),)), (2, 16, 16)),
]


@pytest.fixture(params=ARCHITECTURES, ids=lambda case: f"{case[0].axes}-{case[0].group}")
def case(request):
    """A network, a grid of one tile, and what that tile reads."""
    architecture, tile = request.param
    network = inference.network_of(architecture)
    grid = grids.grid(network.architecture, tile, tile)
    image = torch.rand(1, 1, *engines.sides(grid), generator=torch.Generator().manual_seed(0))
    return network, grid, image


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def test_the_prepared_network_is_the_plain_one_where_the_tile_is(case):
    network, grid, image = case
    with torch.inference_mode():
        expected = inference.owned(network(image), grid)
        found = fields.prepared(network, grid)(image)
    assert found.shape == (1, network.architecture.outputs, *grid.tile)
    assert relative(found, expected) <= 1e-5


def test_they_differ_by_rounding_alone(case):
    network, grid, image = case
    network, image = copy.deepcopy(network).double(), image.double()
    with torch.inference_mode():
        expected = inference.owned(network(image), grid)
        assert relative(fields.prepared(network, grid)(image), expected) <= 1e-12


def test_preparing_leaves_the_plain_network_as_it_was(case):
    network, grid, image = case
    with torch.inference_mode():
        before = network(image)
        fields.prepared(network, grid)(image)
        assert torch.equal(network(image), before)


def test_the_forward_pass_gives_the_tile(case):
    network, grid, image = case
    output = fields.forward(fields.prepared(network, grid), [image[0, 0].numpy()])[0]
    assert output.shape == (network.architecture.outputs, *grid.tile)
    assert output.flags.c_contiguous


def test_an_engine_computes_the_same(case):
    network, _, image = case
    setup = engines.Setup(network, image, Mode("1 thread", 1, 1))
    with torch.inference_mode():
        found = engines.ENGINES["torch.jit.freeze"](setup)(image)
        assert relative(found, network(image)) <= 1e-5


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """What the benchmark writes of a small network, eager ways alone."""
    architecture, tile = ARCHITECTURES[0]
    small = inference.Case(architecture, tile, tile, (16, 16))
    monkeypatch.setattr(inference, "CASES", {"2-D": small})
    monkeypatch.setattr(engines, "ENGINES", {"OpenVINO": engines.ENGINES["OpenVINO"]})
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    assert main(["inference", "--quick", "--out", str(tmp_path / "inference.json")]) == 0
    return json.loads((tmp_path / "inference.json").read_text("utf-8"))


def test_the_benchmark_says_what_it_could_not_measure(measured):
    assert "OpenVINO was not measured: openvino not installed." in measured["protocol"]


def test_the_way_that_predict_takes_meets_its_targets(measured):
    figures = {figure["name"]: figure for figure in measured["figures"]}
    held = [figure for figure in figures.values() if figure["target"]]
    assert len(held) == 3
    assert all(figure["met"] for figure in held)
    assert figures["2-D, 1 thread: eager, against eager"]["value"] == 1.0
