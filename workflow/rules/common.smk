"""Input functions and what all rules share. No rules, no logic of the science."""

import json
import shlex

PYTHON = shlex.quote(sys.executable)
DOCTOR = (
    f"{PYTHON} -m pipeline doctor --config config.yaml"
    f" --overrides {shlex.quote(json.dumps(config)).replace('{', '{{').replace('}', '}}')}"
)


wildcard_constraints:
    acquisition="[^/]+",
    model="[^/]+",


def cluster(wildcards, resources):
    """Where a stage's jobs run and what each may use: a rule's resources, as options.

    A function of resources, so that other resources rerun nothing.
    """
    names = ("jobs", "cpus_per_task", "mem_mb", "runtime", "gpu")
    given = {"place": resources.get("place", "local")}
    given |= {name: resources.get(name) for name in names}
    given |= {
        name: resources.get(name, "")
        for name in ("slurm_partition", "slurm_account", "slurm_extra")
    }
    return " ".join(
        f"--{name.replace('_', '-')}={shlex.quote(str(value))}"
        for name, value in given.items()
    )


def raw_file(wildcards):
    """The file or folder of an acquisition."""
    return str(campaigns.locate(campaign.acquisitions[wildcards.acquisition].path))


def shot_volumes(wildcards):
    """Ingest receipts of the acquisitions that a model learns from."""
    shots = campaign.models[wildcards.model].shots
    return [
        f"{RESULTS}/ingest/{name}.json"
        for name in dict.fromkeys(shot.acquisition for shot in shots)
    ]


def shot_labels(wildcards):
    """Label files that a model learns from."""
    shots = campaign.models[wildcards.model].shots
    return [
        str(campaigns.locate(path))
        for path in dict.fromkeys(s.labels.path for s in shots)
    ]


def predictions(wildcards):
    """Predict receipts of the whole campaign."""
    return [f"{RESULTS}/predict/{model}/{name}.json" for model, name in campaign.pairs]


def references(wildcards):
    """Label files that predictions are scored against."""
    paths = [
        r.labels.path for model in campaign.models.values() for r in model.references
    ]
    return [str(campaigns.locate(path)) for path in dict.fromkeys(paths)]
