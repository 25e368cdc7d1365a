"""What comes out of files of each format, as docs/formats.md shows it.

`python tests/format_table.py` writes the page; tests/test_format_table.py says whether it differs.
"""

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import samples
import scenes
from samples import SAMPLES, Sample

from pipeline import formats, readers
from pipeline.headers import Header
from pipeline.tiles import Box

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
REMEDY = "python tests/format_table.py"
COLUMNS = (
    "format", "written by", "opened", "axes", "voxel size", "channel names", "exact voxels",
    "read with",
)  # fmt: skip
BY_HAND = (
    ("Nikon ND2", "NIS-Elements", "yes", "yes", "yes", "yes", "as nd2 gives them", "nd2"),
    ("Leica LIF", "LAS X", "yes", "yes", "yes", "none", "as liffile gives them", "liffile"),
)
"""What no free library writes: files of microscopes were opened and compared by hand."""
HEAD = """# Formats

What comes out of a file, format by format. Tests write each file with the library named, with known
voxels, open it as [ingest](how-to.md#use-what-your-microscope-wrote) does, and make this table.

* axes, voxel size: `yes`, the file says them, and they are understood; `asked`, it does not, and a
  sentence names the line to add to `config.yaml`.
* channel names: `none`, the file has none: channels are called `channel_0`, `channel_1`, ...
* exact voxels: all voxels that are read equal those that were written.

"""
TAIL = """
No free library writes ND2 and LIF. Files that microscopes wrote were opened by hand instead: a
movie of stacks in two channels from NIS-Elements, and six images of LAS X, of which three are
wavelength sweeps, whose `axes` are asked. Their voxels were compared with what the library named
gives for the whole image, so an error of that library would not have shown. CZI files that ZEN
wrote, with mosaics, scenes, times and colours, were opened by hand, too: shapes, voxel sizes and
the least and greatest values are those that another reader of CZI gives. Plates that microscopes
of both makers wrote were opened by hand as well.
"""


def page(shown: str) -> str:
    """The whole page; rows of formats whose library is not there stay as they are `shown`."""
    rows = [row(sample) if writable(sample) else as_shown(sample, shown) for sample in SAMPLES]
    rows += [line(cells) for cells in BY_HAND]
    return HEAD + "\n".join([line(COLUMNS), "|---" * len(COLUMNS) + "|", *rows]) + "\n" + TAIL


def line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def writable(sample: Sample) -> bool:
    return importlib.util.find_spec(sample.writer) is not None


def as_shown(sample: Sample, shown: str) -> str:
    """The row of this sample on the page: it must be there, with what is known without a library.

    Raises ValueError where it is not.
    """
    start, end = line((sample.kind, sample.wrote))[:-1], f" {sample.reader} |"
    for one in shown.splitlines():
        if one.startswith(start) and one.endswith(end) and one.count("|") == len(COLUMNS) + 1:
            return one
    raise ValueError(f"{PAGE.name} has no row of {sample.kind}: install {sample.writer}, {REMEDY}")


def row(sample: Sample) -> str:
    """What comes out of a sample."""
    with tempfile.TemporaryDirectory() as folder:
        written = sample.write(Path(folder))
        form = formats.of(written.path)
        series = formats.chosen("", written.path, form.series(written.path), written.series)
        said = form.header(written.path, series)
        given = {"series": series}
        if "?" in said.axes:
            given["axes"] = written.axes
        if not said.voxel_size_um:
            given["voxel_size_um"] = samples.VOXEL
        source = readers.source("sample", scenes.acquisition(written.path, **given))
        whole = source.read(Box((0,) * len(source.axes), source.shape))
    return line(
        (
            sample.kind,
            sample.wrote,
            "yes",
            "asked" if "?" in said.axes else word(said.axes == written.axes),
            sizes(said, written),
            word(said.channels == sample.channels) if sample.channels else "none",
            word(same(whole, source.axes, written)),
            sample.reader,
        )
    )


def word(right: bool) -> str:
    return "yes" if right else "no"


def sizes(said: Header, written: samples.Written) -> str:
    if not said.voxel_size_um:
        return "asked"
    space, true = [axis for axis in written.axes if axis in "zyx"], written.voxel_size_um
    return word(all(np.isclose(said.voxel_size_um.get(axis, 0), true[axis]) for axis in space))


def same(whole: np.ndarray, axes: str, written: samples.Written) -> bool:
    """Whether an image with axes in canonical order has the voxels that were written."""
    order = [written.axes.index(axis) for axis in axes if axis in written.axes]
    expected = written.array.transpose(order)
    return whole.dtype == expected.dtype and np.array_equal(whole.reshape(expected.shape), expected)


def main() -> None:
    PAGE.write_text(page(PAGE.read_text("utf-8") if PAGE.exists() else ""), "utf-8")


if __name__ == "__main__":
    main()
