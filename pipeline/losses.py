"""What training minimises."""

from torch import Tensor
from torch.nn import functional

from pipeline.shots import Shot


def supervised(output: Tensor, shot: Shot, diameter: Tensor) -> Tensor:
    """Loss on what is annotated; what is not annotated is unknown and costs nothing.

    Cross-entropy and soft Dice of the foreground, Huber of the displacement in `diameter`
    (voxels per axis) inside objects. `output` is `(batch, 1 + axes, *axes)`.
    """
    logit, displacement = output[:, 0], output[:, 1:]
    known = shot.known
    entropy = functional.binary_cross_entropy_with_logits(logit, shot.foreground, reduction="none")
    entropy = (entropy * known).sum() / known.sum().clamp(min=1)
    probability = logit.sigmoid() * known
    overlap = (probability * shot.foreground).sum()
    total = probability.sum() + (shot.foreground * known).sum()
    dice = 1 - (2 * overlap + 1) / (total + 1)
    inside = shot.foreground * known
    scale = diameter.reshape((-1,) + (1,) * (displacement.ndim - 2))
    distance = functional.smooth_l1_loss(
        displacement, shot.displacement / scale, beta=0.05, reduction="none"
    ).sum(dim=1)
    vote = (distance * inside).sum() / inside.sum().clamp(min=1)
    return entropy + dice + 4 * vote
