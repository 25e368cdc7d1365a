"""What the network says about any box of a volume, from tiles of one fixed grid.

Tiles lie on a grid of their own, whoever asks: so the same voxel always gets the same answer.
"""

import copy
import itertools
import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.grids import Grid
from pipeline.network import UNet, compressed

Floats = npt.NDArray[np.float32]
Precision = Literal["float32", "bfloat16"]
log = logging.getLogger("equiscope.fields")


class Prepared(nn.Module):
    """The network for the tiles of one grid: the same function of what a tile reads, in less time.

    It gives what the tile owns and nothing of the context. On the way up each level sees no more
    than the one above it needs; in voxels of the finest level, for a tile of 8 and two poolings:

        read       ccccccccccccccccccccccccttttttttcccccccccccccccccccccccc
        level 2                    uuuuuuuuttttttttuuuuuuuu
        level 1                    uuuuuuuuttttttttuuuuuuuu
        level 0                          uuttttttttuu
    """

    def __init__(self, network: UNet, grid: Grid) -> None:
        super().__init__()
        self.pooling = network.architecture.pooling
        self.context, self.tile = grid.context, grid.tile
        self.down, self.head = copy.deepcopy(network.down), copy.deepcopy(network.head)
        self.up = nn.ModuleList(map(_Up, network.up, self.pooling))
        for part in self.down.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = True

    def forward(self, image: Tensor) -> Tensor:
        """Map `(batch, channels, *grid.reads)` to `(batch, outputs, *grid.tile)`."""
        nothing = (0,) * len(self.context)
        output: Tensor = self.head(self._level(compressed(image), 0, self.context, nothing))
        return output

    def _level(
        self, features: Tensor, level: int, has: tuple[int, ...], needed: tuple[int, ...]
    ) -> Tensor:
        """Features of a level with `needed` voxels of context, of `has` that come in."""
        features = self.down[level](features)
        if level == len(self.pooling):
            return _within(features, has, needed)
        factors = self.pooling[level]
        pool = functional.max_pool2d if len(factors) == 2 else functional.max_pool3d
        has_below = tuple(h // f for h, f in zip(has, factors, strict=True))
        # Two convolutions, 3 wide, and whole voxels of the level below.
        needed_below = tuple(-(-(n + 2) // f) for n, f in zip(needed, factors, strict=True))
        below = self._level(pool(features, factors), level + 1, has_below, needed_below)
        joined = tuple(n * f for n, f in zip(needed_below, factors, strict=True))
        features = self.up[level](_within(features, has, joined), below)
        return _within(features, tuple(j - 2 for j in joined), needed)


class _Up(nn.Module):
    """The two blocks of a level on its way up, without padding.

    The first convolves its level's own features and those below, upsampled, and adds: to convolve
    upsampled features is to convolve them transposed, which takes half the multiplications or
    fewer and makes no copies.
    """

    def __init__(self, blocks: nn.Module, factors: tuple[int, ...]) -> None:
        super().__init__()
        first, bias, second, bias_of_second = (p.detach().clone() for p in blocks.parameters())
        skipped = first.shape[0]
        self.factors = factors
        self.register_buffer("beside", first[:, :skipped])
        self.register_buffer("below", _upsampling(first[:, skipped:], factors))
        self.register_buffer("bias", bias)
        self.register_buffer("second", second)
        self.register_buffer("bias_of_second", bias_of_second)

    def forward(self, beside: Tensor, below: Tensor) -> Tensor:
        planar = len(self.factors) == 2
        convolve = functional.conv2d if planar else functional.conv3d
        transposed = functional.conv_transpose2d if planar else functional.conv_transpose3d
        features = convolve(beside, self.get_buffer("beside"), self.get_buffer("bias"))
        features += transposed(below, self.get_buffer("below"), stride=self.factors, padding=2)
        features = functional.relu_(features)
        return functional.relu_(
            convolve(features, self.get_buffer("second"), self.get_buffer("bias_of_second"))
        )


def _upsampling(weight: Tensor, factors: Sequence[int]) -> Tensor:
    """Filters `(in, out, *kernel)` of the transposed convolution that upsamples and convolves.

    With padding 2 it gives what the filters `(out, in, 3, ...)` give of nearest upsampling without
    padding. Along an axis that is doubled, voxel i of the level below stands twice, at 2i and
    2i + 1, and meets the filter (a, b, c) as (c, b + c, a + b, a).
    """
    for axis, factor in enumerate(factors, start=2):
        a, b, c = weight.unbind(axis)
        weight = torch.stack([c, b, a] if factor == 1 else [c, b + c, a + b, a], axis)
    return weight.transpose(0, 1)


def _within(features: Tensor, has: Sequence[int], needed: Sequence[int]) -> Tensor:
    """Features with `needed` voxels of context on either side, of `has`."""
    inside = tuple(
        slice(h - n, side - (h - n))
        for h, n, side in zip(has, needed, features.shape[2:], strict=True)
    )
    return features[(slice(None), slice(None), *inside)]


def prepared(network: UNet, grid: Grid) -> Prepared:
    """The network for the tiles of `grid`, on its device. Later changes of weights don't reach it.

    On a CPU the channels of a voxel lie together in memory, which is faster there.
    """
    # GPUs would round to 10 bits where they may, and the symmetry hold to a thousandth only.
    torch.backends.cudnn.allow_tf32 = False
    ready = Prepared(network, grid).eval()
    layout = torch.contiguous_format
    if next(network.parameters()).device.type == "cpu":
        layout = torch.channels_last if len(grid.tile) == 2 else torch.channels_last_3d
    for tensor in itertools.chain(ready.parameters(), ready.buffers()):
        if tensor.ndim > 1:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return ready


def forward(
    network: Prepared, images: Sequence[Floats], precision: Precision = "float32"
) -> list[Floats]:
    """The network's outputs `(outputs, *tile)` from the images in `grid.reads(tile)` of tiles.

    Takes all at once where the device's memory allows it, else halves of them.
    Raises RuntimeError where it does not hold a single one.
    """
    device = next(network.parameters()).device
    low = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    try:
        with torch.inference_mode(), low:
            seen = torch.from_numpy(np.stack(images)[:, None]).to(device)
            output = network(seen).float().cpu().numpy()
        return [np.ascontiguousarray(one) for one in output]
    except torch.OutOfMemoryError as error:
        if len(images) == 1:
            raise RuntimeError(
                f"the device has no memory for one tile of {network.tile} voxels: lower "
                "predict.tile_voxels, or ask for a larger device."
            ) from error
    log.info("the device has no memory for %d tiles at once: taking halves", len(images))
    torch.cuda.empty_cache()
    half = len(images) // 2
    return forward(network, images[:half], precision) + forward(network, images[half:], precision)
