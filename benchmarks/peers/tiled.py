"""What peers that label a large volume in chunks are given: a chunk's labels from our network."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline import distances, labelling, topology, volumes, weights
from pipeline.distances import Geometry
from pipeline.labelling import Lattice
from pipeline.network import UNet
from pipeline.sections import Predict
from pipeline.volumes import Volume

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Chunks:
    """Labels chunks as one would who has the network and these functions, and no tiling of ours.

    Attributes
    ----------
    sides: of a chunk, without what it overlaps.
    depth: voxels that a chunk sees of its neighbours: the receptive field, and the distance
        that a voxel may have from its object's centre, in whole strides.
    """

    volume: Volume
    network: UNet
    window: tuple[float, float]
    geometry: Geometry
    foreground: float
    sides: tuple[int, ...]
    depth: tuple[int, ...]

    def __call__(self, raw: npt.NDArray[Any]) -> Labels:
        """Labels 1 to n of a spatial array of raw intensities, from the network called eagerly."""
        low, high = self.window
        image = (raw.astype(np.float32) - low) / (high - low)
        stride = self.network.architecture.stride
        missing = [(0, -n % s) for n, s in zip(raw.shape, stride, strict=True)]
        image = np.pad(image, missing, "symmetric").astype(np.float32)
        with torch.inference_mode():
            output = self.network(torch.from_numpy(image)[None, None])[0].numpy()
        output = output[(slice(None), *(slice(0, n) for n in raw.shape))]
        lattice = Lattice((1.0,) * raw.ndim, raw.shape, raw.shape)
        found = labelling.whole(output, lattice, self.geometry, self.foreground)
        return dense(found)


def chunks(store: Path, bundle: Path, settings: Predict, sides: tuple[int, ...]) -> Chunks:
    """A model before a volume of one channel, whose voxels have the model's size."""
    torch.set_num_threads(1)
    exported, card = weights.load(bundle)
    volume = volumes.open_volume(store)
    geometry = distances.geometry_for(card, settings.smallest_object)
    reached = zip(
        topology.receptive_field(card.network), geometry.reach, card.network.stride, strict=True
    )
    return Chunks(
        volume=volume,
        network=exported,
        window=volume.windows[0],
        geometry=geometry,
        foreground=settings.foreground,
        sides=sides,
        depth=tuple(s * math.ceil((field + reach) / s) for field, reach, s in reached),
    )


def dense(ids: npt.NDArray[np.uint64]) -> Labels:
    """The same labels, numbered 1 to n."""
    names, numbers = np.unique(ids, return_inverse=True)
    first = 0 if len(names) and names[0] == 0 else 1
    return (numbers.reshape(ids.shape) + first).astype(np.int32)
