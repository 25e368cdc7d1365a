"""How the detection benchmark measured, in sentences that stand beside its figures."""

import argparse
from collections.abc import Sequence

from benchmarks import placed
from benchmarks.peers import spotting
from benchmarks.peers.spotting import Lodestar


def told(
    options: argparse.Namespace, base: str, trackpy: str | None, steps: Sequence[tuple[int, int]]
) -> tuple[str, ...]:
    """Every sentence; `steps` are those that LodeSTAR took each time, and its whole recipe's."""
    images = f"at most {options.tests} images of each kind" if options.tests else "all test images"
    return (
        (
            f"{options.crops} crops of each kind, with {options.seeds} trainings each, of "
            f"{options.steps} steps from the base {base}, the same settings for all; measured on "
            f"{images}, none of which was learned from. A crop is of an object drawn from the "
            "clearer half of those that stand free; where it is refused, of the next; 'hopeless' "
            "is a training for which all were. The images that crops are of are also seen without "
            "their annotations: as grounds of scenes, and to decide how bright an object must be. "
            "Spots are learned from on the left third of their image."
        ),
        (
            "Objects wider than 11 voxels are looked at on a coarser level, by all methods. Found "
            f"is what lies within {placed.SPOT_RADIUS:g} voxels of a spot, half a diameter of "
            "others' middle. Of smears the green channel is seen."
        ),
        (
            "'best threshold' is chosen on the test annotations themselves, for each kind: what no "
            "user can have. LodeSTAR's score is weight and agreement of the votes to exponents "
            "that sum to 1, of our networks' votes. Laplacian of Gaussian: maxima over three "
            "widths. Both it and trackpy are told diameter and polarity. Spotiflow was "
            "not run: its weights come from a hub, not with the package."
        ),
        f"trackpy {trackpy}." if trackpy else "trackpy: not measured, it is not installed.",
        _lodestar(options, steps),
    )


def _lodestar(options: argparse.Namespace, steps: Sequence[tuple[int, int]]) -> str:
    if not steps:
        return "deeplay's LodeSTAR: not measured."
    version = Lodestar(options.lodestar, 0.0).version
    took, full = [one for one, _ in steps], steps[0][1]
    return (
        f"LodeSTAR is deeplay's {version}, with the settings of its authors' example, on the same "
        f"crops, cut short after {options.lodestar_seconds:g} s of one core: {min(took)} to "
        f"{max(took)} of {full} steps. Its exponent and quantile are the best on the test "
        f"annotations of {len(spotting.EXPONENTS)} and {len(spotting.QUANTILES)}."
    )
