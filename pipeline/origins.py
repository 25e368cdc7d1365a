"""What a result was made from: where that is, and whether it is still what it was."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import (
    __version__,
    bases,
    cards,
    checksums,
    former,
    label_images,
    provenance,
    readers,
    receipts,
    volumes,
)
from pipeline.config import IngestTask
from pipeline.prospects import changed
from pipeline.sentences import listed

NAMED = 4
"""Packages that a sentence lists at most."""


@dataclass(frozen=True, slots=True)
class Original:
    """A receipt that is to be made again, and what was made with it.

    Attributes
    ----------
    results: the campaign's folder of results.
    recipe, facts: as the receipt has them.
    """

    receipt: Path
    results: Path
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def said(self) -> dict[str, Any]:
        """All that the receipt says."""
        return {"recipe": self.recipe, "facts": self.facts}

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return str(self.recipe["stage"])

    def of(self, stage: str, name: str) -> Path:
        """The receipt of another stage."""
        return self.results / stage / f"{name}.json"


def opened(receipt: Path) -> Original:
    """A receipt with its place. Raises ValueError where it is none of a stage's."""
    made = receipts.read(receipt)
    try:
        recipe, facts = made["recipe"], made["facts"]
        depth = 2 if recipe["stage"] == "predict" else 1
    except KeyError as lacking:
        raise ValueError(f"{receipt} is no receipt: it has no {lacking}.") from None
    return Original(receipt, receipt.parents[depth], recipe, facts)


def chain(last: Original, beside: Sequence[Path] = ()) -> Iterator[Original]:
    """All receipts that one rests on, and those beside it; each after those it was made from."""
    seen: set[Path] = set()

    def follow(receipt: Path) -> Iterator[Original]:
        if receipt.is_file() and receipt not in seen:
            seen.add(receipt)
            one = opened(receipt)
            names = [] if one.stage == "ingest" else list(one.recipe["inputs"])
            for name in names:
                yield from follow(receipt_of(one, name))
            yield one

    for receipt in (*beside, last.receipt):
        yield from follow(receipt)


def changed_inputs(original: Original) -> Iterator[str]:
    """What the result was made from that is missing, or is not what it was; a sentence each."""
    if original.recipe["version"] != __version__:
        yield (
            f"it was made by version {original.recipe['version']}, and this is {__version__}. "
            "Replay it with that version."
        )
    for name, recorded in original.recipe["inputs"].items():
        try:
            now = _identity(original, name)
        except (ValueError, OSError) as fault:
            yield f"{name} is missing: {fault}"
            continue
        if now != recorded:
            yield f"{name} is not what it was: {recorded[:12]} then, {now[:12]} now"
    yield from _lost(original)


def _identity(original: Original, name: str) -> str:
    """Identity of one of the recipe's inputs as it is now."""
    settings = original.recipe["settings"]
    if original.stage == "ingest":
        task = IngestTask.model_validate(settings)
        return readers.identity(readers.source(original.receipt.stem, task.acquisition))
    if name.startswith("base ") and original.stage == "finetune":
        return bases.digest(name.removeprefix("base "))
    if name.endswith(former.BEFORE):
        model, _, acquisition = name.removesuffix(former.BEFORE).partition("/")
        return former.before(original.results / "ingest" / f"{acquisition}.ome.zarr", model)
    if name in _label_paths(settings):
        return receipts.file_fingerprint(label_images.file_of(name))
    return receipts.identity(receipt_of(original, name))


def _label_paths(settings: Any) -> Iterator[str]:
    """All paths of labels in a task's settings."""
    if isinstance(settings, Mapping):
        if isinstance(labels := settings.get("labels"), Mapping):
            yield str(labels["path"])
        for value in settings.values():
            yield from _label_paths(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _label_paths(value)


def receipt_of(original: Original, name: str) -> Path:
    """The receipt that an input of the recipe is."""
    match original.stage, name:
        case "predict", "image":
            return original.of("ingest", original.receipt.stem)
        case "predict", "model":
            return original.of("finetune", original.receipt.parent.name)
        case "pretrain", _:
            return original.of("pretrain", original.recipe["settings"]["base"]["parent"])
        case "finetune", _:
            return original.of("ingest", name)
        case "plate", _:
            wanted = original.recipe["inputs"][name]
            folder = original.results / "ingest"
            found = (p for p in sorted(folder.glob("*.json")) if "." not in p.stem)
            return next((p for p in found if receipts.identity(p) == wanted), folder / name)
    return original.of("predict", name)


def _lost(original: Original) -> Iterator[str]:
    """Of a prediction: what its receipts speak of, which was checked when it was made."""
    if original.stage != "predict":
        return
    try:
        image, model = (receipt_of(original, name) for name in ("image", "model"))
        bundle, store = receipts.result(model, "model"), receipts.result(image, "volume")
    except (ValueError, KeyError) as fault:
        yield f"an input is missing: {fault}"
        return
    if receipts.bytes_digest(bundle / cards.WEIGHTS) != receipts.read(model)["facts"]["weights"]:
        yield f"{bundle / cards.WEIGHTS} has other bytes than when it was made"
    own = volumes.attributes(store)["equiscope"]
    harmed = checksums.harmed(store, volumes.levels_of(own), own["facts"]["digest"])
    yield from (f"{store / file} is {how}" for file, how in harmed.items())


def other_conditions(original: Original) -> Iterator[str]:
    """What is not in the recipe, and was otherwise when the result was made."""
    said = provenance.read(original.receipt)
    if not said:
        yield "Nobody knows what packages and machine it was made with."
        return
    packages, now = said["environment"]["packages"], provenance.environment()
    then = {"Python": said["environment"]["python"], **packages}
    others = {"Python": now["python"], **now["packages"]}
    differing = [f"{name} {old} -> {new}" for name, old, new in changed(then, others)]
    if differing:
        yield f"Packages are others than then: {listed(differing, NAMED)}."
    if said["code"]["source"] != provenance.code()["source"]:
        commit = said["code"]["commit"] or "no known commit"
        yield f"The code is another than then ({commit})."
    if said["machine"]["processor"] != provenance.machine()["processor"] or any(
        job["gpus"] for job in said["jobs"]
    ):
        yield "It was made on another kind of processor, or a GPU, whose last digits differ."
