"""Model bundles: weights as safetensors beside a card that says what the model is.

Loading runs no pickled code and needs no escnn.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from pipeline import receipts
from pipeline.network import Architecture, UNet, plain

WEIGHTS, CARD = "weights.safetensors", "card.json"


class Certificate(BaseModel):
    """What was measured on the exported network, as relative errors.

    Attributes
    ----------
    equivariance: largest over the group's elements that map the lattice to itself.
    export: of the exported network against the one that was trained.
    beyond_receptive_field: largest change of an output when all voxels outside its receptive
        field change; zero is what lets tiles equal the whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    equivariance: float
    export: float
    beyond_receptive_field: float


class Card(BaseModel):
    """What a model is, what it was made from and what was measured on it.

    Attributes
    ----------
    architecture: the network's topology, as `Architecture` has it.
    diameter_um: typical diameter of the objects in the shots.
    voxel_size_um: at which the network works, along its spatial axes.
    channel: name of the image channel that it looks at.
    receptive_field: radius in voxels along its spatial axes.
    loss: training loss, one value for each tenth of the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: dict[str, Any]
    diameter_um: float
    voxel_size_um: tuple[float, ...]
    channel: str
    receptive_field: tuple[int, ...]
    shots: int
    objects: int
    loss: tuple[float, ...]
    certificate: Certificate
    recipe: str

    @property
    def diameter_voxels(self) -> tuple[float, ...]:
        """Typical diameter in voxels at which the network works."""
        return tuple(self.diameter_um / size for size in self.voxel_size_um)


def save(folder: Path, network: UNet, card: Card) -> None:
    """Write a bundle; the card last."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(to_bytes(state))
    receipts.write(folder / CARD, card.model_dump(mode="json"))


def read_card(folder: Path) -> Card:
    """The card of a bundle.

    Raises ValueError where there is none.
    """
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder} holds no model: run finetune first.")
    return Card.model_validate(receipts.read(folder / CARD))


def load(folder: Path) -> tuple[UNet, Card]:
    """The network that predicts, and its card."""
    card = read_card(folder)
    said = dict(card.architecture)
    said["pooling"] = tuple(tuple(factors) for factors in said["pooling"])
    network = plain(Architecture(**said))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval(), card


def describe(architecture: Architecture) -> dict[str, Any]:
    """The architecture as a card holds it."""
    return asdict(architecture)
