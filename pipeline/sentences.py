"""Sentences: lists of things as people write them."""

from collections.abc import Sequence


def listed(things: Sequence[object], most: int) -> str:
    """Things as a sentence has them: `most` of them, and how many more there are."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return f"{', '.join(map(str, things[:most]))}{more}"
