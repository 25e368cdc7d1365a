"""The training loop: a network, shots, and a checkpoint that a killed job goes on from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import losses, shots, steerable
from pipeline.network import Architecture, UNet
from pipeline.shots import Guise, Shot


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn, from what.

    Attributes
    ----------
    crop, crops: side of a training crop in voxels, and how many make a step.
    learning_rate: the peak; it rises over the first fifth and falls as a cosine.
    diameter: typical object in voxels per axis, the unit of displacement.
    """

    steps: int
    crop: tuple[int, ...]
    crops: int
    learning_rate: float
    guise: Guise
    seed: int
    diameter: tuple[float, ...]

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        rise = max(1, self.steps // 5)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        left = (step - rise) / max(1, self.steps - rise)
        return self.learning_rate * (0.001 + 0.999 * (1 + math.cos(math.pi * left)) / 2)

    def vote_weight(self, step: int) -> float:
        """Weight of the displacement's loss: none at first, whole from half the steps on.

        Few parameters serve both outputs: what is an object comes before where its centre is, or
        the displacement, whose loss is larger, takes them all and no foreground is found.
        """
        return 2.0 * min(1.0, max(0.0, (step / self.steps - 0.1) / 0.4))


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


def begin(architecture: Architecture, seed: int, device: str) -> State:
    """A network before its first step; the same for the same seed."""
    torch.manual_seed(seed)
    network = steerable.build(architecture).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    return State(network, optimiser, [])


def train(
    state: State,
    examples: Sequence[Shot],
    schedule: Schedule,
    after_step: Callable[[State], None],
) -> None:
    """Learn until the schedule's last step.

    Every step draws from its own generator, seeded with its number: it does not matter whether
    the steps before it ran in this process.
    """
    device = next(state.network.parameters()).device
    diameter = torch.tensor(schedule.diameter, dtype=torch.float32, device=device)
    state.network.train()
    while state.step < schedule.steps:
        generator = np.random.default_rng([schedule.seed, state.step])
        picked = generator.integers(len(examples), size=schedule.crops)
        crops = [shots.crop(examples[i], schedule.crop, schedule.guise, generator) for i in picked]
        batch = shots.batch(crops).to(device)
        for group in state.optimiser.param_groups:
            group["lr"] = schedule.rate(state.step)
        loss: Tensor = losses.supervised(
            state.network(batch.image), batch, diameter, schedule.vote_weight(state.step)
        )
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.losses.append(float(loss.detach()))
        after_step(state)
    state.network.eval()
