"""Doctor: checks a whole campaign against its files before anything is made."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from pipeline import annotations, bases, readers, sights
from pipeline.config import Campaign
from pipeline.readers import Source
from pipeline.sections import Annotation, Model

log = logging.getLogger("equiscope.doctor")
Found = TypeVar("Found")


def examine(campaign: Campaign) -> list[str]:
    """All faults of a campaign, one sentence each; empty where it can run."""
    return look(campaign)[0]


def look(campaign: Campaign) -> tuple[list[str], dict[str, Source]]:
    """All faults of a campaign, one sentence each, and the acquisitions that can be opened.

    Opens the header of every acquisition and label image; reads no voxels and writes nothing.
    """
    faults: list[str] = []

    def attempt(check: Callable[[], Found]) -> Found | None:
        try:
            return check()
        except ValueError as fault:
            faults.append(str(fault))
            return None

    sources = _sources(campaign, faults)
    for name, model in campaign.models.items():
        for where, region, source in _crops(name, model, sources):
            attempt(
                lambda w=where, r=region, s=source: sights.place(  # type: ignore[misc]
                    w, r, s.axes, s.shape, s.voxel_size_um
                )
            )
        for where, annotation, region, source in _annotations(name, model, sources):
            attempt(
                lambda w=where, a=annotation, r=region, s=source, t=model.task: _opened(  # type: ignore[misc]
                    w, a, r, s, t
                )
            )
        faults += _channel_faults(name, model, sources)
        attempt(lambda n=name, m=model: _start(n, m))  # type: ignore[misc]
    return faults, sources


def _sources(campaign: Campaign, faults: list[str]) -> dict[str, Source]:
    """All acquisitions that can be opened; of the others, the faults."""
    sources: dict[str, Source] = {}
    said: list[tuple[str, str]] = []
    for name, acquisition in campaign.acquisitions.items():
        try:
            sources[name] = readers.source(name, acquisition)
        except ValueError as fault:
            said.append((name, str(fault)))
    faults += _alike(said)
    for line in _alike([(name, f"{name}: {_described(one)}.") for name, one in sources.items()]):
        log.info("%s", line)
    return sources


def _described(source: Source) -> str:
    sides = " x ".join(f"{a} {n}" for a, n in zip(source.axes, source.shape, strict=True))
    voxels = " x ".join(f"{size:g}" for size in source.voxel_size_um.values())
    channels = ", ".join(source.channels)
    return f"{sides}, {source.dtype}, channels {channels}, voxels of {voxels} um"


def _alike(said: Sequence[tuple[str, str]]) -> list[str]:
    """Sentences on acquisitions; of those that differ by a name alone, one, and how many."""
    kinds: dict[str, list[str]] = {}
    for name, sentence in said:
        kinds.setdefault(sentence.replace(name, ""), []).append(sentence)
    return [
        f"{first} The same holds of {len(more)} more." if more else first
        for first, *more in kinds.values()
    ]


def _opened(
    where: str,
    annotation: Annotation,
    region: dict[str, tuple[int, int]],
    source: Source,
    task: str,
) -> None:
    """Open an annotation, and what is to be scored against as what that takes."""
    known = annotations.annotated(
        where, annotation, region, source.axes, source.shape, source.voxel_size_um
    )
    if ".references." in where:
        _ = known.as_places() if task == "points" else known.as_reference()


def _start(name: str, model: Model) -> None:
    """Refuse a base that is not there, and a model that nothing says what to look for."""
    if model.base not in ("auto", "none"):
        bases.folder(model.base)
    if not model.shots and (model.base in ("auto", "none") or model.diameter_um == "from shots"):
        raise ValueError(
            f"models.{name} has no shots: add one, or name its base ({', '.join(bases.names())}) "
            "and give diameter_um, the diameter of its objects."
        )


def _annotations(
    name: str, model: Model, sources: dict[str, Source]
) -> list[tuple[str, Annotation, dict[str, tuple[int, int]], Source]]:
    listed: list[tuple[str, Annotation, dict[str, tuple[int, int]], str]] = [
        (f"models.{name}.shots.{i}", shot.labels, dict(shot.region), shot.acquisition)
        for i, shot in enumerate(model.shots)
        if shot.labels
    ]
    listed += [
        (f"models.{name}.references.{i}", reference.labels, {}, reference.acquisition)
        for i, reference in enumerate(model.references)
    ]
    return [(w, a, r, sources[q]) for w, a, r, q in listed if q in sources]


def _crops(
    name: str, model: Model, sources: dict[str, Source]
) -> list[tuple[str, dict[str, tuple[int, int]], Source]]:
    return [
        (f"models.{name}.shots.{i}", dict(shot.region), sources[shot.acquisition])
        for i, shot in enumerate(model.shots)
        if not shot.labels and shot.acquisition in sources
    ]


def _channel_faults(name: str, model: Model, sources: dict[str, Source]) -> list[str]:
    used = dict.fromkeys([*model.acquisitions, *(shot.acquisition for shot in model.shots)])
    faults = [
        (
            acquisition,
            (
                f"models.{name}.channel is {model.channel!r}, but the acquisition {acquisition} "
                f"has the channels {', '.join(sources[acquisition].channels)}. Name one of them."
            ),
        )
        for acquisition in used
        if acquisition in sources and model.channel not in sources[acquisition].channels
    ]
    return _alike(faults)
