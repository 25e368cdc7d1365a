"""Equiscope: few-shot, equivariant microscopy over whole campaigns.

raw files --ingest--> volumes --predict--> labels, tables --report--> results/report/report.html
                         |                    ^
                         +--finetune--> models-+
"""

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from pipeline import config as campaigns

try:
    campaign = campaigns.load(Path("config.yaml"), config)
except ValueError as fault:
    raise WorkflowError(str(fault)) from None

RESULTS, LOGS = campaign.results, "logs"


include: "workflow/rules/common.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


localrules:
    all,


rule all:
    default_target: True
    """Everything that the campaign asks for."""
    input:
        f"{RESULTS}/report/campaign.json",


onstart:
    shell(DOCTOR)
