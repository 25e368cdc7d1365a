"""How the localisation benchmark measured, in sentences that stand beside its figures."""

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import appearances, crowds, rivals
from benchmarks.peers.spotting import LodestarModel


def told(
    options: argparse.Namespace,
    base: str,
    versions: Mapping[str, str | None],
    models: Sequence[LodestarModel],
) -> tuple[str, ...]:
    """Every sentence; `versions` are those of peers, None where one is not asked."""
    count = math.ceil(options.objects / appearances.ROWS**2) * appearances.ROWS**2
    return (
        (
            f"{count} objects per condition, {appearances.PITCH} voxels apart, each at a random "
            "place within its voxel and at a random angle, with Poisson noise alone. Spots are "
            f"Gaussian, of standard deviation {appearances.SIGMA:g} voxels, integrated over voxels."
        ),
        (
            f"One crop per shape, background and seed, of {options.crop_photons:g} photons for "
            f"spots and {10 * options.crop_photons:g} for others, serves all numbers of photons. "
            f"Training: {options.steps} steps from the base {base}, the same settings for all; "
            f"each of {options.seeds} seeds has a crop of its own."
        ),
        (
            "The bound is the numeric Cramer-Rao bound of place, brightness and background "
            f"together on {appearances.PITCH} x {appearances.PITCH} voxels, the root mean square "
            f"over {appearances.DRAWS} places and angles. Errors are root mean square over both "
            "axes, of objects found within 3 voxels; how many are not is told where there are any; "
            f"where more than {rivals.MOST_LOST:.0%} are not, errors are those of what is easiest "
            "to find, and no target is judged. A ratio is uncertain by 1.0 % with 2,500 objects."
        ),
        (
            "Maximum likelihood is told the object's exact appearance and angle; it, radial "
            "symmetry and the centroid are told where each object is to half a voxel, and see "
            f"windows of {2 * rivals.WINDOW + 1} voxels (spots) or {2 * rivals.WINDOW + 5}. One "
            "crop is told nothing; 'one crop, refined', for spots, is told optics and camera, as "
            "predict is with predict.refinement. Of a crescent, whose centre is a matter of "
            "definition, the mean offset in its own frame is taken off."
        ),
        *([_crowds()] if "spot" in options.shapes else []),
        *_peers(options, versions, models),
        "Places are relative to the voxel's middle.",
    )


def _crowds() -> str:
    return (
        f"Pairs: {crowds.PAIRS**2} for each separation, of the crop's brightness, at random "
        f"places and angles; a spot is found within {crowds.WITHIN:g} voxels. The Laplacian of "
        "Gaussian is told the spots' width, and has the threshold that suits best."
    )


def _peers(
    options: argparse.Namespace, versions: Mapping[str, str | None], models: Sequence[LodestarModel]
) -> Iterator[str]:
    for absent in [name for name, version in versions.items() if version is None]:
        yield f"Not compared: {absent}."
    if version := versions["trackpy"]:
        yield (
            f"trackpy {version} is told the diameter, {rivals.DIAMETERS['spot']:g} voxels of spots "
            f"and {rivals.OTHER_DIAMETER:g} of others; of all that it may have found, what is "
            "nearest counts. It is not asked for crescents."
        )
    if version := versions["LodeSTAR"]:
        took = [model.steps for model in models]
        yield (
            f"LodeSTAR is deeplay's {version}, with the settings of its authors' example, on the "
            f"crop of the first seed, cut short after {options.lodestar_seconds:g} s of one core: "
            f"{min(took)} to {max(took)} of {models[0].full_steps} steps. Its exponent and "
            "quantile are those of a table that miss and invent least, and its mean offset is "
            "taken off."
        )
