"""Files of all formats, each written by that format's own library, all with the same image."""

import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import imageio.v3
import numpy as np
import ome_zarr.format
import ome_zarr.writer
import plates
import tifffile
import zarr

SHAPE = {"t": 2, "c": 2, "z": 3, "y": 23, "x": 31}
CHANNELS = ("DNA", "actin")
VOXEL = {"z": 1.0, "y": 0.5, "x": 0.25}
STEP_S = 30.0


def image(axes: str, dtype: str = "uint16") -> np.ndarray:
    """Noise with these axes: no two voxels of a line are likely to be equal."""
    high = min(4000, np.iinfo(dtype).max)
    shape = [SHAPE[axis] for axis in axes]
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


@dataclass(frozen=True)
class Written:
    """A file, the image that was put into it, and the order of that image's axes."""

    path: Path
    axes: str
    array: np.ndarray
    series: str = "only"
    voxel_size_um: Mapping[str, float] = field(default_factory=lambda: VOXEL)


@dataclass(frozen=True)
class Sample:
    """One row of the table of formats.

    `writer` and `reader` are modules that have to be there; `wrote` is what readers of the table
    are told about the writer.
    """

    kind: str
    wrote: str
    reader: str
    write: Callable[[Path], Written]
    writer: str = "numpy"
    channels: tuple[str, ...] = field(default=())


def plain_tiff(folder: Path, **given: Any) -> Written:
    array = image("zyx")
    tifffile.imwrite(folder / "a.tif", array, photometric="minisblack", **given)
    return Written(folder / "a.tif", "zyx", array)


def compressed_tiff(folder: Path) -> Written:
    return plain_tiff(folder, compression="zlib", predictor=True, tile=(16, 16), bigtiff=True)


def big_endian_tiff(folder: Path) -> Written:
    return plain_tiff(folder, byteorder=">")


def packed_tiff(folder: Path) -> Written:
    """Three bytes hold two pixels of 12 bits, as cameras send them."""
    array = image("yx")[:, :30]
    packed = imagecodecs.packints_encode(array, 12)
    tifffile.imwrite(
        folder / "a.tif",
        iter([packed]),
        shape=array.shape,
        dtype=array.dtype,
        bitspersample=12,
        photometric="minisblack",
        rowsperstrip=array.shape[0],
    )
    return Written(folder / "a.tif", "yx", array)


OME = {
    "Channel": {"Name": list(CHANNELS)},
    "PhysicalSizeX": 250.0,
    "PhysicalSizeXUnit": "nm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeZ": 1.0,
    "TimeIncrement": STEP_S,
}


def ome_tiff(folder: Path) -> Written:
    array = image("tczyx")
    metadata = OME | {"axes": "TCZYX"}
    tifffile.imwrite(folder / "a.ome.tif", array, photometric="minisblack", metadata=metadata)
    return Written(folder / "a.ome.tif", "tczyx", array)


def ome_tiff_series(folder: Path) -> Written:
    array = image("tczyx")
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as file:
        file.write(array[0, 0, :, :9], metadata={"axes": "ZYX", "Name": "overview"})
        file.write(array, photometric="minisblack", metadata=OME | {"axes": "TCZYX", "Name": "b"})
    return Written(folder / "a.ome.tif", "tczyx", array, "b")


def ome_tiff_pyramid(folder: Path) -> Written:
    array = np.kron(image("cyx"), np.ones((1, 4, 4), np.uint16))
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as file:
        told: dict[str, Any] = {"photometric": "minisblack", "tile": (32, 32)}
        file.write(array, subifds=1, metadata=OME | {"axes": "CYX"}, **told)
        file.write(array[:, ::2, ::2], subfiletype=1, **told)
    return Written(folder / "a.ome.tif", "cyx", array)


