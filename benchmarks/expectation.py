"""F1 expected of images without their labels, against the F1 that their labels give.

Each domain is read by models as they come out of few shots, and by base models as they are; what
is seen of each image without labels goes, with its F1, into one line of a file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats
from tqdm import tqdm

from benchmarks import datasets, learners
from benchmarks.datasets import Domain, Example
from benchmarks.measurement import Figure, Target
from pipeline import calibrator, config, labelling, likeness, objects, stability, trials
from pipeline.calibrator import Calibrator
from pipeline.likeness import Known
from pipeline.metrics import match
from pipeline.network import UNet
from pipeline.shots import Example as Shown
from pipeline.trials import Reading

SIDE = 384
"""Of the window in the middle of an image that is read, in the network's voxels, at most."""
OVERLAP = 0.5
MEMBERS = ("nuclei_2d", "label_free_2d", "rods_2d")
MODELS = ("nuclei_2d", "label_free_2d", learners.ONE)
NAMES = (*stability.SEEN, "likeness", "gate")
ENOUGH, SPEARMAN, ERROR = Target(">=", 100.0), Target(">=", 0.8), Target("<=", 0.05)


@dataclass(frozen=True, slots=True)
class Record:
    """One image read by one model.

    Attributes
    ----------
    seen: without labels; `f1`: with them.
    """

    domain: str
    image: str
    model: str
    f1: float
    objects: int
    seen: dict[str, float]


