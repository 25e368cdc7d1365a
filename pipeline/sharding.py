"""Shards as bytes: the sharding codec of Zarr 3, chunk by chunk, so that no shard is held twice.

Zarr-Python encodes the same bytes at 1.7 times the cost, and holds a shard several times over.
"""

import io
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numcodecs
import numpy as np
import numpy.typing as npt
import xxhash

from pipeline.tiles import Index

ABSENT = 2**64 - 1
"""Stands in a shard's index for a chunk that lies beyond the end of the array."""
CHECKSUM_BYTES = 4
DECODED = 16
"""One of so many chunks is decoded to see that it reads back."""


@dataclass(frozen=True)
class Codec:
    """How the shards of one array are encoded.

    Attributes
    ----------
    shard, chunk: their sides.
    dtype: of the voxels, little-endian.
    compressor: of numcodecs, as its configuration in JSON.
    """

    shard: Index
    chunk: Index
    dtype: np.dtype[Any]
    compressor: str

    @cached_property
    def _compress(self) -> Any:
        return numcodecs.get_codec(json.loads(self.compressor))

    @property
    def _grid(self) -> Index:
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def write(self, path: Path, values: npt.NDArray[Any]) -> str:
        """Write a whole shard, cut by the array's end or not. Returns the checksum of its bytes.

        It is in its place only once all of it is on the disk.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as stream:
            checksum = self._encode(stream, values)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(path)
        return checksum

    def holds(self, path: Path, values: npt.NDArray[Any]) -> bool:
        """Whether a shard's file has what was written, as far as a sample tells.

        Its index, the first chunk and every 16th are read back and decoded.
        """
        with path.open("rb") as stream:
            index = self._index(stream)
            if index is None:
                return False
            for number, cut in itertools.islice(self._chunks(values.shape), 0, None, DECODED):
                encoded = _read(stream, index[number])
                if encoded is None:
                    return False
                decoded = np.empty(self.chunk, self.dtype)
                self._compress.decode(encoded, out=decoded)
                if not np.array_equal(_inside(decoded, values[cut]), values[cut]):
                    return False
        return True

    @lru_cache(maxsize=64)  # noqa: B019, codecs are few and live as long as the process
    def blank(self, shape: Index) -> bytes:
        """The bytes of a shard of zeros of this shape."""
        stream = io.BytesIO()
        self._encode(stream, np.zeros(shape, self.dtype))
        return stream.getvalue()

    def _chunks(self, shape: Index) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Number and place of each chunk that lies in an array of this shape, in order."""
        for index in itertools.product(*(range(n) for n in self._grid)):
            start = tuple(i * side for i, side in zip(index, self.chunk, strict=True))
            if all(a < n for a, n in zip(start, shape, strict=True)):
                cut = tuple(slice(a, a + side) for a, side in zip(start, self.chunk, strict=True))
                yield int(np.ravel_multi_index(index, self._grid)), cut

    def _encode(self, stream: BinaryIO, values: npt.NDArray[Any]) -> str:
        at, checksum = 0, xxhash.xxh3_128()
        index = np.full((int(np.prod(self._grid)), 2), ABSENT, "<u8")

        def put(content: bytes) -> int:
            for part in (content, _checksum(content)):
                checksum.update(part)
                stream.write(part)
            return len(content) + CHECKSUM_BYTES

        for number, cut in self._chunks(values.shape):
            size = put(self._compress.encode(self._whole(values[cut])))
            index[number] = at, size
            at += size
        put(index.tobytes())
        return checksum.hexdigest()

    def _whole(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A chunk with all its sides: zeros beyond the array's end."""
        if block.shape == self.chunk:
            return np.ascontiguousarray(block, self.dtype)
        whole = np.zeros(self.chunk, self.dtype)
        _inside(whole, block)[...] = block
        return whole

    def _index(self, stream: BinaryIO) -> npt.NDArray[np.uint64] | None:
        """Where each chunk lies; None where the index is not whole."""
        count = int(np.prod(self._grid))
        size = count * 16 + CHECKSUM_BYTES
        if stream.seek(0, os.SEEK_END) < size:
            return None
        stream.seek(-size, os.SEEK_END)
        table = _unchecked(stream.read(size))
        return None if table is None else np.frombuffer(table, "<u8").reshape(count, 2)


@lru_cache(maxsize=64)
def codec(metadata: bytes) -> Codec:
    """The codec of an array, from its `zarr.json`, which `volumes.create` wrote."""
    said = json.loads(metadata)
    sharding = said["codecs"][0]["configuration"]
    compressor = next(step for step in sharding["codecs"] if step["name"] in ("blosc", "zstd"))
    given = dict(compressor["configuration"])
    if compressor["name"] == "blosc":
        shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[given["shuffle"]]
        given = {"cname": given["cname"], "clevel": given["clevel"], "shuffle": shuffle}
    return Codec(
        shard=tuple(said["chunk_grid"]["configuration"]["chunk_shape"]),
        chunk=tuple(sharding["chunk_shape"]),
        dtype=np.dtype(said["data_type"]).newbyteorder("<"),
        compressor=json.dumps({"id": compressor["name"], **given}),
    )


def _inside(whole: npt.NDArray[Any], part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return whole[tuple(slice(side) for side in part.shape)]


def _read(stream: BinaryIO, place: npt.NDArray[np.uint64]) -> bytes | None:
    """A chunk as it was encoded; None where it is absent, cut or changed."""
    offset, size = map(int, place)
    if ABSENT in (offset, size):
        return None
    stream.seek(offset)
    return _unchecked(stream.read(size))


def _checksum(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(CHECKSUM_BYTES, "little")


def _unchecked(content: bytes) -> bytes | None:
    """What was checked, without its checksum; None where that does not hold."""
    inner = content[:-CHECKSUM_BYTES]
    return inner if _checksum(inner) == content[-CHECKSUM_BYTES:] else None