def ome_tiff_files(folder: Path) -> Written:
    """One file for each frame; every file's XML tells of all of them."""
    array = image("tczyx")
    names = [f"a_t{frame}.ome.tif" for frame in range(len(array))]
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{frame}" for frame in range(len(array))]
    channels = "".join(f'<Channel ID="Channel:0:{i}" Name="{n}"/>' for i, n in enumerate(CHANNELS))
    planes = "".join(
        f'<TiffData FirstT="{frame}" FirstC="{c}" FirstZ="{z}" IFD="{3 * c + z}" PlaneCount="1">'
        f'<UUID FileName="{names[frame]}">{ids[frame]}</UUID></TiffData>'
        for frame, c, z in itertools.product(range(2), range(2), range(3))
    )
    sizes = " ".join(f'Size{axis.upper()}="{side}"' for axis, side in SHAPE.items())
    for name, own, frame in zip(names, ids, array, strict=True):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
            f'<Image ID="Image:0" Name="a"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" {sizes} '
            'Type="uint16" PhysicalSizeX="0.25" PhysicalSizeY="0.5" PhysicalSizeZ="1" '
            f'TimeIncrement="{STEP_S}">{channels}{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / name, frame, photometric="minisblack", metadata=None, description=xml
        )
    return Written(folder / names[0], "tczyx", array)


def imagej(folder: Path) -> Written:
    array = image("tzcyx")
    tifffile.imwrite(
        folder / "a.tif",
        array,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 1.0, "finterval": STEP_S},
    )
    return Written(folder / "a.tif", "tzcyx", array)


def planes_of_tiff(folder: Path) -> Written:
    array = image("tczyx")
    for t, c, z in itertools.product(*map(range, array.shape[:3])):
        tifffile.imwrite(folder / f"a_t{t:02d}_w{c + 1}_z{z:03d}.tif", array[t, c, z])
    return Written(folder / "a_t{t:02d}_w{c}_z{z:03d}.tif", "tczyx", array)


def planes_of_png(folder: Path) -> Written:
    array = image("zyx")
    for z, plane in enumerate(array):
        (folder / f"{z}.png").write_bytes(imagecodecs.png_encode(plane))
    return Written(folder, "zyx", array)


def png(folder: Path) -> Written:
    array = image("yx")
    (folder / "a.png").write_bytes(imagecodecs.png_encode(array))
    return Written(folder / "a.png", "yx", array)


def hdf5(folder: Path) -> Written:
    array = image("czyx")
    with h5py.File(folder / "a.h5", "w") as file:
        data = file.create_dataset("raw", data=array, chunks=(1, 2, 8, 8), compression="gzip")
        data.attrs["element_size_um"] = [VOXEL[axis] for axis in "zyx"]
        for dimension, axis in zip(data.dims, "czyx", strict=True):
            dimension.label = axis
    return Written(folder / "a.h5", "czyx", array)


def plain_zarr(folder: Path) -> Written:
    array = image("tczyx")
    names: Sequence[str] = list("tczyx")
    made = zarr.create_array(
        folder / "a.zarr", shape=array.shape, dtype=array.dtype, dimension_names=names
    )
    made[:] = array
    return Written(folder / "a.zarr", "tczyx", array)


def ome_zarr_of(version: ome_zarr.format.Format, folder: Path) -> Written:
    array = image("tczyx")
    units = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    kinds = {"t": "time", "c": "channel"}
    axes = [
        {"name": axis, "type": kinds.get(axis, "space")}
        | ({"unit": units[axis]} if axis in units else {})
        for axis in "tczyx"
    ]
    scale = [{"type": "scale", "scale": [STEP_S, 1.0, *VOXEL.values()]}]
    ome_zarr.writer.write_multiscale(
        [array],
        str(folder / "a.ome.zarr"),
        fmt=version,
        axes=axes,
        coordinate_transformations=[scale],
        metadata={"omero": {"channels": [{"label": n, "color": "00FF00"} for n in CHANNELS]}},
    )
    return Written(folder / "a.ome.zarr", "tczyx", array)


def ome_zarr_0_4(folder: Path) -> Written:
    return ome_zarr_of(ome_zarr.format.FormatV04(), folder)


def ome_zarr_0_5(folder: Path) -> Written:
    return ome_zarr_of(ome_zarr.format.FormatV05(), folder)


def n5(folder: Path) -> Written:
    tensorstore = importlib.import_module("tensorstore")
    array = image("czyx")
    told = {
        "dimensions": list(array.shape[::-1]),
        "blockSize": [8, 8, 2, 1],
        "dataType": "uint16",
        "compression": {"type": "gzip"},
        "axes": ["x", "y", "z", "c"],
        "resolution": [0.25, 0.5, 1.0, 1.0],
        "units": ["um", "um", "um", ""],
    }
    kvstore = {"driver": "file", "path": str(folder / "a.n5" / "raw" / "s0")}
    spec = {"driver": "n5", "kvstore": kvstore, "metadata": told}
    tensorstore.open(spec, create=True).result().write(array.T).result()
    (folder / "a.n5" / "attributes.json").write_text('{"n5": "2.5.1"}')
    return Written(folder / "a.n5", "czyx", array)


