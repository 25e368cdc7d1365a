"""Scores of labels against a reference, and what many draws say about a method."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.metrics import match

Labels = npt.NDArray[np.integer]
Values = npt.NDArray[np.float64]
"""A score of each run on one domain: `(draws, seeds)`."""
Statistic = Callable[[Values], Values]
"""Reduces the last axis."""

RESAMPLES, COVERED = 2000, 0.95
"""Of the bootstrap: how often it draws the draws again, and what its intervals cover."""
AP50, F1, AP75, COUNT = "AP50", "F1", "AP75", "relative count error"


def metrics(smallest: int) -> tuple[str, ...]:
    """The scores that `scores` gives, in the order in which they are told."""
    without_small = (f"AP50 from {smallest} voxels",) if smallest else ()
    return (AP50, F1, AP75, COUNT, *without_small)


def scores(predicted: Labels, reference: Labels, smallest: int) -> dict[str, float]:
    """The scores of one image.

    AP is TP / (TP + FP + FN), at an overlap of 0.5 and 0.75, as Cellpose defines it; F1 is at
    0.5. With `smallest`, a second AP50 without objects of fewer voxels, in labels and reference.
    """
    loose, tight = (match(predicted, reference, overlap) for overlap in (0.5, 0.75))
    wanted = loose.matched + loose.missed
    found = [
        loose.average_precision,
        loose.f1,
        tight.average_precision,
        abs(loose.matched + loose.false - wanted) / max(wanted, 1),
    ]
    if smallest:
        predicted, reference = (without_small(one, smallest) for one in (predicted, reference))
        found.append(match(predicted, reference, 0.5).average_precision)
    return dict(zip(metrics(smallest), found, strict=True))


def without_small(labels: Labels, smallest: int) -> Labels:
    """The labels without objects of fewer than `smallest` voxels."""
    _, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where(sizes[which].reshape(labels.shape) >= smallest, labels, 0)


def mean_of(images: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each score's mean over images."""
    return {name: float(np.mean([one[name] for one in images])) for name in images[0]}


def mean(runs: Values) -> Values:
    """The mean over runs."""
    return np.asarray(runs.mean(axis=-1))


def tenth(runs: Values) -> Values:
    """The 10th percentile over runs: what the unlucky get."""
    return np.asarray(np.quantile(runs, 0.1, axis=-1))


def over_domains(domains: Sequence[Values], statistic: Statistic) -> float:
    """The mean over domains of a statistic over each one's runs."""
    return float(np.mean([statistic(values.reshape(-1)) for values in domains]))


def interval(domains: Sequence[Values], statistic: Statistic) -> tuple[float, float] | None:
    """Where `over_domains` lies in 95 % of bootstrap resamples of the draws in each domain.

    Seeds stay with their draw. None where no domain has two draws. Of differences between two
    methods on the same draws it is the paired interval.
    """
    if all(len(values) < 2 for values in domains):
        return None
    generator = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    for values in domains:
        picked = values[generator.integers(len(values), size=(RESAMPLES, len(values)))]
        total += statistic(picked.reshape(RESAMPLES, -1))
    ends = np.quantile(total / len(domains), [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return float(ends[0]), float(ends[1])
