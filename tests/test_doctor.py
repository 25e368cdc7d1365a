"""Laws of the doctor that need no cluster: what it reads, what it counts, what it says."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import campaigns
import pytest

from pipeline import (
    allocations,
    calibration,
    cli,
    cli_campaign,
    config,
    doctor,
    drafts,
    estimate,
    grants,
    probe,
    requests,
)
from pipeline.allocations import Given
from pipeline.cluster import Allocation
from pipeline.forecast import Between, Estimate, Stage

PARTITIONS = """\
PartitionName=cpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=00:10:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=04:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=c[1-2] PriorityJobFactor=1 PriorityTier=10 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=8 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=8,mem=8000M,node=2,billing=8
PartitionName=gpu AllowGroups=ALL AllowAccounts=lab,core AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A DefaultTime=00:10:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=g1 PriorityJobFactor=1 PriorityTier=10 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=4 TotalNodes=1 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=3000 TRES=cpu=4,mem=4000M,node=1,billing=4
"""  # noqa: E501  as SLURM 22.05 writes it
NODES = "cpu|2|4|4000|(null)\ngpu|1|4|4000|gpu:fake:2\n"
CONFIG = "MaxArraySize            = 1001\nMaxBatchRequeue         = 5\n"
SITE = grants.parsed(PARTITIONS, NODES, CONFIG, "lab|normal,long\nother|normal\n")
FITTING = Allocation(
    place="slurm",
    jobs=4,
    job_gvoxel=5,
    cpus_per_task=2,
    mem_mb=2000,
    runtime=60,
    gpu=0,
    slurm_partition="",
    slurm_account="",
    slurm_extra="",
)


def test_a_site_is_read_from_what_slurm_prints() -> None:
    cpu, gpu = SITE.partitions
    assert (cpu.name, cpu.is_default, cpu.is_up, cpu.runtime_min) == ("cpu", True, True, 240)
    assert cpu.nodes == (grants.Node(2, 4, 4000, {}),)
    assert cpu.node_memory_mb == math.inf
    assert (gpu.runtime_min, gpu.node_memory_mb, gpu.accounts) == (1440, 3000, ("lab", "core"))
    assert gpu.nodes == (grants.Node(1, 4, 4000, {"fake": 2}),)
    assert SITE.array_size == 1001
    assert SITE.accounts == ("lab", "other")
    assert SITE.qos == ("normal", "long")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30:00", 30),
        ("04:00:00", 240),
        ("1-12:00:00", 2160),
        ("2-00", 2880),
        ("90", 90),
        ("UNLIMITED", math.inf),
        ("infinite", math.inf),
    ],
)
def test_times_of_slurm_are_minutes(text: str, minutes: float) -> None:
    assert grants.minutes(text) == minutes


@pytest.mark.parametrize(
    ("gres", "found"),
    [
        ("(null)", {}),
        ("gpu:2", {"": 2}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("gpu:a100:4,shard:16", {"a100": 4}),
        ("gpu:a100:2(S:0),gpu:v100:2(S:1),tmp:50G", {"a100": 2, "v100": 2}),
    ],
)
def test_gpus_are_counted_by_type(gres: str, found: dict[str, int]) -> None:
    assert grants.gpus(gres) == found


def test_what_a_site_grants_is_no_fault() -> None:
    assert requests.faults(SITE, "predict", FITTING) == []
    on_gpu = dataclasses.replace(FITTING, gpu=2, slurm_partition="gpu", slurm_account="lab")
    assert requests.faults(SITE, "predict", on_gpu) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slurm_partition": "fast"}, ["slurm_partition is 'fast'", "cpu, gpu"]),
        ({"mem_mb": 9000}, ["mem_mb is 9000", "cpu", "4000 MB"]),
        ({"mem_mb": 3500, "slurm_partition": "gpu"}, ["mem_mb is 3500", "gpu", "3000 MB"]),
        ({"runtime": 300}, ["runtime is 300", "cpu", "240 minutes"]),
        ({"cpus_per_task": 8}, ["cpus_per_task is 8", "cpu", "4 cores"]),
        ({"gpu": 1}, ["gpu is 1", "cpu", "0 GPUs"]),
        ({"gpu": 3, "slurm_partition": "gpu"}, ["gpu is 3", "gpu", "2 GPUs"]),
        ({"slurm_account": "theirs"}, ["slurm_account is 'theirs'", "lab, other"]),
        (
            {"slurm_account": "other", "slurm_partition": "gpu"},
            ["slurm_account is 'other'", "lab, core"],
        ),
        ({"slurm_extra": "--qos=fast"}, ["slurm_extra is '--qos=fast'", "normal, long"]),
    ],
    ids=str,
)
def test_what_a_site_does_not_grant_is_one_sentence_with_setting_value_and_limit(
    change: dict[str, object], said: list[str]
) -> None:
    (fault,) = requests.faults(SITE, "predict", dataclasses.replace(FITTING, **change))  # type: ignore[arg-type]
    assert fault.startswith("set-resources.predict.")
    for words in said:
        assert words in fault


def test_it_is_enough_that_one_of_several_partitions_takes_the_job() -> None:
    asked = dataclasses.replace(FITTING, runtime=300, slurm_partition="cpu,gpu")
    assert requests.faults(SITE, "predict", asked) == []


def test_a_draft_asks_for_no_more_than_the_site_grants(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(drafts.profile(SITE))
    given = allocations.of_profile(str(tmp_path))
    for stage, asked in given.stages.items():
        assert asked.place == "slurm"
        assert requests.faults(SITE, stage, asked) == []
    assert given.stages["predict"].gpu == 1
    assert given.stages["predict"].slurm_partition == "gpu"
    assert given.stages["ingest"].gpu == 0
    shipped = allocations.of_profile(str(campaigns.ROOT / "profiles" / "slurm"))
    assert (given.cores, given.threads) == (shipped.cores, shipped.threads)
    assert {stage: given.at_once(stage) for stage in allocations.STAGES} == {
        "ingest": 8,
        "finetune": 2,
        "predict": 8,
    }


def test_a_profile_that_is_there_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "profiles" / "mine" / "config.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("cores: 1\n")
    assert cli.main(["doctor", "--write-profile", "mine"]) == 2
    assert "give another NAME" in capsys.readouterr().err
    assert mine.read_text() == "cores: 1\n"


def test_a_profile_is_read_as_snakemake_reads_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "cores: 3\ndefault-resources:\n  place: slurm\n  slurm_account: lab\n"
        "set-resources:\n  predict:\n    mem_mb: 2000 * attempt\n    runtime: 7\n"
        '    slurm_extra: "--nice=5"\n    slurm_setup: "module load cuda/12 && echo yes"\n'
    )
    given = allocations.of_profile(str(tmp_path))
    predict = given.stages["predict"]
    assert (predict.mem_mb, predict.runtime, predict.slurm_extra) == (2000, 7, "--nice=5")
    assert predict.slurm_setup == "module load cuda/12 && echo yes"
    assert {one.slurm_account for one in given.stages.values()} == {"lab"}
    assert given.stages["ingest"].mem_mb == 3000, "what the rule says where the profile is silent"
    assert {given.at_once(stage) for stage in allocations.STAGES} == {3}


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="'nowhere'"):
        allocations.of_profile("nowhere")


def test_what_a_job_sees_less_of_than_it_asked_for_is_named() -> None:
    here = probe.seen()
    asked = dataclasses.replace(FITTING, mem_mb=1, cpus_per_task=1)
    assert probe.judged("predict", asked, here) == []
    greedy = dataclasses.replace(asked, gpu=64, mem_mb=10**9, cpus_per_task=10**5)
    said = probe.judged("predict", greedy, here)
    assert [fault.split()[0].rpartition(".")[2] for fault in said] == [
        "gpu",
        "mem_mb",
        "cpus_per_task",
    ]


def stage(files: int, least: float, measured: bool) -> Estimate:
    stored = Between(least, 2 * least, 3 * least) if measured else None
    one = Stage("ingest", 1, 0, 1, files, stored, stored, int(4 * least), 0, False, 1)
    return Estimate((one,), int(measured), False)


def test_files_and_bytes_that_the_disk_has_no_room_for_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cli_campaign.room_faults(stage(10, 1e3, True), tmp_path) == []
    (files,) = cli_campaign.room_faults(stage(10**18, 1e3, True), tmp_path)
    assert "room for" in files
    assert "more files" in files
    (stored,) = cli_campaign.room_faults(stage(10, 1e18, True), tmp_path)
    assert "needs 1e+06 TB" in stored
    assert cli_campaign.room_faults(stage(10, 1e18, False), tmp_path) == [], "it may compress"
    assert "before compression" in caplog.text


def test_counts_are_those_of_the_files_that_come(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = campaigns.raw(reference, tmp_path)
    monkeypatch.chdir(folder)
    campaign = config.load(Path("config.yaml"))
    _, sources = doctor.look(campaign)
    found = estimate.counted(campaign, sources, Given({}, 1))
    ingest, _, predict = found.stages
    assert (ingest.results, ingest.done, ingest.seconds) == (1, 0, None)
    store = reference / "results" / "ingest" / "wound.ome.zarr"
    made = [path for path in store.rglob("*") if path.is_file()]
    of_labels = [path for path in made if {"labels", "tables"} & {*path.parts}]
    assert len(of_labels) <= predict.files <= len(of_labels) + estimate.DESCRIPTIONS
    of_image = len(made) - len(of_labels)
    assert of_image <= ingest.files <= of_image + estimate.DESCRIPTIONS


def test_what_is_there_is_not_counted_again(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reference)
    campaign = config.load(Path("config.yaml"))
    _, sources = doctor.look(campaign)
    found = estimate.counted(campaign, sources, Given({}, 1))
    assert [one.done for one in found.stages] == [1, 1, 1]
    assert (found.files, found.raw_bytes) == (0, 0)


def test_measured_bytes_bound_those_that_come(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = campaigns.raw(reference, tmp_path)
    shutil.copytree(reference / "results" / "finetune", folder / "results" / "finetune")
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    campaign = config.load(Path("config.yaml"))
    _, sources = doctor.look(campaign)
    found = estimate.measured(campaign, sources, Given({}, 1))
    ingest, finetune, predict = found.stages
    assert found.pieces == calibration.samples.PIECES
    assert finetune.done == 1
    for one in (ingest, predict):
        assert one.seconds is not None
        assert 0 < one.seconds.low <= one.seconds.middle <= one.seconds.high
    store = reference / "results" / "ingest" / "wound.ome.zarr"
    files = [path for path in store.rglob("*") if path.is_file() and path.suffix != ".json"]
    sizes = {path: path.stat().st_size for path in files}
    of_image = sum(n for path, n in sizes.items() if not {"labels", "tables"} & {*path.parts})
    assert ingest.bytes is not None
    assert 0.9 * ingest.bytes.low <= of_image <= 1.1 * ingest.bytes.high
    assert sorted(folder.rglob("*")) == before, "pieces are thrown away"


def test_the_check_at_the_start_of_a_run_takes_what_snakemake_tells(
    reference: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reference)
    words = ["doctor", "--quick", "--config", "config.yaml", "--stages"]
    assert cli.main([*words, json.dumps({"cores": 2, "predict": "--place=local --jobs=2"})]) == 0
    assert cli.main([*words, json.dumps({"predict": "--jobs=0"})]) == 2
    assert "jobs is 0" in capsys.readouterr().err
