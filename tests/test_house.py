"""The order of the house: who may import whom, and where things may stand."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
CORE = {
    "tiles", "network", "losses", "shots", "training", "instances", "labelling", "fields",
    "steerable", "certificate", "ngff", "objects", "metrics", "figures", "simulate",
    "outlines", "gate", "compose", "grounds", "phantoms", "imaging", "trials", "optics", "physics",
    "topology", "grids", "resample", "footprint", "planning", "algebra", "sampling",
    "noise", "intensities", "changes", "agreement",
    "alarms", "seams", "planes", "stitching", "charts", "groups", "sentences",
    "likeness", "calibrator", "explanation", "stability", "maps",
    "crops", "selfsupervised", "detections", "detectors", "decisions", "templates", "localisation",
    "distances", "gathering", "points", "discs", "tracks", "forward", "defocus",
}  # fmt: skip
EFFECTS = {
    "volumes", "publication", "sharding", "shards", "records", "pyramid", "progress", "view",
    "segment", "sweep", "sweep_outlines", "sweep_points", "census", "tasks", "chunks", "memory",
    "tables", "cards", "weights",
    "receipts", "bases", "checkpoints", "checksums", "survey", "readers", "headers", "formats",
    "formats_tiff", "formats_planes", "formats_arrays", "formats_vendors", "formats_czi",
    "formats_n5", "formats_bioio", "raw_planes", "annotations", "label_images", "drawings", "marks",
    "lessons", "members", "segmenting", "detecting", "bundles", "sights",
    "formats_plates", "formats_imagexpress", "formats_cv8000",
    "campaigns", "spot_checks", "copying", "adoption", "storage", "boundaries", "provenance",
    "former", "schedule", "prospects", "origins", "crate", "kept", "around",
}  # fmt: skip
CLUSTER = {
    "cluster",
    "dealing",
    "arrays",
    "submission",
    "slurm",
    "processes",
    "grants",
    "requests",
    "drafts",
    "failures",
    "events",
    "share",
    "guards",
    "sites",
    "efforts",
}
STAGES = {
    "ingest",
    "pretrain",
    "finetune",
    "predict",
    "report",
    "doctor",
    "export",
    "inspect",
    "verify",
    "plate",
    "diff",
    "replay",
    "prune",
}
REPORT = {path.stem for path in PACKAGE.glob("report_*.py")}
FOUNDATION = {"config", "sections", "faults", "__init__"}
WHOLE = {
    "allocations",
    "estimate",
    "calibration",
    "samples",
    "forecast",
    "probe",
    "status",
    "standings",
}
"""What looks at a whole campaign, over all stages and the cluster."""
TOP = {"cli", "cli_campaign", "cli_parser", "__main__"}


def imported(module: Path) -> set[str]:
    """Modules of the package that this one imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
            found.add((node.module or "").split(".")[1])
    return {name for name in found if (PACKAGE / f"{name}.py").exists()}


def outside(module: Path) -> set[str]:
    """Top-level names of other packages that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


def test_every_module_has_its_place():
    placed = CORE | EFFECTS | CLUSTER | STAGES | REPORT | FOUNDATION | WHOLE | TOP
    assert {path.stem for path in PACKAGE.glob("*.py")} == placed


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_the_core_alone(name):
    assert imported(PACKAGE / f"{name}.py") <= CORE


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_sees_no_path_no_clock_and_no_scheduler(name):
    forbidden = {"pathlib", "os", "time", "datetime", "zarr", "submitit", "pydantic", "subprocess"}
    assert not outside(PACKAGE / f"{name}.py") & forbidden


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_effects_import_no_stage_and_no_cluster(name):
    assert not imported(PACKAGE / f"{name}.py") & (STAGES | CLUSTER | WHOLE | TOP)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_what_looks_at_whole_campaigns_is_called_by_the_command_line_alone(name):
    callers = {p.stem for p in PACKAGE.glob("*.py") if name in imported(p)}
    assert callers <= WHOLE | TOP


@pytest.mark.parametrize("name", sorted(CLUSTER))
def test_the_door_to_slurm_knows_nothing_of_the_rest(name):
    assert imported(PACKAGE / f"{name}.py") <= CLUSTER


@pytest.mark.parametrize("name", sorted(STAGES))
def test_stages_never_import_each_other_nor_the_cluster(name):
    assert not imported(PACKAGE / f"{name}.py") & ((STAGES | CLUSTER | WHOLE | TOP) - {name})


def test_zarr_is_imported_by_its_one_door_and_readers_of_raw_files_alone():
    users = {p.stem for p in PACKAGE.glob("*.py") if "zarr" in outside(p)}
    assert users == {"volumes", "formats_tiff", "formats_arrays"}


def test_submitit_is_imported_behind_the_door_to_slurm_alone():
    users = {p.stem for p in PACKAGE.glob("*.py") if "submitit" in outside(p)}
    assert users <= CLUSTER


def test_the_snakefile_imports_the_settings_alone():
    text = (PACKAGE.parent / "Snakefile").read_text()
    assert [line for line in text.splitlines() if "pipeline" in line and "import" in line] == [
        "from pipeline import campaigns",
        "from pipeline import config as settings",
    ]
