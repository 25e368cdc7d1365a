"""Bundles: what was learned becomes the network that predicts, with a card that says what it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import cards, certificate, steerable, topology, weights
from pipeline.config import FinetuneTask
from pipeline.lessons import Plan


def write(
    folder: Path,
    learned: Mapping[str, Tensor],
    plan: Plan,
    task: FinetuneTask,
    recipe: str,
    **own: Any,
) -> None:
    """Export the network with these weights, certify it, and write both.

    `own` are the fields of the card that follow neither from the plan nor from the task.
    """
    torch.set_num_threads(task.finetune.threads)  # the certificate's last digits depend on it
    trained = steerable.build(plan.architecture)
    steerable.restore(trained, dict(learned))
    exported = steerable.export(trained.eval())
    card = cards.Card(
        architecture=cards.describe(plan.architecture),
        diameter_um=plan.diameter_um,
        voxel_size_um=plan.voxel_size_um,
        unit_voxels=plan.unit_voxels,
        hops=plan.hops,
        channel=task.channel,
        optics=None if task.optics == "unknown" else task.optics.model_dump(),
        receptive_field=topology.receptive_field(plan.architecture),
        shots=len(task.shots),
        objects=plan.objects,
        certificate=cards.Certificate(**certificate.certify(trained, exported)),
        recipe=recipe,
        **own,
    )
    weights.save(folder, exported, card)
