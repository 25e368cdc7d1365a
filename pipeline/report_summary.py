"""What a report found, in a few lines for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import receipts

STEADY = 0.1
"""A gap that changes by less than this share stays as wide as it is."""


def summary(receipt: Path) -> str:
    """What a campaign found and how far to trust it, in a few lines, and where to look.

    Raises ValueError where there is no report, or its page is gone.
    """
    page = receipts.result(receipt, "page")
    lines = []
    for name, result in receipts.read(receipt)["facts"]["results"].items():
        kind = name.partition("/")[0].replace("_", " ")
        lines += [
            f"{name}: {_said_of_counts(result['objects'], result['objects_per_frame'])}",
            *(f"  {line}" for line in _said_of_gaps(result["widest_gap_um"], kind)),
            *(f"  {line}" for line in _said_of_tracks(result["tracks"])),
            *(f"  {line}" for line in _said_of_scores(result["scores"] + result["places"])),
            f"  {_said_of_doubts(len(result['doubts']))}",
        ]
        if result["overlay"]:
            lines.append(f"  outlines over the image: {receipt.parent / result['overlay']}")
    return "\n".join([*lines, f"Look at {page}"])


def _said_of_counts(objects: int, counts: Sequence[int]) -> str:
    """How many objects there are, in all and, of a movie, per frame."""
    if len(counts) == 1:
        return f"{objects:,} objects"
    return (
        f"{objects:,} objects in {len(counts)} frames, {min(counts):,} to {max(counts):,} per "
        f"frame: {counts[0]:,} in the first, {counts[-1]:,} in the last"
    )


def _said_of_gaps(gaps_um: Sequence[float], kind: str) -> Iterator[str]:
    """How the widest stretch along x without an object's centre changes; of a movie alone."""
    if gaps_um:
        first, last = gaps_um[0], gaps_um[-1]
        if abs(last - first) < STEADY * first:
            change = f"stays about {first:.0f} µm wide"
        else:
            verb = "shrinks" if last < first else "grows"
            change = f"{verb} from {first:.0f} µm to {last:.0f} µm"
        yield f"the widest stretch without {kind} {change}"


def _said_of_tracks(tracks: Mapping[str, Any] | None) -> Iterator[str]:
    """How many tracks there are, and how objects diffuse, where that is known."""
    if tracks:
        moved = tracks["diffusion"]
        how = ""
        if moved:
            how = f"; D {moved['coefficient_um2']:.3g} µm² per {moved['per']}^a"
            how += f", a {moved['exponent']:.2f}"
        yield f"{tracks['count']:,} tracks{how}"


def _said_of_scores(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each comparison gave, and with whose labels."""
    if not scores:
        yield "not scored: there are no labels to compare with"
    for score in scores:
        against = f"labels {score['origin']}"
        if score["not_scored"]:
            yield f"not scored against {against}: {score['not_scored']}"
        elif "within_um" in score:
            f1, within = f"{score['f1']:.2f}", f"{score['within_um']:.2g}"
            yield f"F1 {f1} within {within} µm, compared with {against}"
        elif not score["frames"]:
            yield f"not scored against {against}: the model learned from every frame"
        else:
            first = score["total"]["at"][0]
            f1, overlap = f"{first['f1']:.2f}", f"{first['overlap']:g}"
            yield f"F1 {f1} at overlap {overlap}, compared with {against}"


def _said_of_doubts(count: int) -> str:
    """How much there is not to trust, and where it is said."""
    if count == 1:
        return "1 doubt: the page begins with it"
    return f"{count} doubts: the page begins with them" if count else "no doubts"
