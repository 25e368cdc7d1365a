"""Which formats can be read, and which of them a path has."""

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline import formats_arrays, formats_bioio, formats_cv8000, formats_imagexpress, formats_n5
from pipeline.config import is_pattern
from pipeline.formats_arrays import HDF5, MRC, ZARR
from pipeline.formats_bioio import BIOIO
from pipeline.formats_cv8000 import CV8000
from pipeline.formats_czi import CZI
from pipeline.formats_imagexpress import IMAGEXPRESS
from pipeline.formats_n5 import N5
from pipeline.formats_planes import PLANES
from pipeline.formats_tiff import TIFF
from pipeline.formats_vendors import LIF, ND2
from pipeline.headers import Format, Header, Voxels
from pipeline.sentences import listed

ONLY = "only"
"""The setting that takes the one image of a file."""
PLATES = (IMAGEXPRESS, CV8000)
ALL = {
    form.name: form for form in (TIFF, PLANES, ZARR, HDF5, MRC, N5, ND2, LIF, CZI, *PLATES, BIOIO)
}
NAMED = 12
"""Images of a file that a sentence lists at most."""


def of(path: Path) -> Format:
    """The format of a file, a folder or a pattern.

    Raises ValueError where none can read it, or what reads it is not installed.
    """
    found = _folder(path) if is_pattern(path) or path.is_dir() else _file(path)
    if importlib.util.find_spec(found.package) is None:
        raise ValueError(
            f"{path}: {found.name} is read by {found.package}, which is not installed. Install it: "
            f"pip install '.[{found.extra}]'"
        )
    return found


def _folder(path: Path) -> Format:
    if is_pattern(path):
        return PLANES
    if formats_n5.is_n5(path):
        return N5
    if formats_arrays.is_zarr(path):
        return ZARR
    if formats_cv8000.is_plate(path):
        return CV8000
    return IMAGEXPRESS if formats_imagexpress.is_plate(path) else PLANES


def _file(path: Path) -> Format:
    name = path.name.lower()
    found = next((form for form in ALL.values() if name.endswith(form.endings)), None)
    if found is not None:
        return found
    if formats_bioio.reads(path):
        return BIOIO
    endings = sorted({ending for form in ALL.values() for ending in form.endings})
    raise ValueError(
        f"{path}: files of this kind cannot be read. What can: {', '.join(endings)}, folders of "
        "TIFF or PNG planes, OME-Zarr, N5. Convert it to one of these, best to OME-TIFF; or "
        f"install what may read it: pip install '.[{BIOIO.extra}]' and bioio's plugin for "
        f"{path.suffix or 'its format'}."
    )


def is_plate(path: Path) -> bool:
    """Whether the images of a path are the fields of a plate, called ROW/COLUMN/FIELD."""
    form = of(path)
    return form in PLATES or (form is ZARR and formats_arrays.is_plate(path))


def chosen(where: str, path: Path, names: Sequence[str], setting: str) -> str:
    """The name of the image to read.

    Raises ValueError where a file holds several and none is named, or not the one that is.
    """
    if setting == ONLY and len(names) == 1:
        return names[0]
    if setting in names:
        return setting
    held = listed(names, NAMED)
    if setting == ONLY:
        raise ValueError(
            f"{where}.series: {path} holds {len(names)} images: {held}. Add the line "
            f"`series: {names[0]}`, or that of another."
        )
    raise ValueError(f"{where}.series is {setting!r}, but {path} holds {held}. Name one of these.")


def header(path: Path, series: str) -> Header:
    """What a file says of one of its images."""
    return of(path).header(path, series)


def voxels(form: str, path: Path, series: str) -> AbstractContextManager[Voxels]:
    """One image of a file in the format of this name."""
    return ALL[form].voxels(path, series)
