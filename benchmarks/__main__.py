"""`python -m benchmarks NAME [--quick] [options] --out FILE.json`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measurement import Measurement, table
from benchmarks.registry import BENCHMARKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark. Exit codes: 0 measured, whatever came of it; 1 it failed; 2 misuse."""
    options = parser().parse_args(arguments)
    try:
        measured: Measurement = options.measure(options)
    except RuntimeError as fault:
        print(f"benchmarks: {fault}", file=sys.stderr)
        return 1
    print("\n".join(["", *measured.protocol, "", table(measured)]))
    if options.out is not None:
        measured.write(options.out)
        print(f"\nWritten to {options.out}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line, with one subcommand for each benchmark."""
    whole = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Equiscope, and say how it was measured."
    )
    names = whole.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    for name, module in BENCHMARKS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        added = names.add_parser(name, help=summary, description=summary)
        added.add_argument("--quick", action="store_true", help="the same on less, in minutes")
        added.add_argument("--out", type=Path, help="JSON file to write the figures to")
        module.add_arguments(added)
        added.set_defaults(measure=module.measure)
    return whole


if __name__ == "__main__":
    raise SystemExit(main())
