"""Learning to find an object from crops of it, with no label but that copies of it were moved.

A copy of the crop that was moved by some vector must be found moved by that vector. Nothing says
where in the crop the object is: the network's own answers do, turned back and averaged. That it
turns with the image is built into the network, and needs no loss.

Each voxel votes for a place, with a weight. The votes for a copy are averaged, and the loss is the
negative log-likelihood of how far the mean is off, were the sum of the weights its inverse
variance: so weights learn to say what each voxel knows, and their sum how well a place is known.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import crops, detections
from pipeline.crops import Crop, Images, Range, Scene
from pipeline.gathering import Gathering
from pipeline.network import UNet

SETTLED = 0.6
"""Fraction of the steps after which the normalisations keep the statistics that they have."""
TAIL = 8.0
"""Degrees of freedom of Student's distribution, which copies that are far off don't dominate."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """How to learn from crops.

    Attributes
    ----------
    steps, learning_rate: of Adam; the rate rises over a tenth of the steps, falls as a cosine.
    scenes, side, copies: images per step, their side in voxels, copies of a crop in each.
    within: how far copies differ from the crops.
    agreement: weight of the loss by which all votes for a copy must agree.
    silence: weight of the loss by which votes from elsewhere must weigh nothing.
    unlabelled: the same, in images of which nobody knows what they hold.
    """

    steps: int
    learning_rate: float
    scenes: int
    side: int
    copies: int
    within: Range
    agreement: float
    silence: float
    unlabelled: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes as tensors.

    Attributes
    ----------
    image: `(scenes, 1, side, side)`.
    owner: which copy a voxel may vote for, -1 none, `(scenes, side, side)`.
    places, turns: of all copies of all scenes, `(copies, 2)` and `(copies, 2, 2)`.
    silence: weight of a vote from a voxel without owner, `(scenes, 1, 1)`.
    """

    image: Tensor
    owner: Tensor
    places: Tensor
    turns: Tensor
    silence: Tensor


def batch(scenes: Sequence[Scene], middle: np.ndarray, reach: float, silence: list[float]) -> Batch:
    """Stack scenes; a voxel belongs to the nearest object within `reach` of it."""
    owners, count = [], 0
    side = scenes[0].image.shape[0]
    grid = np.indices((side, side)).reshape(2, -1).T
    for one in scenes:
        targets = one.places + one.turns @ middle
        far = np.hypot(*(grid[:, None] - targets[None]).transpose(2, 0, 1))
        nearest = far.argmin(axis=1)
        mine = np.where(far.min(axis=1) <= reach, nearest + count, -1)
        owners.append(mine.reshape(side, side))
        count += len(targets)
    return Batch(
        torch.as_tensor(np.stack([one.image for one in scenes]))[:, None],
        torch.as_tensor(np.stack(owners)),
        torch.as_tensor(np.concatenate([one.places for one in scenes]), dtype=torch.float32),
        torch.as_tensor(np.concatenate([one.turns for one in scenes]), dtype=torch.float32),
        torch.tensor(silence)[:, None, None],
    )


