"""Cellpose 3, trained from scratch with its own defaults. Runs in the peers' environment.

Batches of 8, AdamW with rate 0.005, weight decay 1e-5, its own augmentation (any angle, mirrors,
scale), 8 crops per epoch for few images as its documentation advises, and 2000 epochs, or as many
as the time allows, so that its schedule always runs to its end.
"""

import importlib.metadata
import math
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.exchange import Image, Job, Labels, Peer, main

EPOCHS, LEAST_EPOCHS = 2000, 10
"""Of its defaults; and those that its learning rate takes to rise, which any training gets."""
CROPS = 8


def learn(job: Job, images: list[Image], labels: list[Labels]) -> tuple[int, int]:
    """Measure how long an epoch takes, then train for the epochs that fit into the time."""
    utils = import_module("cellpose.utils")
    _timed(job, images, labels, 1)
    once, twice = (_timed(job, images, labels, epochs) for epochs in (1, 2))
    epoch = max(twice - once, 1e-3)
    epochs = int(np.clip(job.seconds / epoch, LEAST_EPOCHS, EPOCHS))
    path = _train(job, images, labels, epochs, job.folder / "scratch")
    path.rename(job.model / "network")
    sizes = [utils.diameters(one)[0] for one in labels if one.any()]
    np.save(job.model / "diameter.npy", np.mean(sizes))
    batches = math.ceil(max(CROPS, len(images)) / CROPS)
    return epochs * batches, EPOCHS * batches


def segment(job: Job, images: list[Image]) -> list[Labels]:
    """Labels with its default thresholds, told the mean diameter of the shots' objects."""
    models = import_module("cellpose.models")
    network = str(job.model / "network")
    model = models.CellposeModel(gpu=torch.cuda.is_available(), pretrained_model=network)
    diameter = float(np.load(job.model / "diameter.npy"))
    return [
        model.eval(image, channels=[0, 0], diameter=diameter)[0].astype(np.int32)
        for image in images
    ]


def _timed(job: Job, images: list[Image], labels: list[Labels], epochs: int) -> float:
    """Seconds that a training of so many epochs takes; what it learns is thrown away."""
    began = time.monotonic()
    _train(job, images, labels, epochs, job.folder / "trial")
    return time.monotonic() - began


def _train(job: Job, images: list[Image], labels: list[Labels], epochs: int, folder: Path) -> Path:
    """Train a network from new weights; returns the file of what it learned."""
    models, train = import_module("cellpose.models"), import_module("cellpose.train")
    torch.manual_seed(job.seed)
    folder.mkdir(exist_ok=True)
    model = models.CellposeModel(gpu=torch.cuda.is_available(), pretrained_model=False)
    path, *_ = train.train_seg(
        model.net,
        train_data=images,
        train_labels=[one.copy() for one in labels],
        channels=[0, 0],
        n_epochs=epochs,
        nimg_per_epoch=max(CROPS, len(images)),
        min_train_masks=1,
        save_path=folder,
    )
    return Path(path)


if __name__ == "__main__":
    raise SystemExit(main(Peer(lambda: importlib.metadata.version("cellpose"), learn, segment)))
