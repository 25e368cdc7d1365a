"""Base models that come with Equiscope: what networks know before they see an example."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from pipeline import cards, receipts
from pipeline.topology import Architecture

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(__file__).parent / "base_models"
SHARPEST = "spots_2d"
"""The shipped base that learned from what is hardly wider than the blur."""
LEARNED, CARD = "learned.safetensors", "card.json"


class Card(BaseModel):
    """What a base model is and how it was made.

    Attributes
    ----------
    architecture: the network's topology, as `Architecture` has it.
    object_voxels: what a displacement of 1 stands for, in voxels of the finest axis.
    loss: training loss, one value for each tenth of the training.
    score: average precision on simulated fields that it was not trained on.
    certificate: what was measured on the network it exports to.
    made_from: the settings that make it again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: dict[str, Any]
    object_voxels: float
    loss: tuple[float, ...]
    score: float
    certificate: cards.Certificate
    made_from: dict[str, Any]
    recipe: str


def save(folder: Path, learned: "dict[str, Tensor]", card: Card) -> None:
    """Write a base; the card last."""
    from pipeline import weights  # torch takes seconds, and those who ask for cards need none

    folder.mkdir(parents=True, exist_ok=True)
    weights.write(folder / LEARNED, learned)
    receipts.write(folder / CARD, card.model_dump(mode="json"))


def folder(name: str) -> Path:
    """Where a base lies: one that is shipped, by its name, or a folder.

    Raises ValueError where there is none.
    """
    for place in (SHIPPED / name, Path(name)):
        if (place / CARD).is_file():
            return place
    raise ValueError(
        f"there is no base model {name!r}. These come with Equiscope: {', '.join(names())}."
    )


def names() -> list[str]:
    """The bases that are shipped."""
    return sorted(card.parent.name for card in SHIPPED.glob(f"*/{CARD}"))


def read_card(name: str) -> Card:
    """The card of a base."""
    return Card.model_validate(receipts.read(folder(name) / CARD))


def learned(name: str) -> "dict[str, Tensor]":
    """What a base has learned, for `steerable.restore`."""
    from safetensors.torch import load_file

    return load_file(folder(name) / LEARNED)


def digest(name: str) -> str:
    """What tells one base's weights from another's."""
    return receipts.bytes_digest(folder(name) / LEARNED)


def fitting(wanted: str, architecture: Architecture, object_voxels: float) -> list[str]:
    """The bases that a network like this can start from; `wanted` names one, or is auto or none.

    Where the network halves its axes may differ: the weights are the same.
    Raises ValueError where the one that is wanted does not fit.
    """
    if wanted == "none":
        return []
    asked = cards.describe(architecture)

    def fits(name: str) -> bool:
        card = read_card(name)
        same = ("axes", "group", "channels", "fields")
        levels = len(card.architecture["pooling"]) == len(architecture.pooling)
        equal = all(card.architecture[key] == asked[key] for key in same)
        return levels and equal and card.object_voxels == object_voxels

    if wanted == "auto":
        return [name for name in names() if fits(name)]
    if not fits(wanted):
        has = read_card(wanted).architecture
        raise ValueError(
            f"base: {wanted} is a network {_said(has)}, and the settings ask for one "
            f"{_said(asked)}. Choose base: none, or the settings that the base was made with."
        )
    return [wanted]


def of_points(wanted: str, architecture: Architecture, object_voxels: float) -> list[str]:
    """The same for a network of points, at most one: `auto` is what knows the sharpest things."""
    found = fitting(wanted, architecture, object_voxels)
    return [name for name in found if name == SHARPEST] if wanted == "auto" else found


def _said(architecture: dict[str, Any]) -> str:
    return (
        f"for {architecture['axes']} of group {architecture['group']}, {architecture['fields']} "
        f"fields wide, {len(architecture['pooling'])} levels deep"
    )
