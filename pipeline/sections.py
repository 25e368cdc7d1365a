"""The sections of config.yaml: frozen, closed classes. Types and limits live here, values there."""

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Range = tuple[Amount, Amount]
Value = TypeVar("Value")
FROM_FILE = "from file"
"""What a setting says that leaves the answer to the file's own metadata."""
EVERY = "all"
"""The `series` of an acquisition that stands for all images of its file."""


class Section(BaseModel):
    """Unknown keys are errors; nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Planar(Section, Generic[Value]):
    """One value for planar volumes (`yx`) and one for volumes with depth (`zyx`)."""

    yx: Value
    zyx: Value

    def of(self, axes: str) -> Value:
        """The value for these spatial axes."""
        return self.zyx if "z" in axes else self.yx


class Sides(Planar[tuple[int, ...]]):
    """Box sides in voxels, `y, x` and `z, y, x`."""

    yx: tuple[Count, Count]
    zyx: tuple[Count, Count, Count]


class Steps(Planar[int]):
    """Counts for planar volumes and for volumes with depth."""

    yx: Count
    zyx: Count


class VoxelSize(Section):
    """Distance between neighbouring voxels, in um. `z` may be left out in planar images."""

    z: Positive | None = None
    y: Positive
    x: Positive


class Acquisition(Section):
    """One raw data set: where it is and what its file does not say."""

    path: str
    series: str
    axes: Literal["from file"] | Annotated[str, Field(pattern=r"^[tczyx]+$")]
    channels: Literal["from file"] | tuple[str, ...]
    voxel_size_um: Literal["from file"] | VoxelSize
    time_step_s: Literal["from file"] | Positive


class Annotation(Section):
    """A label image (0 is background, every other number one object), or a drawing over one."""

    path: str
    axes: Literal["from file"] | Annotated[str, Field(pattern=r"^[tczyx]+$")]
    channel: Literal["only"] | str
    complete: bool
    diameter_um: Literal["from labels"] | Positive


class Shot(Section):
    """One example. `region` gives `[start, stop]` in voxels or frames per axis.

    Without `labels` it is a crop: what it shows is one object and nothing else.
    """

    acquisition: Name
    labels: Annotation | None = None
    region: dict[Annotated[str, Field(pattern="^[tzyx]$")], tuple[int, int]]


class Reference(Section):
    """Labels to score predictions against. `origin` says who or what made them."""

    acquisition: Name
    labels: Annotation
    origin: str


class Optics(Section):
    """The microscope that a channel was recorded with; see `optics.Optics`.

    Only modalities with a forward model are listed; of all others the optics are unknown.
    """

    modality: Literal["widefield", "confocal", "lightsheet"]
    numerical_aperture: Positive
    wavelength_um: Positive
    refractive_index: Positive
    excitation_um: Positive | None = None
    sheet_um: Positive | None = None


class Model(Section):
    """What one model learns from, and the acquisitions it is used on."""

    task: Literal["segment", "points"]
    channel: str
    optics: Literal["unknown"] | Optics
    base: str
    diameter_um: Literal["from shots"] | Positive
    shots: tuple[Shot, ...]
    acquisitions: tuple[Name, ...] = Field(min_length=1)
    references: tuple[Reference, ...]
    linking_um: Literal["none"] | Positive


class Ingest(Section):
    """How a volume is laid out on disk."""

    chunk_voxels: Sides
    shard_voxels: Sides
    shard_frames: Steps
    smallest_level_voxels: Count
    adopt: bool
    quantiles: tuple[Fraction, Fraction]


class Guise(Section):
    """How far training crops differ from the shots."""

    turned: bool
    scale: Amount
    contrast: Amount
    background: Amount
    noise: Amount


class Network(Section):
    """The family of networks that all models belong to."""

    group: Literal["auto", "trivial", "c4", "d4", "c8", "d8", "c4h", "d4h"]
    width: Steps
    levels: Annotated[int, Field(ge=1, le=5)]
    object_voxels: Positive


class Specimen(Section):
    """What may lie in a simulated field; see `phantoms.Specimen`."""

    shapes: tuple[Literal["round", "elliptic", "lobed", "rod", "filament"], ...]
    diameter_voxels: Range
    variation: Range
    cover: Range
    clustering: Range
    alignment: Range
    overlap: Amount


class Imaging(Section):
    """How simulated fields are seen; see `imaging.Imaging`."""

    diameter_um: Range
    numerical_aperture: Range
    wavelength_um: Range
    refractive_index: Positive
    defocus: Range
    photons: Range
    background: Range
    unevenness: Range
    haze: Range
    brightness: Range
    texture: Range
    dome: Range
    debris: Range
    read_noise: Range
    exposure: tuple[float, float]
    any_contrast: bool


class Base(Section):
    """One base model: what is simulated, and how long it learns from that."""

    axes: Literal["yx", "zyx"]
    parent: str
    steps: Count
    learning_rate: Positive
    fields: Count
    field_voxels: tuple[Count, ...]
    z_spacing: Range
    specimen: Specimen
    imaging: Imaging


class Pretrain(Section):
    """The base models that can be made."""

    bases: dict[Name, Base]
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    checkpoint_steps: Count


class Start(Section):
    """How long and how fast to learn from where a network starts, and how it ends."""

    steps: Steps
    learning_rate: Positive
    balance: Annotated[float, Field(ge=0, le=1)]


class Starts(Section):
    """Where a network may start: from a base model, or from random weights."""

    base: Start
    nothing: Start


class Gate(Section):
    """How it is found out whether learning helped."""

    hold_out: Fraction
    margin: Amount
    foreground: Fraction
    smallest_object: Fraction
    members: tuple[Literal["held_out", "half", "control"], ...]


class Crops(Section):
    """How a detector learns from crops; see `selfsupervised.Lesson`."""

    steps: Count
    learning_rate: Positive
    scenes: Count
    copies: Count
    contrast: Amount
    scale: Amount
    background: Amount
    agreement: Amount
    silence: Amount
    unlabelled: Amount


class Finetune(Section):
    """The network and how it learns."""

    crop_voxels: Sides
    crops: Steps
    start: Starts
    guise: Guise
    composed: Annotated[float, Field(ge=0, le=1)]
    physics: Amount
    points: Crops
    gate: Gate
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    checkpoint_steps: Count


class Predict(Section):
    """How objects are made from the network's output."""

    foreground: Fraction
    smallest_object: Fraction
    tile_voxels: Sides
    precision: Literal["float32", "bfloat16"]
    refinement: Literal["none", "maximum_likelihood", "maximum_likelihood_3d"]


class Report(Section):
    """What the report shows."""

    pictures: Count
    overlap: Fraction
    windows: Annotated[int, Field(ge=0)]
    first: Count
    viewer_url: Literal["none"] | Annotated[str, Field(pattern=r"^https?://.*\{image\}")]
