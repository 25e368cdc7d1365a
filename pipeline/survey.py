"""What a volume in the making is like: the facts of all its shards, put together."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline import shards, volumes
from pipeline.intensities import Channel
from pipeline.noise import estimate_camera
from pipeline.tiles import Box, placed

LOOKED_AT, SIDE_VOXELS = 8, 256
"""How many blocks of a channel, and how wide, tell of the camera."""


def survey(work: shards.Shards, axes: str, channels: Sequence[str]) -> dict[str, Any]:
    """For each channel: intensities, noise, sharpness and camera; see docs/reference.md."""
    found = [Channel() for _ in channels]
    for box, facts in shards.facts(work):
        spans = dict(zip(axes, map(range, box.start, box.stop), strict=True))
        [number] = spans["c"]
        planes = itertools.product(spans.get("t", range(1)), spans.get("z", range(1)))
        found[number].add(facts, planes, math.prod(box.shape[-2:]))
    return {
        name: {**channel.summary(), "camera": _camera(work, axes, number)}
        for number, (name, channel) in enumerate(zip(channels, found, strict=True))
    }


def _camera(work: shards.Shards, axes: str, channel: int) -> dict[str, Any]:
    """The camera's gain, offset and read noise; or why they cannot be told from this image."""
    blocks = [
        np.asarray(volumes.open_level(work.store, 0)[box.slices]).reshape(box.shape[-2:])
        for box in _blocks(work, axes, channel)
    ]
    try:
        camera, noise = estimate_camera(np.stack(blocks))
    except ValueError as fault:
        return {"unknown": str(fault)}
    return {
        "gain_counts_per_electron": camera.gain,
        "gain_standard_error": noise.slope_error,
        "offset_counts": camera.offset,
        "read_noise_electrons": camera.read_noise,
    }


def _blocks(work: shards.Shards, axes: str, channel: int) -> list[Box]:
    """Blocks in the middle of planes, spread evenly over the channel."""
    sides = dict(zip(axes, work.levels[0].shape, strict=True))
    frames, depth = sides.get("t", 1), sides.get("z", 1)
    numbers = np.unique(np.linspace(0, frames * depth - 1, LOOKED_AT).astype(int))
    result = []
    for number in numbers:
        frame, plane = divmod(int(number), depth)
        middle = {a: (sides[a] - min(sides[a], SIDE_VOXELS)) // 2 for a in "yx"}
        start = {"z": plane, **middle}
        stop = {"z": plane + 1, **{a: middle[a] + min(sides[a], SIDE_VOXELS) for a in "yx"}}
        space = [a for a in axes if a in "zyx"]
        box = Box(tuple(start[a] for a in space), tuple(stop[a] for a in space))
        result.append(placed(axes, box, frame, channel))
    return result
