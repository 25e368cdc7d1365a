"""The network that predicts: trained, exported, and as symmetric as promised."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

from pipeline import cards, certificate, network, shots, steerable, topology, training
from pipeline.shots import Example, Guise, Shot
from pipeline.topology import GROUPS, Architecture

CASES = [
    ("yx", "trivial", ((2, 2),)),
    ("yx", "c4", ((2, 2),)),
    ("yx", "d4", ((2, 2), (2, 2))),
    ("yx", "c8", ((2, 2),)),
    ("yx", "d8", ((2, 2),)),
    ("zyx", "trivial", ((1, 2, 2), (2, 2, 2))),
    ("zyx", "d4", ((1, 2, 2),)),
    ("zyx", "c4h", ((2, 2, 2),)),
    ("zyx", "d4h", ((1, 2, 2),)),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def trained(request):
    """A network after a few real training steps: symmetry of fresh weights proves little."""
    axes, group, pooling = request.param
    generator = np.random.default_rng(0)
    labels = np.zeros((12, 40, 40) if axes == "zyx" else (40, 40), int)
    labels[..., 5:15, 5:20] = 1
    labels[..., 22:34, 10:22] = 2
    image = (labels + generator.normal(0, 0.2, labels.shape)).astype(np.float32)
    shot = Shot.of(Example(image, labels, np.ones(labels.shape, bool)))
    sides = (8, 16, 16) if axes == "zyx" else (24, 24)
    guise = Guise(True, 0.2, 0.3, 0.05, 0.05)
    fields = 1 if GROUPS[group].order == 16 else 2
    state = training.begin(Architecture(axes, group, 1, fields, pooling), 1, "cpu")
    training.train(
        state,
        lambda generator: shots.batch([shots.crop(shot, sides, guise, generator)] * 2),
        training.Schedule(
            steps=5, learning_rate=0.01, seed=1, unit=(10.0,) * len(axes), knows=True, balance=0.0
        ),
        lambda _: None,
    )
    return state.network


@pytest.fixture(scope="module")
def exported(trained):
    return steerable.export(trained)


@pytest.fixture(scope="module")
def certified(trained, exported):
    return certificate.certify(trained, exported)


def noise(architecture, side):
    sides = (8, side, side) if architecture.axes == "zyx" else (side, side)
    return torch.rand(1, 1, *sides, generator=torch.Generator().manual_seed(0))


def snapshot(exported):
    return {name: tensor.numpy().tobytes() for name, tensor in exported.state_dict().items()}


def test_every_group_is_tested():
    assert {group for _, group, _ in CASES} == set(GROUPS)


def test_the_exported_network_computes_what_was_trained(trained, exported):
    image = noise(trained.architecture, 32)
    with torch.no_grad():
        expected, found = trained(image), exported(image)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_the_exported_network_turns_with_the_image(exported):
    image = noise(exported.architecture, 16)
    assert certificate.equivariance_error(exported, image) <= 1e-5


def test_in_double_precision_it_turns_as_exactly_as_that_is(exported):
    precise, image = copy.deepcopy(exported).double(), noise(exported.architecture, 4).double()
    assert certificate.equivariance_error(precise, image) <= 1e-12


def test_as_many_turns_are_tried_as_the_lattice_keeps(exported):
    group = GROUPS[exported.architecture.group]
    among_eight = 2 if group.rotations == 8 else 1
    assert len(certificate.lattice_turns(exported.architecture)) == group.order // among_eight


def test_a_network_without_the_symmetry_is_found_out(exported):
    """But for the trivial group, which promises nothing."""
    if exported.architecture.group == "trivial":
        return
    broken = copy.deepcopy(exported)
    weight = next(broken.parameters())
    weight.data += 0.1 * torch.rand(weight.shape, generator=torch.Generator().manual_seed(0))
    assert certificate.equivariance_error(broken, noise(broken.architecture, 16)) > 1e-3


def test_the_certificate_holds(certified):
    assert certified["equivariance"] <= 1e-5
    assert certified["equivariance_double"] <= 1e-12
    assert certified["export"] <= 1e-5
    assert certified["beyond_receptive_field"] == 0.0


def test_the_certificate_states_the_limit_between_the_turns_of_the_lattice(certified):
    assert 1e-4 < certified["between_lattice_turns"] < 2


def test_a_bundles_card_takes_the_certificate(certified):
    assert cards.Certificate(**certified).model_dump() == certified


def test_turns_by_any_angle_agree_with_those_of_the_lattice(exported):
    """Interpolation is exact where voxels fall on voxels."""
    error = certificate.turn_error(exported, 90)
    assert error > 1e-3 if exported.architecture.group == "trivial" else error <= 1e-5


def test_the_exported_network_is_plain_torch(exported):
    names = {type(layer).__module__ for layer in exported.modules()}
    assert all(name.startswith("torch.nn") or name == "pipeline.network" for name in names)


def test_the_receptive_field_is_no_larger_than_it_must_be(exported):
    eager = copy.deepcopy(exported)
    for parameter in eager.parameters():
        parameter.data.abs_().add_(0.01)
    architecture = eager.architecture
    radius = topology.receptive_field(architecture)
    stride = architecture.stride
    sides = [s * -(-(2 * r + 3 * s) // s) for r, s in zip(radius, stride, strict=True)]
    sides[-1] = sides[-2] = max(sides[-2:])
    sides[:-2] = stride[:-2]
    image = torch.zeros(1, 1, *sides)
    with torch.no_grad():
        quiet = eager(image)
        reached = set()
        for place in range(sides[-1]):
            image[..., place] = 10.0
            changed = (eager(image) - quiet)[0, 0]
            image[..., place] = 0.0
            columns = changed.reshape(-1, sides[-1]).abs().amax(0).nonzero().ravel().tolist()
            reached |= {abs(place - column) for column in columns}
    assert max(reached) == radius[-1]


def test_sides_that_break_the_symmetry_are_refused(exported):
    with pytest.raises(ValueError, match="multiples of the stride"):
        exported(noise(exported.architecture, 49))


def test_finer_groups_are_less_off_between_the_turns_of_the_lattice():
    """Fresh networks of one width: that of eight turns against that of four."""

    def off(group):
        architecture = Architecture("yx", group, 1, 16 // GROUPS[group].order, ((2, 2),))
        fresh = training.begin(architecture, 0, "cpu").network.eval()
        return certificate.turn_error(steerable.export(fresh), 45)

    assert off("d8") < 0.6 * off("d4")


def test_a_network_that_says_nothing_turns_exactly():
    silent = network.plain(Architecture("yx", "d4", 1, 2, ((2, 2),)))
    assert certificate.equivariance_error(silent, noise(silent.architecture, 16)) == 0
    assert certificate.turn_error(silent, 45) == 0


def in_another_basis(network, seed):
    """The same network, its basis turned as linear algebra elsewhere may choose it.

    A copy: escnn shares what it has computed of a basis among all networks of a process.
    """
    network = copy.deepcopy(network)
    generator = np.random.default_rng(seed)
    for name, basis in network.named_buffers():
        if name.endswith("sampled_basis"):
            turn, _ = np.linalg.qr(generator.normal(size=(len(basis), len(basis))))
            basis.copy_(torch.einsum("ab,b...->a...", torch.tensor(turn).float(), basis))
    return network


@pytest.mark.parametrize(("axes", "group"), [("yx", "d4"), ("yx", "c4"), ("zyx", "c4h")])
def test_weights_restored_into_another_network_give_the_same_export(axes, group):
    architecture = Architecture(axes, group, 1, 2, ((2,) * len(axes),))
    first, second = (training.begin(architecture, seed, "cpu").network for seed in (0, 1))
    second = in_another_basis(second, 2)
    first(noise(architecture, 16))  # in training, normalisations take up its statistics
    image = noise(architecture, 16)
    with torch.no_grad():
        expected = steerable.export(first)(image)
        assert (steerable.export(second)(image) - expected).abs().max() > 0.1
        steerable.restore(second, steerable.weights(first))
        found = steerable.export(second)(image)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("axes", "mine", "other"),
    [("yx", "c4", "trivial"), ("zyx", "c4", "c4h")],
)
def test_weights_of_another_group_are_refused(axes, mine, other):
    first, second = (
        training.begin(Architecture(axes, group, 1, 2, ((2,) * len(axes),)), 0, "cpu").network
        for group in (mine, other)
    )
    with pytest.raises(ValueError, match="another group"):
        steerable.restore(first, steerable.weights(second))
    with pytest.raises(ValueError, match="another group"):
        steerable.restore(second, steerable.weights(first))


@pytest.mark.parametrize("group", [name for name, group in GROUPS.items() if group.horizontal])
def test_a_planar_network_cannot_mirror_z(group):
    with pytest.raises(ValueError, match="mirrors z"):
        steerable.build(Architecture("yx", group, 1, 2, ((2, 2),)))


def test_prediction_needs_no_escnn():
    code = (
        "import sys; import pipeline.weights, pipeline.network as n, pipeline.topology as t;"
        "n.plain(t.Architecture('yx', 'd4', 1, 2, ((2, 2),)));"
        "assert not any(m.split('.')[0] == 'escnn' for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