def records(
    folders: Sequence[Path], partial: Path | None, models: Sequence[str], quick: bool
) -> list[Record]:
    """Of every image; those in `partial` are not read again, and new ones are added to it."""
    lines = partial.read_text("utf-8").splitlines() if partial and partial.is_file() else []
    known = [Record(**json.loads(line)) for line in lines]
    done = {(one.domain, one.image, one.model) for one in known}
    for folder in folders:
        one = datasets.read(folder)
        for name, domain in one.domains.items():
            if domain.axes != "yx":
                continue
            where = f"{one.name}/{name}" if name else one.name
            for record in _of_domain(where, domain, done, models, quick):
                known.append(record)
                if partial:
                    with partial.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(asdict(record)) + "\n")
    return known


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model of one domain, and what it knows of it.

    Attributes
    ----------
    members: other models beside it.
    known: what objects of its shot are like.
    gate: its average precision on objects of the shot that it did not learn from.
    """

    name: str
    network: UNet
    spacing: tuple[float, ...]
    reading: Reading
    members: Mapping[str, UNet]
    known: Known
    gate: float


def _models(domain: Domain, names: Sequence[str]) -> Iterator[Model]:
    """The models of a domain, which know one shot of it."""
    campaign, shots = config.load(learners.CONFIG), domain.shots[:1]
    members = {name: learners.prepared(campaign, shots, name)[0] for name in MEMBERS}
    for name in names:
        network, spacing, reading = learners.prepared(campaign, shots, name)
        shot = learners.as_seen(shots[0], spacing)
        known = likeness.known(objects_of(shot.labels, shot.image))
        gate = learners.gate(campaign, shots[0], name)
        yield Model(name, network, spacing, reading, members, known, gate)


def objects_of(labels: npt.NDArray[np.integer[Any]], image: datasets.Floats) -> pd.DataFrame:
    """What likeness looks at, of labelled objects of an image whose voxels are 1 um wide."""
    axes, ids = "zyx"[-labels.ndim :], np.unique(labels[labels > 0]).astype(np.uint64)
    parts = objects.parts(
        labels.astype(np.uint64),
        [image],
        np.full(labels.shape, labelling.CERTAIN, np.uint16),
        labels > 0,
        (0,) * labels.ndim,
        axes,
        ["image"],
        0,
        ids,
    )
    voxel = dict.fromkeys(axes, 1.0)
    found = objects.measured(objects.combined(parts), axes, voxel, ["image"])
    return likeness.features(found, "image", (0.0, 1.0), axes)


def _of_domain(
    where: str, domain: Domain, done: set[tuple[str, str, str]], models: Sequence[str], quick: bool
) -> Iterator[Record]:
    rest = [*domain.tests, *domain.shots[1:]]
    examples = rest[:3] if quick else rest
    if all((where, e.name, model) in done for e in examples for model in models):
        return
    for model in _models(domain, models):
        missing = [e for e in examples if (where, e.name, model.name) not in done]
        for example in tqdm(missing, desc=f"{where}, {model.name}", unit="image"):
            yield _read(where, model, example)


def _read(where: str, model: Model, example: Example) -> Record:
    network, reading = model.network, model.reading
    shown: Shown = learners.as_seen(example, model.spacing)
    middle = tuple(
        slice((n - min(n, SIDE)) // 2, (n + min(n, SIDE)) // 2) for n in shown.image.shape
    )
    image = np.ascontiguousarray(shown.image[middle])
    labels = np.where(shown.known, shown.labels, 0)[middle]
    output = trials.output(network, image, reading.tile)
    once = (1,) * image.ndim
    found = trials.found(output, once, reading)
    stable = stability.stability(
        image, found, lambda other: trials.segmented(network, other, once, reading)
    )
    ids = np.unique(found[found > 0])
    others = [
        stability.agreement(found, trials.segmented(member, image, once, reading), ids)[1]
        for name, member in model.members.items()
        if name != model.name
    ]
    seen = stability.seen([stable], [others], [special.expit(output[0])], [found])
    like = model.known.typical(objects_of(found, image))
    seen |= {"likeness": like, "gate": model.gate}
    score = match(found, labels, OVERLAP)
    return Record(where, example.name, model.name, score.f1, datasets.objects(labels), seen)


def shipped(known: Sequence[Record], names: Sequence[str]) -> Calibrator:
    """Fit on all records."""
    rows, f1, domains = table(known, names)
    said = {
        "images": len(known),
        "domains": sorted({one.domain for one in known}),
        "models": sorted({one.model for one in known}),
        "made_by": "python -m benchmarks quality --calibrator",
    }
    return calibrator.fitted(names, rows, f1, domains, said)


def table(
    known: Sequence[Record], names: Sequence[str]
) -> tuple[calibrator.Floats, calibrator.Floats, list[str]]:
    """Features, F1 and domain of each record with an object."""
    used = [one for one in known if one.objects]
    rows = np.array([[one.seen[name] for name in names] for one in used])
    return rows, np.array([one.f1 for one in used]), [one.domain for one in used]


def figures(known: Sequence[Record]) -> list[Figure]:
    """How well F1 is expected in domains that were left out."""
    names = NAMES
    rows, f1, domains = table(known, names)
    expected = calibrator.apart(names, rows, f1, domains)
    models = np.array([one.model for one in known if one.objects])
    kinds = np.array(domains)
    images = {(one.domain, one.image) for one in known if one.objects}
    found = [Figure.of("images with a known F1", [float(len(images))], "images", ENOUGH)]
    found.append(Figure.of("readings of them by a model", [float(len(f1))], "readings"))
    found += _agreement("F1 expected without labels", expected, f1, targets=True)
    for model in np.unique(models):
        found += _agreement(f"{model}: F1 expected", expected[models == model], f1[models == model])
    found += _agreement(
        "by the gate alone", calibrator.apart(["gate"], rows[:, -1:], f1, domains), f1
    )
    within = [float(np.mean(np.abs(expected - f1)[kinds == kind])) for kind in np.unique(kinds)]
    found.append(Figure.of("F1 expected: mean absolute error of a domain", within, ""))
    known_mean = np.array([f1[kinds != kind].mean() for kind in kinds])
    found.append(
        Figure.of(
            "mean absolute error of always expecting the other domains' mean",
            [float(np.abs(known_mean - f1).mean())],
            "",
        )
    )
    return found


def _agreement(
    name: str, expected: calibrator.Floats, f1: calibrator.Floats, targets: bool = False
) -> list[Figure]:
    rank = float(stats.spearmanr(expected, f1).statistic)
    error = float(np.abs(expected - f1).mean())
    return [
        Figure.of(f"{name}: Spearman's correlation", [rank], "", SPEARMAN if targets else None),
        Figure.of(f"{name}: mean absolute error", [error], "", ERROR if targets else None),
    ]
