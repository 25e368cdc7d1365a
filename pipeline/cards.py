"""Cards of model bundles: what a model is, without its weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipeline import receipts
from pipeline.topology import Architecture

WEIGHTS, CARD = "weights.safetensors", "card.json"


class Certificate(BaseModel):
    """What was measured on the exported network, as relative errors.

    Attributes
    ----------
    equivariance: largest over the group's elements that map the lattice to itself.
    equivariance_double: the same in double precision, where rounding hides nothing.
    between_lattice_turns: for a turn by 45 degrees of a smooth image. The lattice of voxels keeps
        quarter turns alone, so every network is off here; "c8" and "d8" are built to be less so.
    export: of the exported network against the one that was trained.
    beyond_receptive_field: largest change of an output when all voxels outside its receptive
        field change; zero is what lets tiles equal the whole.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    equivariance: float
    export: float
    beyond_receptive_field: float
    equivariance_double: float
    between_lattice_turns: float


class Gate(BaseModel):
    """Whether learning helped, asked about objects that were held out.

    Scores are average precisions TP / (TP + FP + FN), means over overlaps from 0.5 to 0.9.

    Attributes
    ----------
    promoted: whether the fine-tuned network became the model.
    reason: why, in a sentence.
    base, tuned, control: scores of what it started from, of what it became having learned from
        the rest, and of a plain network that learned from the same.
    learning_curve: how many objects were learned from, and the score that they gave.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    promoted: bool
    reason: str
    objects_held_out: int = 0
    base: float | None = None
    tuned: float | None = None
    control: float | None = None
    learning_curve: tuple[tuple[int, float], ...] = ()


class Detector(BaseModel):
    """What a detector's votes mean. Distances are in voxels at which it works.

    Attributes
    ----------
    reach, catch, apart: how far votes go and gather; see `gathering.Gathering`.
    threshold, correction, least: what is an object; see `points.Trial`.
    profile: the light of its object from the middle outwards; see `templates.Template`.
    f1: of copies of the crops in scenes that it had not learned from.
    attempts: trainings until one found them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    reach: int
    catch: float
    apart: int
    threshold: float
    correction: tuple[float, float]
    least: float
    profile: tuple[float, ...]
    f1: float
    attempts: int


class Card(BaseModel):
    """What a model is, what it was made from and what was measured on it.

    Attributes
    ----------
    architecture: the network's topology, as `Architecture` has it.
    diameter_um: typical diameter of the objects in the shots.
    voxel_size_um: at which the network works, along its spatial axes.
    unit_voxels: what a displacement of 1 in its output stands for, along its spatial axes.
    channel: name of the image channel that it looks at, and its `optics` where they are known.
    receptive_field: radius in voxels along its spatial axes.
    reach: voxels along its spatial axes that a vote goes at most.
    base: the base model that it started from; None where that was nothing.
    origin: where its weights are from.
    shots: annotated regions that it learned from, with `objects` in all.
    loss: training loss, one value for each tenth of the training.
    detector: of a model that finds points; None of one that finds outlines.
    hops: how often its pointers are followed, as `distances.Geometry` has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    architecture: dict[str, Any]
    diameter_um: float
    voxel_size_um: tuple[float, ...]
    unit_voxels: tuple[float, ...]
    channel: str
    optics: dict[str, Any] | None
    receptive_field: tuple[int, ...]
    reach: tuple[int, ...]
    base: str | None
    origin: Literal["base", "fine-tuned", "from nothing"]
    gate: Gate
    shots: int
    objects: int
    loss: tuple[float, ...]
    certificate: Certificate
    recipe: str
    detector: Detector | None = None
    hops: int = 0

    @property
    def diameter_voxels(self) -> tuple[float, ...]:
        """Typical diameter in voxels at which the network works."""
        return tuple(self.diameter_um / size for size in self.voxel_size_um)

    @property
    def network(self) -> Architecture:
        """The network's topology as a value."""
        pooling = tuple(tuple(factors) for factors in self.architecture["pooling"])
        return Architecture(**self.architecture | {"pooling": pooling})


def read(folder: Path) -> Card:
    """The card of a bundle.

    Raises ValueError where there is none.
    """
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder} holds no model: run finetune first.")
    return Card.model_validate(receipts.read(folder / CARD))


def facts(folder: Path, name: str) -> dict[str, Any]:
    """What a receipt says of the bundle in a folder, whose name is, or was, `name`."""
    card = read(folder)
    return {
        "model": name,
        "weights": receipts.bytes_digest(folder / WEIGHTS),
        "objects": card.objects,
        "origin": card.origin,
        "gate": card.gate.model_dump(mode="json"),
    }


def describe(architecture: Architecture) -> dict[str, Any]:
    """The architecture as a card holds it."""
    return asdict(architecture)
