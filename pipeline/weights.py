"""Model bundles: weights as safetensors beside a card that says what the model is.

Loading runs no pickled code and needs no escnn.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from pipeline import cards, receipts
from pipeline.cards import CARD, WEIGHTS, Card
from pipeline.network import UNet, plain


def save(folder: Path, network: UNet, card: Card) -> None:
    """Write a bundle; the card last."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / WEIGHTS, network.state_dict())
    receipts.write(folder / CARD, card.model_dump(mode="json"))


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device as safetensors."""
    path.write_bytes(
        to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    )


def load(folder: Path) -> tuple[UNet, Card]:
    """The network that predicts, and its card."""
    card = cards.read(folder)
    network = plain(card.network)
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval(), card
