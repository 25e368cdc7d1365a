"""What training minimises."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from pipeline.shots import Shot


@dataclass(frozen=True, slots=True)
class Emphasis:
    """What counts how much at one step of a training.

    Attributes
    ----------
    votes: weight of the displacement.
    balance: 1 where objects and background weigh the same however few voxels are objects, 0 where
        every voxel does. The first finds rare objects; the second draws their outlines where they
        are, for at equal weights a voxel that may be either is taken for the rarer.
    """

    votes: float
    balance: float


def supervised(output: Tensor, shot: Shot, unit: Tensor, emphasis: Emphasis) -> Tensor:
    """Loss on what is annotated; what is not annotated is unknown and costs nothing.

    Cross-entropy of the foreground and its soft Dice; Huber of the displacement in `unit` (voxels
    per axis) inside objects. `output` is `(batch, 1 + axes, *axes)`.
    """
    logit, displacement = output[:, 0], output[:, 1:]
    known = shot.known
    entropy = functional.binary_cross_entropy_with_logits(logit, shot.foreground, reduction="none")
    inside, outside = shot.foreground * known, (1 - shot.foreground) * known
    halves = [(entropy * part).sum() / part.sum().clamp(min=1) for part in (inside, outside)]
    even = (entropy * known).sum() / known.sum().clamp(min=1)
    foreground = emphasis.balance * sum(halves) / 2 + (1 - emphasis.balance) * even
    probability = logit.sigmoid() * known
    overlap = (probability * inside).sum()
    total = probability.sum() + inside.sum()
    dice = 1 - (2 * overlap + 1) / (total + 1)
    scale = unit.reshape((-1,) + (1,) * (displacement.ndim - 2))
    distance = functional.smooth_l1_loss(
        displacement, shot.displacement / scale, beta=0.05, reduction="none"
    ).sum(dim=1)
    vote = (distance * inside).sum() / inside.sum().clamp(min=1)
    return foreground + dice + emphasis.votes * vote
