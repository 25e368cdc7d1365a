"""The only door to Zarr: OME-Zarr 0.5 images, labels and tables, written shard by shard."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from pipeline import receipts, sharding
from pipeline.ngff import Calibration
from pipeline.tiles import Box, Level, boxes, placed

if TYPE_CHECKING:  # pandas takes long to load, and most jobs see no table
    import pandas as pd

Read = Callable[[int, Box], npt.NDArray[Any]]
"""Gives the voxels of a box at a level."""
LABEL_SHARD_VOXELS = 2**25
"""A shard of labels has at most so many voxels, each an id of 8 bytes, where its chunks allow."""
TABLE = "table.parquet"
"""In the folder of a table: its rows, where ngio looks for them."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A published image.

    Attributes
    ----------
    windows: for each channel, the intensities that become 0 and 1 for a network.
    recipe: hash of what the image was made from.
    position_um: of the first voxel's centre, for each spatial axis whose position is known.
    acquired: when, as ISO 8601; "" where the raw file did not tell.
    """

    store: Path
    axes: str
    levels: tuple[Level, ...]
    voxel_size_um: dict[str, float]
    time_step_s: float | None
    channels: tuple[str, ...]
    windows: tuple[tuple[float, float], ...]
    recipe: str
    facts: dict[str, Any]
    position_um: dict[str, float]
    acquired: str = ""

    @property
    def calibration(self) -> Calibration:
        """Where and when its voxels lie, and those of its labels."""
        return Calibration(self.voxel_size_um, self.time_step_s, self.position_um)

    @property
    def space(self) -> str:
        """The spatial axes, "yx" or "zyx"."""
        return "".join(axis for axis in self.axes if axis in "zyx")

    @property
    def label_levels(self) -> tuple[Level, ...]:
        """The levels of a label volume of this image, which has no channels.

        Its shards are of one frame, and smaller where they would outgrow a job's memory.
        """
        at = self.axes.index("c")

        def kept(values: tuple[int, ...]) -> tuple[int, ...]:
            return values[:at] + values[at + 1 :]

        return tuple(
            Level(
                number=level.number,
                factors=kept(level.factors),
                shape=kept(level.shape),
                chunk=kept(level.chunk),
                shard=kept(self._label_shard(level)),
            )
            for level in self.levels
        )

    def _label_shard(self, level: Level) -> tuple[int, ...]:
        sides = {
            axis: 1 if axis == "t" else n for axis, n in zip(self.axes, level.shard, strict=True)
        }
        chunk = dict(zip(self.axes, level.chunk, strict=True))
        while math.prod(sides.values()) > LABEL_SHARD_VOXELS:
            chunks = {axis: sides[axis] // chunk[axis] for axis in self.space}
            longest = max(chunks, key=lambda axis: (chunks[axis], sides[axis]))
            if chunks[longest] == 1:
                break
            sides[longest] = -(-chunks[longest] // 2) * chunk[longest]
        return tuple(sides.values())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels."""
        return np.dtype(self.facts["dtype"])

    def spatial(self, values: Sequence[int]) -> tuple[int, ...]:
        """Of one value per axis, those of the spatial axes."""
        return tuple(v for v, axis in zip(values, self.axes, strict=True) if axis in "zyx")

    def voxel_um(self, level: Level) -> tuple[float, ...]:
        """Voxel size at a level, along the spatial axes."""
        factors = self.spatial(level.factors)
        return tuple(self.voxel_size_um[a] * f for a, f in zip(self.space, factors, strict=True))

    def level_of(self, voxel_size_um: Sequence[float]) -> Level | None:
        """The finest level with this voxel size, within a tenth; None where there is none."""
        for level in self.levels:
            here = self.voxel_um(level)
            if len(here) == len(voxel_size_um) and np.allclose(here, voxel_size_um, rtol=0.1):
                return level
        return None

    @property
    def sizes_text(self) -> str:
        """The voxel sizes of all levels as a sentence has them."""
        return ", ".join(size_text(self.voxel_um(level)) for level in self.levels)

    def read(self, level: int, box: Box) -> npt.NDArray[Any]:
        """The voxels of `box` at a level.

        Raises OSError where a shard that it lies in is lost or damaged.
        """
        receipt = self.store.with_name(self.store.name.removesuffix(".ome.zarr") + ".json")
        return read_box(self.store, self.levels[level], box, receipt)

    def normalised(
        self, level: int, space: Box, frame: int, channel: int, read: Read | None = None
    ) -> npt.NDArray[np.float32]:
        """A spatial box of one channel, its window's ends become 0 and 1.

        `read` reads as the volume does, which is asked where none is given.
        """
        box = placed(self.axes, space, frame, channel)
        return self._scaled((read or self.read)(level, box).reshape(space.shape), channel)

    def nothing(self, level: int, space: Box, frame: int, channel: int) -> float | None:
        """What `normalised` gives everywhere, where all shards of the box hold zeros alone.

        None where they don't. Told from the bytes of the shards, without decoding them.
        """
        box = placed(self.axes, space, frame, channel)
        if not _only_zeros(self.store, self.levels[level], box):
            return None
        return float(self._scaled(np.zeros(1, self.dtype), channel)[0])

    def _scaled(self, values: npt.NDArray[Any], channel: int) -> npt.NDArray[np.float32]:
        low, high = self.windows[channel]
        # A float of 32 bits does not tell large whole numbers apart.
        exact = np.promote_types(values.dtype, np.float32)
        return ((values.astype(exact) - low) / (high - low)).astype(np.float32)

    def channel(self, name: str) -> int:
        """Number of the channel with this name.

        Raises ValueError where there is none.
        """
        if name not in self.channels:
            raise ValueError(
                f"{self.store.name} has no channel {name!r}; it has {', '.join(self.channels)}."
            )
        return self.channels.index(name)


