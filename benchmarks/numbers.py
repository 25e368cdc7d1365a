"""Copies figures of committed measurements into the pages that show them, between their markers.

`python -m benchmarks.numbers` writes them; with `--check` it only says whether they differ.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measurement
from benchmarks.measurement import Measurement

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "benchmarks" / "figures"
PAGES = (ROOT / "README.md", ROOT / "docs" / "measurements.md")
BLOCK = re.compile(r"(<!-- figures: (?P<name>\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def filled(text: str, folder: Path) -> str:
    """The text with each marked block replaced by the figures of `folder/NAME.json`.

    Raises ValueError where a block names a measurement that is not there.
    """

    def block(found: re.Match[str]) -> str:
        path = folder / f"{found['name']}.json"
        if not path.is_file():
            raise ValueError(
                f"a page asks for the figures of {found['name']!r}, and there is no {path}: "
                f"python -m benchmarks {found['name']} --out {path}"
            )
        return f"{found[1]}{markdown(measurement.read(path))}{found[3]}"

    return BLOCK.sub(block, text)


def markdown(measured: Measurement) -> str:
    """Figures as a table, then what they were measured on and how."""
    lines = ["| figure | mean | lowest to highest | target |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in measurement.rows(measured)]
    here = measured.environment
    machine = f"Measured on {here['cores']} cores ({here['processor']}), {here['system']}, "
    versions = ", ".join(f"{name} {here[name]}" for name in measurement.PACKAGES)
    told = " ".join(measured.protocol)
    return "\n".join([*lines, "", f"{told} {machine}Python {here['python']}, {versions}.", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, or check. Exit code 1: they differ, or a measurement is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.numbers",
        description="Copy figures of committed measurements into README.md and docs.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if they differ")
    options = parser.parse_args(arguments)
    for page in PAGES:
        text = page.read_text("utf-8")
        try:
            wanted = filled(text, FIGURES)
        except ValueError as fault:
            print(fault)
            return 1
        if options.check and wanted != text:
            print(f"{page.name} differs from benchmarks/figures: python -m benchmarks.numbers")
            return 1
        if not options.check:
            page.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
