"""Memory of a job: what is granted, what is needed, and what follows for threads and groups."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import fields, grids, memory
from pipeline.footprint import MOST_AT_ONCE, Footprint
from pipeline.network import plain
from pipeline.topology import Architecture

TAKES = Footprint(forward_mb=800, seen_mb=300, labels_mb=200, writing_mb=500)


@given(granted=st.floats(0, 20000), most=st.integers(1, 32))
def test_threads_and_groups_stay_within_what_is_granted(granted, most):
    workers = TAKES.workers(granted, most)
    if workers:
        group = TAKES.group(granted, workers)
        spare = granted - TAKES.total_mb(workers)
        assert granted - TAKES.total_mb(workers, group) >= spare / 2
        enough = group == MOST_AT_ONCE or workers == 1
        assert enough or granted - TAKES.total_mb(workers, group + 1) < spare / 2
    if workers < most:
        assert TAKES.total_mb(workers + 1) > granted


def test_the_least_of_all_limits_holds(monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2000")
    assert memory.granted_mb(1500) == 1500
    assert memory.granted_mb(5000) == pytest.approx(2000 * 2**20 / 1e6)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_groups", lambda: [tmp_path / "none", limit])
    limit.write_text("max\n")
    assert memory.granted_mb(1500) == 1500
    limit.write_text("1000000000\n")
    assert memory.granted_mb(1500) == 1000


class Small:
    """A device that holds so many tiles at once; what it computes is the real network's."""

    def __init__(self, network, holds):
        self.network, self.holds, self.tile, self.asked = network, holds, network.tile, []

    def parameters(self):
        return self.network.parameters()

    def __call__(self, images):
        self.asked.append(len(images))
        if len(images) > self.holds:
            raise torch.OutOfMemoryError
        return self.network(images)


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = plain(Architecture("yx", "d4", 1, 2, ((2, 2),)))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return fields.prepared(made, grids.grid(made.architecture, (16, 16), (8, 8)))


def tiles_of(network, count):
    side = 8 + 2 * network.context[0]
    return list(np.random.default_rng(0).random((count, side, side), np.float32))


def test_a_device_short_of_memory_gets_halves_and_says_the_same(network):
    images = tiles_of(network, 5)
    whole = fields.forward(network, images)
    small = Small(network, 2)
    halves = fields.forward(small, images)
    assert small.asked == [5, 2, 3, 1, 2]
    assert all(np.abs(a - b).max() <= 1e-5 for a, b in zip(whole, halves, strict=True))


def test_a_device_too_small_for_one_tile_names_the_setting(network):
    with pytest.raises(RuntimeError, match=r"lower predict\.tile_voxels"):
        fields.forward(Small(network, 0), tiles_of(network, 2))


def test_less_precision_is_near_and_not_the_same(network):
    image = tiles_of(network, 1)
    exact = fields.forward(network, image)[0]
    low = fields.forward(network, image, "bfloat16")[0]
    assert low.dtype == np.float32
    assert 0 < np.abs(low - exact).max() <= 0.05 * np.abs(exact).max()
