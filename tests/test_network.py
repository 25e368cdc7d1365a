"""The network that predicts: trained, exported, and as symmetric as promised."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline import certificate, network, steerable, training
from pipeline.network import Architecture
from pipeline.shots import Guise, Shot

CASES = [
    ("yx", "d4", ((2, 2), (2, 2))),
    ("yx", "c4", ((2, 2),)),
    ("yx", "d8", ((2, 2),)),
    ("yx", "trivial", ((2, 2), (2, 2))),
    ("zyx", "d4", ((1, 2, 2), (2, 2, 2))),
    ("zyx", "c4", ((2, 2, 2),)),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def trained(request):
    """A network after a few real training steps: symmetry of fresh weights proves little."""
    axes, group, pooling = request.param
    architecture = Architecture(axes, group, 1, 2, pooling)
    generator = np.random.default_rng(0)
    labels = np.zeros((12, 40, 40) if axes == "zyx" else (40, 40), int)
    labels[..., 5:15, 5:20] = 1
    labels[..., 22:34, 10:22] = 2
    image = labels + generator.normal(0, 0.2, labels.shape)
    shot = Shot.of(image[None], labels, np.ones(labels.shape, bool))
    side = (8, 16, 16) if axes == "zyx" else (24, 24)
    schedule = training.Schedule(
        steps=5,
        crop=side,
        crops=2,
        learning_rate=0.01,
        guise=Guise(0.2, 0.3, 0.05, 0.05),
        seed=1,
        diameter=(10.0,) * len(axes),
    )
    state = training.begin(architecture, 1, "cpu")
    training.train(state, [shot], schedule, lambda _: None)
    return state.network


def noise(architecture, side):
    sides = (8, side, side) if architecture.axes == "zyx" else (side, side)
    return torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))


def test_the_exported_network_computes_what_was_trained(trained):
    image = noise(trained.architecture, 48)
    with torch.no_grad():
        expected, found = trained(image), steerable.export(trained)(image)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_the_exported_network_turns_with_the_image(trained):
    image = noise(trained.architecture, 48)
    assert certificate.equivariance_error(steerable.export(trained), image) <= 1e-5


def test_a_network_without_the_symmetry_is_found_out(trained):
    exported = steerable.export(trained)
    if trained.architecture.group == "trivial":
        pytest.skip("the trivial group promises nothing")
    weight = next(exported.parameters())
    weight.data += 0.1 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(0))
    assert certificate.equivariance_error(exported, noise(trained.architecture, 48)) > 1e-3


def test_the_exported_network_is_plain_torch(trained):
    names = {type(layer).__module__ for layer in steerable.export(trained).modules()}
    assert all(name.startswith("torch.nn") or name == "pipeline.network" for name in names)


def test_nothing_beyond_the_receptive_field_reaches_an_output(trained):
    measured = certificate.certify(trained, steerable.export(trained))
    assert measured["beyond_receptive_field"] == 0.0


def test_the_receptive_field_is_no_larger_than_it_must_be(trained):
    exported = steerable.export(trained)
    for parameter in exported.parameters():
        parameter.data.abs_().add_(0.01)
    architecture = trained.architecture
    radius = network.receptive_field(architecture)
    stride = architecture.stride
    sides = [s * -(-(2 * r + 3 * s) // s) for r, s in zip(radius, stride, strict=True)]
    sides[-1] = sides[-2] = max(sides[-2:])
    image = torch.zeros(1, 1, *sides)
    with torch.no_grad():
        quiet = exported(image)
        reached = set()
        for place in range(sides[-1]):
            image[..., place] = 10.0
            changed = (exported(image) - quiet)[0, 0]
            image[..., place] = 0.0
            columns = changed.reshape(-1, sides[-1]).abs().amax(0).nonzero().ravel().tolist()
            reached |= {abs(place - column) for column in columns}
    assert max(reached) == radius[-1]


def test_sides_that_break_the_symmetry_are_refused(trained):
    with pytest.raises(ValueError, match="multiples of the stride"):
        steerable.export(trained)(noise(trained.architecture, 49))


def test_prediction_needs_no_escnn():
    code = (
        "import sys; import pipeline.weights, pipeline.network as n;"
        "n.plain(n.Architecture('yx', 'd4', 1, 2, ((2, 2),)));"
        "assert not any(m.split('.')[0] == 'escnn' for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
