"""Lessons: shots read from volumes and annotations, at the level where the network is to work."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import distances, shots, topology, volumes
from pipeline.annotations import Annotated
from pipeline.sections import Network
from pipeline.shots import Example
from pipeline.tiles import Box
from pipeline.topology import Architecture
from pipeline.volumes import Volume

Pair = tuple[Volume, Annotated]
LONG = 1.8
"""How many times as long as wide objects are whose pointers are followed: rods are more than twice
as long, nuclei are not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the shots say about the network: where it works, and on objects of what size.

    Attributes
    ----------
    diameter_um: of the disc or ball that has a typical object's size.
    voxel_size_um: at which the network works, along its spatial axes.
    unit_voxels: what a displacement of 1 stands for, along its spatial axes.
    hops: how often pointers are followed, as `distances.Geometry` has it.
    """

    architecture: Architecture
    diameter_um: float
    voxel_size_um: tuple[float, ...]
    unit_voxels: tuple[float, ...]
    objects: int
    hops: int

    @property
    def diameter_voxels(self) -> tuple[float, ...]:
        """The typical diameter in voxels at which the network works."""
        return tuple(self.diameter_um / size for size in self.voxel_size_um)


@dataclass(frozen=True, slots=True)
class Course:
    """What one task's shots ask of finetune.

    Attributes
    ----------
    said: what is learned from, and how, in a sentence.
    inputs: what the model is made from besides volumes and settings, by name.
    members: folders of trainings, which a finished bundle needs no more.
    work: the trainings, in a folder that grows.
    assemble: writes the bundle from what they left in it, given the recipe's hash.
    """

    said: str
    inputs: Mapping[str, str]
    members: tuple[str, ...]
    work: Callable[[Path], Any]
    assemble: Callable[[Path, str], None]


def plan(
    volume: Volume, pairs: Sequence[Pair], diameter_um: float | None, settings: Network
) -> Plan:
    """Measure the objects, choose the level to work at and the network.

    `volume` is where the objects are to be found; `diameter_um` is theirs where it is known.
    Raises ValueError where neither a diameter nor an object is given.
    """
    diameters, widths, aspects, objects = [], [], [], 0
    for shown, annotated in pairs:
        voxel = shown.voxel_um(shown.levels[0])
        for frame in annotated.frames:
            labels = np.where(annotated.known(frame), annotated.labels(frame), 0)
            if labels.any():
                diameters.append(shots.diameter(labels, voxel))
                widths.append(shots.width(labels, voxel))
                aspects.append(shots.aspect(labels, voxel))
                objects += len(np.unique(labels[labels != 0]))
    if diameter_um is None and not objects:
        raise ValueError("the shots hold no object: annotate at least one.")
    diameter = diameter_um or float(np.median(diameters))
    width = float(np.median(widths)) if widths else diameter
    voxels = [volume.voxel_um(level) for level in volume.levels]
    aspect = float(np.median(aspects)) if aspects else 1.0
    return fitted(voxels, width, diameter, aspect, objects, settings)


def fitted(
    voxels_um: Iterable[tuple[float, ...]],
    width_um: float,
    diameter_um: float,
    aspect: float,
    objects: int,
    settings: Network,
) -> Plan:
    """The network for objects of this size, at those of the voxel sizes where they fit best.

    `aspect` is how many times as long as wide they are.
    """
    voxel = min(
        voxels_um, key=lambda size: abs(math.log(width_um / min(size) / settings.object_voxels))
    )
    axes = "zyx"[-len(voxel) :]
    return Plan(
        topology.design(axes, voxel, settings.group, settings.width.of(axes), settings.levels),
        diameter_um,
        voxel,
        tuple(settings.object_voxels * min(voxel) / size for size in voxel),
        objects,
        distances.HOPS if aspect >= LONG else 0,
    )


def examples(pairs: Sequence[Pair], channel: str, plan: Plan) -> list[Example]:
    """One example per annotated frame, with as much image around it as a crop may need."""
    return [
        _example(volume, annotated, frame, channel, plan)
        for volume, annotated in pairs
        for frame in annotated.frames
    ]


def _example(volume: Volume, annotated: Annotated, frame: int, channel: str, plan: Plan) -> Example:
    level = volumes.level_at(volume, plan.voxel_size_um)
    factors = volume.spatial(level.factors)
    sides = volume.spatial(level.shape)
    inside = annotated.space.coarsened(factors).clipped(sides)
    around = inside.grown(topology.receptive_field(plan.architecture)).clipped(sides)
    labels, known = np.zeros(around.shape, np.int64), np.zeros(around.shape, bool)
    middle = tuple(slice(factor // 2, None, factor) for factor in factors)
    cut = annotated.labels(frame)[middle]
    place = Box(inside.start, tuple(a + n for a, n in zip(inside.start, cut.shape, strict=True)))
    labels[place.within(around)] = cut
    known[place.within(around)] = annotated.known(frame)[middle]
    image = volume.normalised(level.number, around, frame, volume.channel(channel))
    return Example(image, labels, known)