def create(
    store: Path,
    levels: Sequence[Level],
    axes: str,
    dtype: npt.DTypeLike,
    kind: Literal["image", "labels"],
) -> None:
    """Write the metadata of all arrays of a store, and no voxels. Workers never write metadata.

    Nothing is consolidated: a consolidated block hides what is added later.
    """
    compressors: list[Any] = [ZstdCodec(level=3), Crc32cCodec()]
    if kind == "image":
        compressors[0] = BloscCodec(
            cname="zstd", clevel=3, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize
        )
    zarr.create_group(store, zarr_format=3, overwrite=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*crc32c.*")
        for level in levels:
            zarr.create_array(
                store,
                name=str(level.number),
                shape=level.shape,
                chunks=level.chunk,
                shards=level.shard,
                dtype=np.dtype(dtype),
                compressors=compressors,
                fill_value=0,
                dimension_names=list(axes),
                zarr_format=3,
            )


def open_level(store: Path, level: int, mode: Literal["r", "r+"] = "r") -> zarr.Array[Any]:
    """One level of a store as a Zarr array."""
    return zarr.open_array(store / str(level), mode=mode)


def read_box(store: Path, level: Level, box: Box, receipt: Path) -> npt.NDArray[Any]:
    """The voxels of `box` at a level of a published store, whose shards all have files.

    `receipt` is that of the stage that made the store.
    Raises OSError where a shard that the box lies in is lost or damaged.
    """
    shards = {
        store / shard_file(level, shard): shard for shard in boxes(level.shape, level.shard, box)
    }
    # Zarr reads zeros where there is no file, or an empty one.
    harmed = [path for path in shards if not path.is_file() or not path.stat().st_size]
    array = open_level(store, level.number)
    if not harmed:
        if _only_zeros(store, level, box):
            return np.zeros(box.shape, array.dtype)
        try:
            return np.asarray(array[box.slices])
        except ValueError:
            harmed = [path for path, shard in shards.items() if not decodes(array, shard)]
            if not harmed:
                raise
    raise OSError(
        f"{harmed[0]} is lost or damaged: it is no longer what was written. Delete {receipt} and "
        f"run again: {store.name} is then made anew."
    )


def _only_zeros(store: Path, level: Level, box: Box) -> bool:
    """Whether every shard that the box lies in has the very bytes of one of zeros."""
    for shard in boxes(level.shape, level.shard, box):
        file = store / shard_file(level, shard)
        blank = _codec(store, level).blank(shard.shape)
        if not file.is_file() or file.stat().st_size != len(blank) or file.read_bytes() != blank:
            return False
    return True


def _codec(store: Path, level: Level) -> sharding.Codec:
    return sharding.codec((store / str(level.number) / "zarr.json").read_bytes())


def decodes(array: zarr.Array[Any], shard: Box) -> bool:
    """Whether a shard can be read, and its checksums hold."""
    try:
        array[shard.slices]
    except (ValueError, OSError):
        return False
    return True


def shard_file(level: Level, box: Box) -> str:
    """Where in its store the shard with this box lies."""
    index = (a // side for a, side in zip(box.start, level.shard, strict=True))
    return "/".join([str(level.number), "c", *(str(i) for i in index)])


def shard_files(levels: Iterable[Level]) -> Iterator[tuple[str, Level, Box]]:
    """Of every shard of these levels: where in its store it lies, its level and its box."""
    for level in levels:
        for box in boxes(level.shape, level.shard):
            yield shard_file(level, box), level, box


def write_shard(
    store: Path, level: Level, box: Box, values: npt.NDArray[Any]
) -> dict[str, str | int]:
    """Write one whole shard and read some of it back. Returns its file, bytes and checksum.

    A shard of nothing but zeros gets a file as well, so that one that is lost cannot pass for it.
    Raises OSError where the disk is full, or what is read back differs: it did not keep it.
    """
    file = shard_file(level, box)
    path, codec = store / file, _codec(store, level)
    try:
        checksum = codec.write(path, values)
    except OSError as error:
        raise OSError(
            f"{path} could not be written: {error.strerror or error}. Make room on that disk, or "
            "mend it, and run again: what was written stays."
        ) from error
    if not codec.holds(path, values):
        raise OSError(f"{path} reads back other than written: check the disk it lies on.")
    return {"file": file, "bytes": path.stat().st_size, "checksum": checksum}


def annotate(store: Path, attributes: Mapping[str, Any]) -> None:
    """Replace a store's attributes, in one atomic write."""
    document = receipts.read(store / "zarr.json")
    receipts.write(store / "zarr.json", document | {"attributes": dict(attributes)})


def attributes(store: Path) -> dict[str, Any]:
    """A store's attributes; empty where there is no store."""
    if not (store / "zarr.json").is_file():
        return {}
    found = receipts.read(store / "zarr.json")["attributes"]
    return dict(found)


def open_volume(store: Path) -> Volume:
    """Open a published image.

    Raises ValueError where there is none, or it was not made by ingest.
    """
    found = attributes(store)
    if "equiscope" not in found:
        raise ValueError(f"{store} is no published volume: run ingest first.")
    own = found["equiscope"]
    return Volume(
        store=store,
        axes=own["axes"],
        levels=levels_of(own),
        voxel_size_um=own["voxel_size_um"],
        time_step_s=own["time_step_s"],
        channels=tuple(own["channels"]),
        windows=tuple((low, high) for low, high in own["windows"]),
        recipe=own["recipe"]["hash"],
        facts=own["facts"],
        position_um=own.get("position_um", {}),
        acquired=own.get("acquired", ""),
    )


def levels_of(own: Mapping[str, Any]) -> tuple[Level, ...]:
    """The levels of a store, from what it says of itself."""
    return tuple(
        Level(
            number=level["number"],
            **{key: tuple(level[key]) for key in ("factors", "shape", "chunk", "shard")},
        )
        for level in own["levels"]
    )


def level_at(volume: Volume, voxel_size_um: Sequence[float]) -> Level:
    """The level of a volume that has this voxel size, within a tenth.

    Raises ValueError where there is none.
    """
    found = volume.level_of(voxel_size_um)
    if found is None:
        raise ValueError(
            f"{volume.store.name} has no level with the model's voxels of "
            f"{size_text(voxel_size_um)} um; its levels have {volume.sizes_text} um. "
            "Use a model that learned at one of these sizes."
        )
    return found


def size_text(voxel_size_um: Sequence[float]) -> str:
    """A voxel's sides as a sentence has them."""
    return " x ".join(f"{side:g}" for side in voxel_size_um)


def write_table(folder: Path, table: "pd.DataFrame", region: str, own: Mapping[str, Any]) -> None:
    """Write a feature table as ngio and Fractal read it: one row per object, indexed by label."""
    folder.mkdir(parents=True)
    table.to_parquet(folder / TABLE)
    describe_table(folder, region, own)


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Make a folder a group with these attributes, in one atomic write."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    receipts.write(folder / "zarr.json", document)


def describe_table(folder: Path, region: str, own: Mapping[str, Any]) -> None:
    """Make a folder that holds a Parquet file of objects a feature table of the labels `region`."""
    described = {
        "type": "feature_table",
        "table_version": "1",
        "backend": "parquet",
        "index_key": "label",
        "index_type": "int",
        "region": {"path": f"../labels/{region}"},
        "equiscope": dict(own),
    }
    write_group(folder, described)


def statistics_file(store: Path) -> Path:
    """Where ingest leaves what it measured of a volume."""
    return store.with_name(f"{store.name.removesuffix('.ome.zarr')}.statistics.json")


def statistics(store: Path) -> dict[str, Any]:
    """What ingest measured of each channel of a volume; empty where it did not."""
    path = statistics_file(store)
    found: dict[str, Any] = receipts.read(path)["channels"] if path.is_file() else {}
    return found


def read_table(store: Path, name: str) -> "pd.DataFrame":
    """The table of the objects that the model `name` found, indexed by label."""
    import pandas as pd

    return pd.read_parquet(store / "tables" / name / TABLE)
