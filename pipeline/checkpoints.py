"""Checkpoints of a training on disk: whole or not there, whatever kills the writer."""

import logging
import os
from pathlib import Path

import torch

from pipeline.training import State

log = logging.getLogger("equiscope.checkpoints")


def save(path: Path, state: State) -> None:
    """Write a checkpoint that replaces the one before it at once."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as stream:
        torch.save(state.dump(), stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def resume(path: Path, state: State) -> None:
    """Go on from a checkpoint, if there is one."""
    if path.is_file():
        device = next(state.network.parameters()).device
        state.restore(torch.load(path, map_location=device, weights_only=True))
        log.info("going on from step %d", state.step)