def mrc(folder: Path) -> Written:
    array = image("zyx")
    with importlib.import_module("mrcfile").new(folder / "a.mrc") as file:
        file.set_data(array)
        file.set_volume()
        file.voxel_size = tuple(VOXEL[axis] * 1e4 for axis in "xyz")
    return Written(folder / "a.mrc", "zyx", array)


def czi(folder: Path) -> Written:
    library = importlib.import_module("pylibCZIrw.czi")
    array = image("tczyx")
    with library.create_czi(str(folder / "a.czi")) as file:
        for t, c, z in itertools.product(*map(range, array.shape[:3])):
            file.write(array[t, c, z][..., np.newaxis], plane={"T": t, "C": c, "Z": z})
        scale = {f"scale_{axis}": VOXEL[axis] * 1e-6 for axis in "xyz"}
        file.write_metadata("a", channel_names=dict(enumerate(CHANNELS)), **scale)
    return Written(folder / "a.czi", "tczyx", array)


def bitmap(folder: Path) -> Written:
    array = image("yx", "uint8")
    imageio.v3.imwrite(folder / "a.bmp", array)
    return Written(folder / "a.bmp", "yx", array)


def imagexpress(folder: Path) -> Written:
    return _field(plates.exported(folder / "plate", plates.fields()), plates.PIXEL_UM)


def cellvoyager(folder: Path) -> Written:
    return _field(plates.cellvoyager(folder / "plate", plates.fields()), plates.CAMERA_PIXEL_UM)


def _field(path: Path, pixel_um: float) -> Written:
    """One field of a plate."""
    name, voxel = plates.NAMES[1], {"z": plates.Z_STEP_UM, "y": pixel_um, "x": pixel_um}
    return Written(path, "tczyx", plates.fields()[name], name, voxel)


SAMPLES = (
    Sample("TIFF", "tifffile", "tifffile", plain_tiff),
    Sample("BigTIFF, compressed, tiled", "tifffile", "tifffile", compressed_tiff),
    Sample("TIFF, big-endian", "tifffile", "tifffile", big_endian_tiff),
    Sample("TIFF, 12 bits packed", "imagecodecs, tifffile", "tifffile", packed_tiff),
    Sample("OME-TIFF", "tifffile", "tifffile", ome_tiff, channels=CHANNELS),
    Sample("OME-TIFF, several series", "tifffile", "tifffile", ome_tiff_series, channels=CHANNELS),
    Sample("OME-TIFF, pyramid", "tifffile", "tifffile", ome_tiff_pyramid, channels=CHANNELS),
    Sample("OME-TIFF, several files", "tifffile", "tifffile", ome_tiff_files, channels=CHANNELS),
    Sample("ImageJ hyperstack", "tifffile", "tifffile", imagej),
    Sample("TIFF planes, by a pattern", "tifffile", "tifffile", planes_of_tiff),
    Sample("PNG planes, a folder", "imagecodecs", "imagecodecs", planes_of_png),
    Sample("PNG", "imagecodecs", "imagecodecs", png),
    Sample("HDF5", "h5py", "h5py", hdf5),
    Sample("Zarr", "zarr", "zarr", plain_zarr),
    Sample("OME-Zarr 0.4", "ome-zarr", "zarr", ome_zarr_0_4, channels=CHANNELS),
    Sample("OME-Zarr 0.5", "ome-zarr", "zarr", ome_zarr_0_5, channels=CHANNELS),
    Sample("N5", "tensorstore", "tensorstore", n5, "tensorstore"),
    Sample("MRC", "mrcfile", "mrcfile", mrc, "mrcfile"),
    Sample("Zeiss CZI", "pylibCZIrw", "pylibCZIrw", czi, "pylibCZIrw", CHANNELS),
    Sample(
        "plate of ImageXpress", "tifffile, in the maker's layout", "tifffile", imagexpress,
        channels=plates.CHANNELS[:2],
    ),
    Sample(
        "plate of CellVoyager", "tifffile, in the maker's layout", "tifffile", cellvoyager,
        channels=plates.FILTERS[:2],
    ),
    Sample("BMP", "imageio", "bioio, bioio-imageio", bitmap, "bioio_imageio"),
)  # fmt: skip
