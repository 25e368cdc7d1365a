"""How the few-shot benchmark measured, in sentences that stand beside its figures."""

import os
from collections.abc import Iterator, Sequence

from benchmarks.datasets import Set
from benchmarks.draws import CROP_DIAMETERS, LEAST_OBJECTS
from benchmarks.methods import Method
from benchmarks.runs import Result, Run
from benchmarks.scoring import RESAMPLES

SAME = (
    "All methods learn from the same images in the same run: k of a set's shots, drawn at random. "
    "Tests are never learned from, and no threshold, step or seed is chosen by their labels."
)
REGIONS = (
    f"Where shots are regions of an image, a draw takes crops, {CROP_DIAMETERS} typical objects "
    f"wide, that share no voxel and hold {LEAST_OBJECTS} objects or more."
)
IMAGES = (
    "Images are one channel, colours averaged, their quantiles 0.01 and 0.998 brought to 0 and 1; "
    "peers normalise again by quantiles of their own."
)
SCORES = (
    "AP50 and AP75 are TP / (TP + FP + FN) at an overlap of 0.5 and 0.75, F1 is at 0.5, the count "
    "error is relative to the count; each is the mean over the tests of a domain, then over draws "
    "and seeds, then over domains. The 10th percentile is over the draws and seeds of a domain. "
    "An image without objects scores 1 where none is found, else 0."
)
SPREAD = (
    f"Spreads are 95 % intervals from {RESAMPLES} bootstrap resamples of the draws, those of "
    "differences paired; there is none where a domain allows one draw. They say what another "
    "choice of shots would change, not another choice of tests."
)

TIMES = (
    "Times are wall-clock, a peer's with the start of its process, with OMP_NUM_THREADS={threads}, "
    "beside whatever else ran."
)


def told(
    sets: Sequence[Set],
    methods: Sequence[Method],
    results: Sequence[Result],
    left_out: Sequence[str],
    smallest: int,
) -> tuple[str, ...]:
    """Every sentence: what is the same for all methods, each method, and what is left out."""
    cropped = any(domain.cropped for one in sets for domain in one.domains.values())
    excluded = f"Scores from {smallest} voxels on leave out what is smaller, found or wanted."
    return (
        SAME,
        *([REGIONS] if cropped else []),
        *(_told_of(one, results) for one in sets),
        IMAGES,
        SCORES,
        *([excluded] if smallest else []),
        SPREAD,
        *(method.told for method in methods),
        *_steps(methods, results),
        *_images(methods, results),
        *left_out,
        TIMES.format(threads=os.environ.get("OMP_NUM_THREADS", "unset")),
    )


def _told_of(one: Set, results: Sequence[Result]) -> str:
    """How many draws, seeds and tests a set was measured with."""
    mine = [result.run for result in results if result.run.set == one.name]
    tests = sum(len(domain.tests) for domain in one.domains.values())
    each = "; ".join(
        f"k = {k}: {_span([len(_draws(mine, k, domain)) for domain in one.domains])}"
        for k in dict.fromkeys(run.k for run in mine)
    )
    seeds = len({run.seed for run in mine})
    domains = f"{len(one.domains)} domains, " if len(one.domains) > 1 else ""
    return f"{one.name}: {domains}tests: {tests}; draws: {each or 'none'}; seeds: {seeds}."


def _draws(mine: Sequence[Run], k: int, domain: str) -> set[int]:
    return {run.draw for run in mine if (run.k, run.domain) == (k, domain)}


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _steps(methods: Sequence[Method], results: Sequence[Result]) -> Iterator[str]:
    """How much of its own recipe each method went through."""
    for method in methods:
        mine = [result for result in results if result.run.method == method.name]
        short = [result for result in mine if result.steps < result.full_steps]
        if short:
            took = _span([result.steps for result in short])
            full = max(result.full_steps for result in short)
            yield (
                f"{method.name}: time cut {len(short)} of {len(mine)} trainings short, to "
                f"{took} of {full} steps: its figures are those of so short a training."
            )


def _images(methods: Sequence[Method], results: Sequence[Result]) -> Iterator[str]:
    """How many images a method that may have more than the others had."""
    for method in methods:
        if method.times == 1:
            continue
        for where, k in dict.fromkeys((result.run.where, result.run.k) for result in results):
            mine = [
                len(result.run.shots)
                for result in results
                if (result.run.where, result.run.k, result.run.method) == (where, k, method.name)
            ]
            had = f"learned from {_span(mine)} images" if mine else "not measured"
            if not mine or min(mine) < k * method.times:
                yield (
                    f"{method.name} on {where} with {k} shots: {had}, "
                    f"there are not {k * method.times}."
                )
