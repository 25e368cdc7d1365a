"""The training loop: a network, shots, and a checkpoint that a killed job goes on from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import losses, steerable
from pipeline.losses import Emphasis
from pipeline.network import UNet
from pipeline.shots import Shot
from pipeline.topology import Architecture

Draw = Callable[[np.random.Generator], Shot]
"""Makes the batch of one step; equal generators make equal batches."""
Further = Callable[[Tensor, Shot], Tensor]
"""A further loss, of the network's output for a batch and the batch."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    Attributes
    ----------
    learning_rate: the peak; it rises over the first fifth and falls as a cosine.
    unit: voxels per axis that a displacement of 1 stands for.
    knows: whether the network knows already what an object is.
    balance: of `Emphasis`, where the training ends.
    """

    steps: int
    learning_rate: float
    seed: int
    unit: tuple[float, ...]
    knows: bool
    balance: float

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        rise = max(1, self.steps // 5)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        left = (step - rise) / max(1, self.steps - rise)
        return self.learning_rate * (0.001 + 0.999 * (1 + math.cos(math.pi * left)) / 2)

    def emphasis(self, step: int) -> Emphasis:
        """What counts: finding objects at first, outlines and centres from half the steps on.

        Few parameters serve all outputs: what is an object comes before where its centre is, or
        the displacement, whose loss is larger, takes them all and no foreground is found.
        """
        later = 1.0 if self.knows else min(1.0, max(0.0, (step / self.steps - 0.1) / 0.4))
        return Emphasis(votes=2.0 * later, balance=1.0 - (1.0 - self.balance) * later)


@dataclass(slots=True)
class State:
    """A training that can be saved between any two steps, and go on to the same weights."""

    network: UNet
    optimiser: torch.optim.Optimizer
    losses: list[float]

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses)

    def dump(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
        }

    def restore(self, dumped: dict[str, Any]) -> None:
        """Go back to where `dump` was taken."""
        # Steerable layers that are not in training hold their expanded filters as well.
        self.network.train()
        self.network.load_state_dict(dumped["network"])
        self.optimiser.load_state_dict(dumped["optimiser"])
        self.losses = list(dumped["losses"])


def tenths(losses: Sequence[float]) -> tuple[float, ...]:
    """The mean loss of each tenth of a training."""
    tenth = max(1, len(losses) // 10)
    return tuple(float(np.mean(losses[i : i + tenth])) for i in range(0, len(losses), tenth))


def begin(architecture: Architecture, seed: int, device: str) -> State:
    """A network before its first step; the same for the same seed."""
    torch.manual_seed(seed)
    network = steerable.build(architecture).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    return State(network, optimiser, [])


def train(
    state: State,
    draw: Draw,
    schedule: Schedule,
    after_step: Callable[[State], None],
    further: Further | None = None,
) -> None:
    """Learn until the schedule's last step. A `further` loss is added where there is one.

    Every step draws from its own generator, seeded with its number: it does not matter whether
    the steps before it ran in this process.
    """
    device = next(state.network.parameters()).device
    unit = torch.tensor(schedule.unit, dtype=torch.float32, device=device)
    state.network.train()
    while state.step < schedule.steps:
        generator = np.random.default_rng([schedule.seed, state.step])
        batch = draw(generator).to(device)
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.rate(state.step)
        output = state.network(batch.image)
        loss = losses.supervised(output, batch, unit, schedule.emphasis(state.step))
        if further is not None:
            loss = loss + further(output, batch)
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.losses.append(float(loss.detach()))
        after_step(state)
    state.network.eval()
