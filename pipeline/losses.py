"""What training minimises."""

from torch import Tensor
from torch.nn import functional

from pipeline.shots import Shot


def supervised(output: Tensor, shot: Shot, diameter: Tensor, vote_weight: float) -> Tensor:
    """Loss on what is annotated; what is not annotated is unknown and costs nothing.

    Cross-entropy of the foreground, where objects and background weigh the same however few
    voxels are objects, and its soft Dice; with `vote_weight`, Huber of the displacement in
    `diameter` (voxels per axis) inside objects. `output` is `(batch, 1 + axes, *axes)`.
    """
    logit, displacement = output[:, 0], output[:, 1:]
    known = shot.known
    entropy = functional.binary_cross_entropy_with_logits(logit, shot.foreground, reduction="none")
    inside, outside = shot.foreground * known, (1 - shot.foreground) * known
    balanced = [(entropy * part).sum() / part.sum().clamp(min=1) for part in (inside, outside)]
    probability = logit.sigmoid() * known
    overlap = (probability * inside).sum()
    total = probability.sum() + inside.sum()
    dice = 1 - (2 * overlap + 1) / (total + 1)
    scale = diameter.reshape((-1,) + (1,) * (displacement.ndim - 2))
    distance = functional.smooth_l1_loss(
        displacement, shot.displacement / scale, beta=0.05, reduction="none"
    ).sum(dim=1)
    vote = (distance * inside).sum() / inside.sum().clamp(min=1)
    return sum(balanced) / 2 + dice + vote_weight * vote
