"""One file holds every setting; a fault in it is one sentence that names it."""

from pathlib import Path

import pytest
import yaml

from pipeline import config, sections

FILE = Path(__file__).parents[1] / "config.yaml"


def load(**overrides):
    return config.load(FILE, overrides)


def test_the_shipped_campaign_loads():
    campaign = load()
    assert campaign.pairs == [
        ("nuclei", "scratch_assay"),
        ("nuclei_in_depth", "confocal_nuclei"),
    ]


def test_no_class_of_settings_holds_a_default():
    def classes(of):
        yield from (c for sub in of.__subclasses__() for c in (sub, *classes(sub)))

    silent = {
        f"{cls.__name__}.{name}"
        for cls in classes(sections.Section)
        for name, field in cls.model_fields.items()
        if not field.is_required()
    }
    # Planar images have no z, most microscopes neither laser nor sheet, crops no labels: no value
    # stands for that.
    nothing = {"VoxelSize.z", "Optics.excitation_um", "Optics.sheet_um", "Shot.labels"}
    assert silent == nothing


def test_settings_cannot_be_changed_after_loading():
    with pytest.raises(ValueError, match="frozen"):
        load().finetune.seed = 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"finetune": {"stepps": 3}}, "finetune.stepps is no setting"),
        ({"finetunes": {"steps": 3}}, "finetunes is no setting"),
        ({"finetune": {"crops": {"yx": 0}}}, "finetune.crops.yx is 0: "),
        ({"predict": {"foreground": 1.5}}, "predict.foreground is 1.5: "),
        ({"ingest": {"shard_voxels": {"yx": [700, 512]}}}, "multiple of ingest.chunk_voxels.yx"),
        ({"network": {"group": "d5"}}, "network.group is"),
        (
            {"acquisitions": {"a": {"path": "a.tif"}}},
            "names the acquisition 'scratch_assay', which `acquisitions` does not list",
        ),
        ({"acquisitions": {"a/b": {"path": "a.tif"}}}, "a/b"),
        ({"acquisitions": {}}, "acquisitions is {}"),
        ({"acquisitions": {"a": {"path": "a.tif", "axes": "zyq"}}}, "acquisitions.a.axes"),
    ],
)
def test_a_fault_is_one_sentence_that_names_the_setting(overrides, words):
    with pytest.raises(ValueError, match="config") as fault:
        load(**overrides)
    assert words in str(fault.value)
    assert "Traceback" not in str(fault.value)


def test_a_missing_setting_is_named(tmp_path):
    values = yaml.safe_load(FILE.read_text())
    del values["predict"]["foreground"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=r"predict\.foreground is missing"):
        config.load(path)


@pytest.mark.parametrize("text", ["a: [1", "just words", ""])
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        config.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        config.load(tmp_path / "nowhere.yaml")


def test_listed_things_replace_and_sections_merge():
    campaign = load(
        acquisitions={"mine": {"path": "mine.tif"}},
        models={"m": {"channel": "c", "acquisitions": ["mine"], "shots": [
            {"acquisition": "mine", "labels": {"path": "l.tif"}, "region": {}}]}},
        finetune={"seed": 7},
    )  # fmt: skip
    assert list(campaign.acquisitions) == ["mine"]
    assert campaign.acquisitions["mine"].axes == "from file"
    assert campaign.models["m"].shots[0].labels.channel == "only"
    assert campaign.finetune.seed == 7
    assert campaign.finetune.start == load().finetune.start


def test_a_task_holds_only_what_its_result_depends_on():
    before = load()
    models = yaml.safe_load(FILE.read_text())["models"]
    models["nuclei"]["acquisitions"].append("confocal_nuclei")
    after = load(models=models, predict={"foreground": 0.6})
    assert after.finetune_task("nuclei") == before.finetune_task("nuclei")
    assert after.ingest_task("scratch_assay") == before.ingest_task("scratch_assay")
    assert after.predict_task() != before.predict_task()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("package:no_such_package/a.tif", "is not installed"),
        ("package:pipeline/nothing.tif", "no such file"),
        ("nowhere/a.tif", "no such file"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path, words):
    with pytest.raises(ValueError, match=words) as fault:
        config.locate(path)
    assert path in str(fault.value)
