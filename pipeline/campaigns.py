"""A campaign as it runs: entries with `series: all` become one acquisition for each image."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import config
from pipeline.config import Campaign
from pipeline.sections import EVERY, Acquisition, Model
from pipeline.sentences import listed

NAMED = 12
"""Acquisitions that a sentence lists at most."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """A campaign of single images.

    Attributes
    ----------
    plates: of the entries that are whole plates, the acquisitions that they became, one a field.
    """

    campaign: Campaign
    plates: dict[str, tuple[str, ...]]


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Expanded:
    """Read a campaign and list the images of each file that is taken whole. Reads no voxels.

    Raises ValueError, besides what `config.load` raises, where such a file cannot be opened, two
    of its images would get one name, or a shot or a reference names all of them.
    """
    campaign = config.load(path, overrides)
    whole = {name: a for name, a in campaign.acquisitions.items() if a.series == EVERY}
    if not whole:
        return Expanded(campaign, {})
    from pipeline import formats  # opens no library of a format where no entry asks for it

    images: dict[str, dict[str, str]] = {}
    plates: dict[str, tuple[str, ...]] = {}
    for name, acquisition in whole.items():
        try:
            found = config.locate(acquisition.path)
            series = formats.of(found).series(found)
            is_plate = formats.is_plate(found)
        except ValueError as fault:
            raise ValueError(f"acquisitions.{name}.path: {fault}") from fault
        images[name] = _named(name, acquisition.path, list(series))
        if is_plate:
            plates[name] = tuple(images[name])
    return Expanded(_expanded(campaign, images), plates)


def _named(name: str, path: str, series: list[str]) -> dict[str, str]:
    """The image that each of the new acquisitions stands for."""
    named: dict[str, str] = {}
    for number, one in enumerate(series):
        ending = re.sub("[^A-Za-z0-9_]+", "-", one).strip("-") or str(number)
        if (new := f"{name}-{ending}") in named:
            raise ValueError(
                f"acquisitions.{name}.series is {EVERY!r}, but the images {named[new]!r} and "
                f"{one!r} of {path} would both become the acquisition {new}. List them in entries "
                f"of their own: `series: {one}`."
            )
        named[new] = one
    return named


def _expanded(campaign: Campaign, images: Mapping[str, Mapping[str, str]]) -> Campaign:
    acquisitions: dict[str, Acquisition] = {}
    for name, acquisition in campaign.acquisitions.items():
        made = {
            new: acquisition.model_copy(update={"series": one})
            for new, one in images.get(name, {}).items()
        } or {name: acquisition}
        if taken := sorted(
            made.keys() & (acquisitions.keys() | campaign.acquisitions.keys() - {name})
        ):
            raise ValueError(
                f"acquisitions.{name}.series is {EVERY!r}, which makes the acquisition {taken[0]}, "
                "but another entry has or makes this name. Rename one of them."
            )
        acquisitions |= made
    models = {
        name: _model(name, model, images, acquisitions) for name, model in campaign.models.items()
    }
    return campaign.model_copy(update={"acquisitions": acquisitions, "models": models})


def _model(
    name: str,
    model: Model,
    images: Mapping[str, Mapping[str, str]],
    acquisitions: Mapping[str, Acquisition],
) -> Model:
    """A model whose acquisitions are all single images that there are."""
    used = [new for a in model.acquisitions for new in images.get(a, [a])]
    mentioned = [("acquisitions", a) for a in used]
    for where, entries in (("shots", model.shots), ("references", model.references)):
        for entry in entries:
            if entry.acquisition in images:
                example = next(iter(images[entry.acquisition]))
                raise ValueError(
                    f"models.{name}.{where} names the acquisition {entry.acquisition!r}, which "
                    f"stands for {len(images[entry.acquisition])} images (series: {EVERY}), but "
                    f"labels belong to one. Name it, such as {example}."
                )
            mentioned.append((where, entry.acquisition))
    for where, one in mentioned:
        if one not in acquisitions:
            raise ValueError(
                f"models.{name}.{where} names the acquisition {one!r}, which there is not. There "
                f"are: {listed([*acquisitions], NAMED)}."
            )
    return model.model_copy(update={"acquisitions": tuple(dict.fromkeys(used))})
