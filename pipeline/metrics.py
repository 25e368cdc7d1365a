"""How well predicted objects agree with a reference."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Score:
    """Matched, false and missed objects at one threshold of intersection over union."""

    matched: int
    false: int
    missed: int

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where there is nothing to find and nothing was found."""
        total = 2 * self.matched + self.false + self.missed
        return 2 * self.matched / total if total else 1.0

    @property
    def average_precision(self) -> float:
        """TP / (TP + FP + FN), as Cellpose defines it."""
        total = self.matched + self.false + self.missed
        return self.matched / total if total else 1.0


def match(predicted: Labels, reference: Labels, threshold: float) -> Score:
    """Match objects one to one so that most pairs reach `threshold` in intersection over union."""
    _, p = np.unique(predicted, return_inverse=True)
    _, r = np.unique(reference, return_inverse=True)
    p = p.reshape(predicted.shape) + (0 if (predicted == 0).any() else 1)
    r = r.reshape(reference.shape) + (0 if (reference == 0).any() else 1)
    found, wanted = int(p.max(initial=0)), int(r.max(initial=0))
    pairs = np.bincount((p * (wanted + 1) + r).ravel(), minlength=(found + 1) * (wanted + 1))
    overlap = pairs.reshape(found + 1, wanted + 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0, keepdims=True) - overlap
    iou = (overlap / np.maximum(union, 1))[1:, 1:]
    # Counting the pairs above the threshold first, the overlap second.
    worth = (iou >= threshold) + iou / (min(found, wanted) + 1)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    matched = int((iou[rows, columns] >= threshold).sum())
    return Score(matched=matched, false=found - matched, missed=wanted - matched)
