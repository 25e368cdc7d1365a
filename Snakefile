"""Equiscope: few-shot, equivariant microscopy over whole campaigns.

raw files --ingest--> volumes --predict--> labels, tables --report--> results/report/report.html
                         |                    ^
                         +--finetune--> models-+
"""

import sys
from pathlib import Path

from pipeline import campaigns
from pipeline import config as settings

try:
    loaded = campaigns.load(Path("config.yaml"), config)
except ValueError as fault:
    raise SystemExit(f"equiscope: {fault}") from None

campaign, PLATES = loaded.campaign, loaded.plates
RESULTS, LOGS = campaign.results, "logs"


include: "workflow/rules/common.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/plate.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,


rule all:
    """Everything that the campaign asks for."""
    default_target: True
    input:
        f"{RESULTS}/report/campaign.json",
        predictions,
        expand(f"{RESULTS}/ingest/{{name}}.json", name=campaign.acquisitions),
        expand(f"{RESULTS}/finetune/{{name}}.json", name=campaign.models),
        expand(f"{RESULTS}/plate/{{name}}.json", name=PLATES),


onstart:
    start()


onsuccess:
    describe()
    notify("done")


onerror:
    notify("failed")