def loss(
    output: Tensor, seen: Batch, middle: Tensor, how: Gathering, agreement: float
) -> tuple[Tensor, Tensor]:
    """The loss, and where in the crop the network finds the object, from the crop's middle.

    `middle` is where it found it so far.
    """
    side = output.shape[-1]
    grid = torch.stack(
        torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    ).float()
    known = detections.weight(output[:, 0])
    points = grid + how.unit * output[:, 1:]
    targets = seen.places + seen.turns @ middle
    mine = seen.owner >= 0
    copy = seen.owner[mine]
    off = points.movedim(1, -1)[mine] - targets[copy]
    weight = known[mine]

    def summed(values: Tensor) -> Tensor:
        return values.new_zeros(len(targets), *values.shape[1:]).index_add(0, copy, values)

    distance = (off.square().sum(dim=1) + 1e-12).sqrt()
    apart = ((1 + (distance / how.catch).square()).sqrt() - 1) * weight
    agree = (summed(apart) / (summed(weight) + 1e-6)).mean()
    # Which votes count must not depend on where the copy is: that would tell the answer.
    with torch.no_grad():
        near = torch.ones_like(weight)
        for _ in range(3):
            here = summed(near[:, None] * weight[:, None] * off)
            here = here / (summed(near * weight) + 1e-6)[:, None]
            near = ((off - here[copy]).square().sum(dim=1) < how.catch**2).float()
    total = summed(near * weight) + 1e-4
    mean = summed((near * weight)[:, None] * off) / total[:, None]
    off_by = total * mean.square().sum(dim=1)
    likely = ((TAIL + 2) / 2 * torch.log1p(off_by / TAIL) - total.log()).mean()
    area = (2 * how.reach) ** 2
    noisy = (torch.log1p(known * area) * ~mine * seen.silence).mean()
    with torch.no_grad():
        back = torch.linalg.solve(seen.turns, mean[:, :, None])[:, :, 0]
        found = (
            middle + (back * total.clamp(max=1e4)[:, None]).sum(dim=0) / total.clamp(max=1e4).sum()
        )
    return likely + agreement * agree + noisy, found


@dataclass(frozen=True, slots=True)
class Learned:
    """A network that has learned from crops; `middle` is where in the crop it finds the object."""

    network: UNet
    middle: Tensor
    losses: tuple[float, ...]


def learn(
    network: UNet,
    known: Sequence[Crop],
    how: Gathering,
    lesson: Lesson,
    seed: int,
    grounds: Sequence[Images] = (),
    after_step: Callable[[int, float], None] | None = None,
) -> Learned:
    """Train a steerable network on scenes of the crops; every second has a ground, if there are."""
    optimiser = torch.optim.Adam(network.parameters())
    middle = torch.as_tensor(known[0].middle, dtype=torch.float32)
    losses: list[float] = []
    network.train()
    for step in range(lesson.steps):
        if step == int(SETTLED * lesson.steps):
            for part in network.modules():
                if isinstance(part, nn.BatchNorm1d):
                    part.eval()
        generator = np.random.default_rng([seed, step])
        for group in optimiser.param_groups:
            group["lr"] = lesson.learning_rate * _rate(step / lesson.steps)
        seen = drawn(known, how, lesson, generator, grounds)
        value, found = loss(network(seen.image), seen, middle, how, lesson.agreement)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        middle = middle + 0.1 * (found - middle).clamp(-how.catch, how.catch)
        losses.append(float(value.detach()))
        if after_step is not None:
            after_step(step, losses[-1])
    return Learned(network.eval(), middle, tuple(losses))


def drawn(
    known: Sequence[Crop],
    how: Gathering,
    lesson: Lesson,
    generator: np.random.Generator,
    grounds: Sequence[Images] = (),
) -> Batch:
    """The scenes of one step."""
    scenes, silence = [], []
    for number in range(lesson.scenes):
        ground = None
        if grounds and number % 2:
            ground = _cut(grounds[int(generator.integers(len(grounds)))], lesson.side, generator)
        copies = int(generator.integers(1, lesson.copies + 1))
        scenes.append(crops.scene(known, lesson.side, copies, lesson.within, generator, ground))
        silence.append(lesson.silence if ground is None else lesson.unlabelled)
    return batch(scenes, known[0].middle, how.reach, silence)


def _cut(ground: Images, side: int, generator: np.random.Generator) -> Images:
    """A square of an image, mirrored where it is too small, turned by a quarter or not."""
    short = [max(0, side - n) for n in ground.shape]
    if any(short):
        ground = np.pad(ground, [(0, n) for n in short], mode="symmetric")
    y, x = (int(generator.integers(n - side + 1)) for n in ground.shape)
    return np.rot90(ground[y : y + side, x : x + side], int(generator.integers(4)))


def _rate(done: float) -> float:
    if done < 0.1:
        return done / 0.1 + 1e-3
    return (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2 + 1e-3
