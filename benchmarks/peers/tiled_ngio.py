"""ngio's segmentation iterator: tiles with a halo, whose objects it stitches by their overlap."""

from importlib import import_module
from pathlib import Path

from benchmarks.peers.tiled import Chunks

MOST_OBJECTS = 1_000_000
"""Numbers that each tile's objects may take."""
NAME = "stitched"


def labelled(chunks: Chunks, store: Path, workers: int) -> None:
    """Label the volume `store`, a copy of its own, into `labels/stitched`, pyramid included."""
    ngio = import_module("ngio")
    iterators = import_module("ngio.iterators")
    container = ngio.open_ome_zarr_container(str(store))
    image = container.get_image()
    sides = (1,) * (len(chunks.volume.axes) - len(chunks.sides)) + chunks.sides
    label = container.derive_label(NAME, dtype="uint32", chunks=sides, shards=None)
    space = chunks.volume.space
    grid = {f"size_{axis}": n for axis, n in zip(space, chunks.sides, strict=True)}
    depth = dict(zip(space, chunks.depth, strict=True))
    stitch = iterators.StitchConfig(block_size=MOST_OBJECTS)
    iterator = iterators.SegmentationIterator(
        image, label, channel_selection=0, axes_order=space, consolidation_mode="auto"
    )
    iterator = iterator.by_grid(**grid).with_halo(**depth).with_stitch(stitch)
    iterator.map(chunks, mapper=iterators.ThreadedMapper(workers))
