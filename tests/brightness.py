"""A model that nobody trained: what is bright is an object. It says the same on any machine."""

from pathlib import Path

import scenes
import torch

from pipeline import cards, cli, ingest, network, receipts, topology, volumes, weights
from pipeline.topology import Architecture

ARCHITECTURE = Architecture("yx", "trivial", 1, 5, ((2, 2),))
DIAMETER_UM = 4.0
VOXEL_UM = (scenes.VOXEL["y"], scenes.VOXEL["x"])
UPHILL_VOXELS = 40.0  # displacement per unit of the brightness' slope


def bundle(folder: Path) -> None:
    """Write the model. Voxels brighter than half are solid, and point uphill."""
    built = network.plain(ARCHITECTURE)
    slope = torch.tensor([-0.5, 0.0, 0.5])
    with torch.no_grad():
        first, second = (block[0].weight for block in built.down[0])
        first[0, 0, 1, 1] = 1.0
        second[0, 0, 1, 1] = 1.0
        # A ReLU follows: what rises and what falls go through channels of their own.
        second[1, 0, :, 1], second[2, 0, :, 1] = slope, -slope
        second[3, 0, 1, :], second[4, 0, 1, :] = slope, -slope
        for block in built.up[0]:
            for channel in range(5):
                block[0].weight[channel, channel, 1, 1] = 1.0
        head = built.head[0]
        head.weight[0, 0], head.bias[0] = 20.0, -10.0
        for axis in (0, 1):
            head.weight[1 + axis, 1 + 2 * axis] = UPHILL_VOXELS / 7
            head.weight[1 + axis, 2 + 2 * axis] = -UPHILL_VOXELS / 7
    none = dict.fromkeys(cards.Certificate.model_fields, 0.0)
    card = cards.Card(
        architecture=cards.describe(ARCHITECTURE),
        diameter_um=DIAMETER_UM,
        voxel_size_um=VOXEL_UM,
        unit_voxels=(7.0, 7.0),
        channel="channel_0",
        optics=None,
        receptive_field=topology.receptive_field(ARCHITECTURE),
        reach=(10, 10),
        base=None,
        origin="from nothing",
        gate=cards.Gate(promoted=True, reason="It learned nothing."),
        shots=0,
        objects=0,
        loss=(),
        certificate=cards.Certificate.model_validate(none),
        recipe="none",
    )
    weights.save(folder, built, card)


class Results:
    """A folder of results with that model, `bright`, and one ingested image, `dish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / "ingest" / "dish.json"
        self.model = folder / "finetune" / "bright.json"
        self.receipt = folder / "predict" / "bright" / "dish.json"
        self.store = self.image.with_suffix(".ome.zarr")

    @classmethod
    def of(cls, folder: Path, image, axes: str, **given) -> "Results":
        """Ingest an image (its raw file lies beside the results), and write the model."""
        made = cls(folder)
        folder.mkdir(parents=True, exist_ok=True)
        made.ingest(scenes.write(folder.parent / f"{folder.name}.tif", image, axes), **given)
        bundle(made.model.with_suffix(".model"))
        facts = {"model": "bright.model"}
        receipts.write(made.model, {"recipe": {"hash": "none"}, "facts": facts})
        return made

    def ingest(self, acquired, **given) -> None:
        ingest.ingest(self.image, scenes.ingest_task(acquired, **given), scenes.here)

    def predict(self, **given):
        """Run predict in this process. Returns its facts."""
        assert cli.main(self.command(**given)) == 0
        return receipts.read(self.receipt)["facts"]

    def command(self, *options: str, **given) -> list[str]:
        """What a user types after `python -m pipeline`, for the same."""
        return [
            *("predict", str(self.receipt)),
            *("--settings", scenes.predict_task(**given).model_dump_json()),
            *("--image", str(self.image), "--model", str(self.model)),
            *options,
        ]

    def labels(self, level: int = 0):
        return volumes.open_level(self.store / "labels" / "bright", level)[:]

    def published(self) -> dict[str, bytes]:
        """Every file that a reader of results sees: no logs, locks, nor unfinished work."""
        return {
            name: content
            for name, content in scenes.snapshot(self.folder).items()
            if not any(
                part.startswith(".")
                or ".building" in part
                or part.endswith((".jobs", ".cost.json", ".provenance.json"))
                for part in Path(name).parts
            )
        }
