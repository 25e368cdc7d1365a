"""The shape of config.yaml: frozen, closed classes. Types and limits live here, values there."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import faults

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]
Value = TypeVar("Value")
FROM_FILE = "from file"
"""What a setting says that leaves the answer to the file's own metadata."""


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


class VoxelSize(Section):
    """Distance between neighbouring voxels, in um. `z` may be left out in planar images."""

    z: Positive | None = None
    y: Positive
    x: Positive


class Acquisition(Section):
    """One raw data set: where it is and what its file does not say."""

    path: str
    axes: Literal["from file"] | Annotated[str, Field(pattern=r"^[tczyx]+$")]
    channels: Literal["from file"] | tuple[str, ...]
    voxel_size_um: Literal["from file"] | VoxelSize
    time_step_s: Literal["from file"] | Positive


class Annotation(Section):
    """A label image: 0 is background, every other number one object."""

    path: str
    axes: Literal["from file"] | Annotated[str, Field(pattern=r"^[tczyx]+$")]
    channel: Literal["only"] | str


class Shot(Section):
    """One annotated example. `region` gives `[start, stop]` in voxels or frames per axis."""

    acquisition: Name
    labels: Annotation
    region: dict[Annotated[str, Field(pattern="^[tzyx]$")], tuple[int, int]]


class Reference(Section):
    """Labels to score predictions against. `origin` says who or what made them."""

    acquisition: Name
    labels: Annotation
    origin: str


class Model(Section):
    """What one model learns from, and the acquisitions it is used on."""

    channel: str
    shots: tuple[Shot, ...] = Field(min_length=1)
    acquisitions: tuple[Name, ...] = Field(min_length=1)
    references: tuple[Reference, ...]


class Ingest(Section):
    """How a volume is laid out on disk."""

    chunk_voxels: Sides
    shard_voxels: Sides
    smallest_level_voxels: Count
    quantiles: tuple[Fraction, Fraction]


class Guise(Section):
    """How far training crops differ from the shots."""

    scale: Amount
    contrast: Amount
    background: Amount
    noise: Amount


class Steps(Planar[int]):
    """Counts for planar volumes and for volumes with depth."""

    yx: Count
    zyx: Count


class Finetune(Section):
    """The network and how it learns."""

    group: Literal["auto", "trivial", "c4", "d4", "c8", "d8"]
    fields: Steps
    levels: Annotated[int, Field(ge=1, le=5)]
    object_voxels: Positive
    crop_voxels: Sides
    crops: Steps
    steps: Steps
    learning_rate: Positive
    guise: Guise
    seed: Annotated[int, Field(ge=0)]
    threads: Count
    checkpoint_steps: Count


class Predict(Section):
    """How objects are made from the network's output."""

    foreground: Fraction
    smallest_object: Fraction
    tile_voxels: Sides


class Report(Section):
    """What the report shows."""

    pictures: Count
    overlap: Fraction


class Campaign(Section):
    """The whole of config.yaml, the `every_` sections merged into what they stand for."""

    campaign: str
    results: str
    acquisitions: dict[Name, Acquisition] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    ingest: Ingest
    finetune: Finetune
    predict: Predict
    report: Report

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for model_name, model in self.models.items():
            mentioned = [("acquisitions", name) for name in model.acquisitions]
            mentioned += [("shots", shot.acquisition) for shot in model.shots]
            mentioned += [("references", reference.acquisition) for reference in model.references]
            for where, name in mentioned:
                if name not in self.acquisitions:
                    raise ValueError(
                        f"models.{model_name}.{where} names the acquisition {name!r}, which "
                        f"`acquisitions` does not list. It lists: {', '.join(self.acquisitions)}."
                    )
        return self

    @model_validator(mode="after")
    def _shards_hold_chunks(self) -> Self:
        for axes in ("yx", "zyx"):
            chunk, shard = self.ingest.chunk_voxels.of(axes), self.ingest.shard_voxels.of(axes)
            if any(side % part for side, part in zip(shard, chunk, strict=True)):
                raise ValueError(
                    f"ingest.shard_voxels.{axes} {list(shard)} must be a multiple of "
                    f"ingest.chunk_voxels.{axes} {list(chunk)} along each axis."
                )
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (model, acquisition) to predict."""
        return [(m, a) for m, model in self.models.items() for a in model.acquisitions]

    def ingest_task(self, acquisition: str) -> "IngestTask":
        """Everything that ingesting this acquisition depends on."""
        return IngestTask(acquisition=self.acquisitions[acquisition], ingest=self.ingest)

    def finetune_task(self, model: str) -> "FinetuneTask":
        """Everything that fine-tuning this model depends on, besides its volumes."""
        chosen = self.models[model]
        return FinetuneTask(channel=chosen.channel, shots=chosen.shots, finetune=self.finetune)

    def predict_task(self) -> "PredictTask":
        """Everything that predicting depends on, besides its volume and model."""
        return PredictTask(predict=self.predict)

    def report_task(self) -> "ReportTask":
        """Everything that the report depends on, besides the predictions."""
        references = {name: model.references for name, model in self.models.items()}
        return ReportTask(campaign=self.campaign, references=references, report=self.report)


class IngestTask(Section):
    """Settings of one ingest."""

    acquisition: Acquisition
    ingest: Ingest


class FinetuneTask(Section):
    """Settings of one fine-tuning."""

    channel: str
    shots: tuple[Shot, ...]
    finetune: Finetune


class PredictTask(Section):
    """Settings of one prediction."""

    predict: Predict


class ReportTask(Section):
    """Settings of the report."""

    campaign: str
    references: dict[Name, tuple[Reference, ...]]
    report: Report


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Campaign:
    """Read a campaign. A section of `overrides` is merged; a list of things replaces the file's.

    Raises ValueError with one line per fault, each naming the setting, its value and the remedy.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}: write one, or go to where it is.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold settings, `name: value` lines; see README.md.")
    for key, value in (overrides or {}).items():
        listed = key in ("acquisitions", "models")
        values[key] = value if listed else _merged(values.get(key), value)
    try:
        return Campaign.model_validate(complete := _with_defaults(values))
    except ValidationError as error:
        raise ValueError(faults.explain(path, complete, error)) from error


def locate(path: str) -> Path:
    """Where a path of the configuration is; `package:NAME/FILE` lies in an installed package.

    Raises ValueError where nothing is there.
    """
    if path.startswith("package:"):
        package, _, inside = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ValueError(f"{path}: the Python package {package!r} is not installed here.")
        found = Path(spec.origin).parent / inside
    else:
        found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(
            f"{path}: there is no such file or folder (looked for {found.absolute()})."
        )
    return found


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Merge `every_acquisition`, `every_model`, `every_labels` beneath what they stand for."""
    values = dict(values)
    every = {kind: values.pop(f"every_{kind}", {}) for kind in ("acquisition", "model", "labels")}

    def completed(entry: Any) -> Any:
        if isinstance(entry, list):
            return [completed(item) for item in entry]
        if not isinstance(entry, dict):
            return entry
        entry = {key: completed(value) for key, value in entry.items()}
        if "labels" in entry:
            entry["labels"] = _merged(every["labels"], entry["labels"])
        return entry

    for plural, kind in (("acquisitions", "acquisition"), ("models", "model")):
        if isinstance(values.get(plural), dict):
            values[plural] = {
                name: completed(_merged(every[kind], entry))
                for name, entry in values[plural].items()
            }
    return values
