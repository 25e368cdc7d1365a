"""The gate: whether what was learned from the shots is better than what was known before."""

from collections.abc import Sequence
from dataclasses import dataclass

WORTH_ANNOTATING = 0.03
"""What twice the objects must have brought in average precision for more to be worth the work."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which network becomes the model, and why, in a sentence."""

    promoted: bool
    reason: str


def judge(tuned: float, base: float | None, control: float | None, margin: float) -> Verdict:
    """Decide from scores on objects that none of the networks has seen.

    `tuned` learned from the shots and started from `base`; `control` is a plain network that
    learned from the same. Scores are average precisions; differences below `margin` say nothing.
    Without a base there is nothing to fall back on.
    """
    aside = ""
    if control is not None and control > tuned + margin:
        aside = (
            f" A plain network did better ({control:.2f}): the symmetry does not pay here, or "
            "there are too few objects to tell."
        )
    if base is None:
        return Verdict(True, f"It learned from nothing and scores {tuned:.2f}." + aside)
    scores = f"{tuned:.2f} against {base:.2f} before, on objects held out"
    if tuned >= base + margin:
        return Verdict(True, f"Fine-tuning helped: {scores}." + aside)
    return Verdict(False, f"Fine-tuning did not help ({scores}): the base stays." + aside)


def curve(points: Sequence[tuple[int, float | None] | None]) -> tuple[tuple[int, float], ...]:
    """Objects learned from and the score that they gave, where there is one."""
    known = [point for point in points if point is not None]
    return tuple((objects, score) for objects, score in known if score is not None)


def advice(curve: Sequence[tuple[int, float]]) -> str:
    """Whether more examples would help, from how much the last doubling of objects brought."""
    if len(curve) < 3 or curve[-1][0] <= curve[-2][0]:
        return ""
    (fewer, before), (more, after) = curve[-2:]
    said = f"from {fewer} to {more} objects the score went from {before:.2f} to {after:.2f}."
    if after - before >= WORTH_ANNOTATING:
        return f"Another example is likely to help: {said}"
    return f"Another example of the same kind is unlikely to help: {said}"
