"""StarDist, trained from scratch as its example notebook does. Runs in the peers' environment.

The notebook's network, patches, augmentation (flips, quarter turns, brightness) and 400 epochs of
100 steps, cut short where the time is over. Few shots leave none to validate on: the shots
themselves choose the best epoch and the thresholds.
"""

import importlib.metadata
import os
import time
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.peers.exchange import Image, Job, Labels, Peer, main

PATCH, STRIDE = 256, 16
"""Side of a training patch in voxels, and what it must be a multiple of."""


def learn(job: Job, images: list[Image], labels: list[Labels]) -> tuple[int, int]:
    """Train until the last epoch or the end of the time."""
    tensorflow, stardist = _packages()
    tensorflow.keras.utils.set_random_seed(job.seed)
    images = [_normalised(image) for image in images]
    side = min(PATCH, *(n // STRIDE * STRIDE for image in images for n in image.shape))
    config = stardist.Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=1,
        train_patch_size=(side, side),
        train_tensorboard=False,
    )
    model = stardist.StarDist2D(config, name="model", basedir=str(job.folder))
    model.prepare_for_training()
    until = time.monotonic() + job.seconds

    def after_step(*_: Any, **__: Any) -> None:
        model.keras_model.stop_training = time.monotonic() >= until

    clock = tensorflow.keras.callbacks.LambdaCallback(on_train_batch_end=after_step)
    model.callbacks.append(clock)
    augmenter = partial(_augmented, np.random.default_rng(job.seed))
    model.train(images, labels, validation_data=(images, labels), augmenter=augmenter)
    model.optimize_thresholds(images, labels)
    steps = int(model.keras_model.optimizer.iterations)
    return steps, config.train_epochs * config.train_steps_per_epoch


def segment(job: Job, images: list[Image]) -> list[Labels]:
    """Labels with the thresholds that the shots chose."""
    _, stardist = _packages()
    model = stardist.StarDist2D(None, name="model", basedir=str(job.folder))
    return [model.predict_instances(_normalised(image))[0].astype(np.int32) for image in images]


def _packages() -> tuple[Any, Any]:
    """TensorFlow, with as many threads as OMP_NUM_THREADS says, which it does not ask; StarDist."""
    tensorflow = import_module("tensorflow")
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    return tensorflow, import_module("stardist.models")


def _normalised(image: Image) -> Image:
    normalize = import_module("csbdeep.utils").normalize
    return np.asarray(normalize(image, 1, 99.8, axis=(0, 1)), np.float32)


def _augmented(
    generator: np.random.Generator, image: Image, labels: Labels
) -> tuple[Image, Labels]:
    """The augmenter of StarDist's example notebook: a flip, a quarter turn, other brightness."""
    turns = int(generator.integers(4))
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if generator.random() < 0.5:
        image, labels = np.flip(image, 0), np.flip(labels, 0)
    image = image * generator.uniform(0.6, 2) + generator.uniform(-0.2, 0.2)
    noise = 0.02 * generator.uniform(0, 1) * generator.normal(0, 1, image.shape)
    return np.asarray(image + noise, np.float32), labels


if __name__ == "__main__":
    raise SystemExit(main(Peer(lambda: importlib.metadata.version("stardist"), learn, segment)))
