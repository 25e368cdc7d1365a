"""A campaign: config.yaml as one frozen value, and the parts of it that each task depends on."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline import faults
from pipeline.sections import (
    EVERY,
    Acquisition,
    Base,
    Finetune,
    Ingest,
    Model,
    Name,
    Network,
    Optics,
    Positive,
    Predict,
    Pretrain,
    Reference,
    Report,
    Section,
    Shot,
)

PLACE = re.compile(r"\{([tczyx])(?::0?(\d*)d?)?\}")
"""A number in a file's name, in the notation of Python's format strings."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""As safe as `safe_load`, and five times as fast where libyaml is there."""


class Campaign(Section):
    """The whole of config.yaml, the `every_` sections merged into what they stand for."""

    campaign: str
    results: str
    notify: str
    acquisitions: dict[Name, Acquisition] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    ingest: Ingest
    network: Network
    pretrain: Pretrain
    finetune: Finetune
    predict: Predict
    report: Report

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        # What a file with `series: all` holds is known once it is opened: see campaigns.py.
        later = tuple(f"{name}-" for name, a in self.acquisitions.items() if a.series == EVERY)
        for model_name, model in self.models.items():
            mentioned = [("acquisitions", name) for name in model.acquisitions]
            mentioned += [("shots", shot.acquisition) for shot in model.shots]
            mentioned += [("references", reference.acquisition) for reference in model.references]
            for where, name in mentioned:
                if name not in self.acquisitions and not name.startswith(later):
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

    @model_validator(mode="after")
    def _shots_suit_tasks(self) -> Self:
        for name, model in self.models.items():
            if model.task == "points":
                _check_crops(name, model)
                continue
            for number, shot in enumerate(model.shots):
                if shot.labels is None:
                    raise ValueError(
                        f"models.{name}.shots.{number} has no labels: name their file, or, where "
                        "its region shows one object alone, set the model's task to points."
                    )
            if model.linking_um != "none":
                raise ValueError(
                    f"models.{name}.linking_um is {model.linking_um:g}, but only points are linked "
                    "into tracks: set task: points, or linking_um: none."
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
        return FinetuneTask(
            task=chosen.task,
            channel=chosen.channel,
            optics=chosen.optics,
            base=chosen.base,
            diameter_um=chosen.diameter_um,
            shots=chosen.shots,
            network=self.network,
            finetune=self.finetune,
        )

    def pretrain_task(self, base: str) -> "PretrainTask":
        """Everything that making this base model depends on, besides its parent."""
        settings = self.pretrain
        return PretrainTask(
            base=settings.bases[base],
            network=self.network,
            seed=settings.seed,
            threads=settings.threads,
            checkpoint_steps=settings.checkpoint_steps,
        )

    def predict_task(self) -> "PredictTask":
        """Everything that predicting depends on, besides its volume and model."""
        return PredictTask(predict=self.predict)

    def report_task(self) -> "ReportTask":
        """Everything that the report depends on, besides the predictions."""
        references = {name: model.references for name, model in self.models.items()}
        linking = {
            name: model.linking_um
            for name, model in self.models.items()
            if model.linking_um != "none"
        }
        return ReportTask(
            campaign=self.campaign,
            references=references,
            linking_um=linking,
            report=self.report,
        )


class IngestTask(Section):
    """Settings of one ingest."""

    acquisition: Acquisition
    ingest: Ingest


class FinetuneTask(Section):
    """Settings of one fine-tuning."""

    task: Literal["segment", "points"]
    channel: str
    optics: Literal["unknown"] | Optics
    base: str
    diameter_um: Literal["from shots"] | Positive
    shots: tuple[Shot, ...]
    network: Network
    finetune: Finetune


class PretrainTask(Section):
    """Settings of one pretraining."""

    base: Base
    network: Network
    seed: int
    threads: int
    checkpoint_steps: int


class PredictTask(Section):
    """Settings of one prediction."""

    predict: Predict


class ReportTask(Section):
    """Settings of the report."""

    campaign: str
    references: dict[Name, tuple[Reference, ...]]
    linking_um: dict[Name, Positive]
    report: Report


def _check_crops(name: str, model: Model) -> None:
    """Raise ValueError where a detector of points could not learn from a model's shots."""
    if not model.shots:
        raise ValueError(
            f"models.{name} finds points and has no shots: add a crop, the region of one object."
        )
    for number, shot in enumerate(model.shots):
        where = f"models.{name}.shots.{number}"
        if shot.labels is not None:
            raise ValueError(
                f"{where} has labels, {shot.labels.path}, but a model that finds points learns "
                "from crops, which have none: delete them, or set task: segment."
            )
        if lacking := [axis for axis in "yx" if axis not in shot.region]:
            raise ValueError(
                f"{where}.region says nothing of {', '.join(lacking)}: a crop is a region in the "
                "plane that shows one object, with background on all four sides."
            )


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Campaign:
    """Read a campaign. A section of `overrides` is merged; a list of things replaces the file's.

    Raises ValueError with one line per fault, each naming the setting, its value and the remedy.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}: write one, or go to where it is.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
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

    A pattern, whose name holds numbers such as `{z:04d}`, is where its folder is.
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
    if not watched(found).exists():
        raise ValueError(
            f"{path}: there is no such file or folder (looked for {watched(found).absolute()})."
        )
    return found


def is_pattern(path: Path) -> bool:
    """Whether a path stands for many files."""
    return bool(PLACE.search(path.name))


def watched(path: Path) -> Path:
    """The file or folder whose changes count: of a pattern, its folder."""
    return path.parent if is_pattern(path) else path


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _merged(base.get(key), value) for key, value in over.items()}


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Merge `every_acquisition`, `every_model`, `every_labels` beneath what they stand for."""
    values = dict(values)
    every_base = values.pop("every_base", {})
    pretrain = values.get("pretrain")
    if isinstance(pretrain, dict) and isinstance(pretrain.get("bases"), dict):
        bases = {name: _merged(every_base, base) for name, base in pretrain["bases"].items()}
        values["pretrain"] = pretrain | {"bases": bases}
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
