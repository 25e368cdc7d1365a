rule finetune:
    """1 to 5 annotated examples -> model."""
    input:
        images=shot_volumes,
        labels=shot_labels,
    output:
        receipt=f"{RESULTS}/finetune/{{model}}.json",
    log:
        f"{LOGS}/finetune/{{model}}.log",
    resources:
        **RESOURCES["finetune"],
    params:
        settings=lambda wildcards: campaign.finetune_task(
            wildcards.model
        ).model_dump_json(),
        cluster=cluster,
    shell:
        "python -m pipeline finetune {output.receipt} --images {input.images}"
        " --settings {params.settings:q}"
        " {params.cluster} --job-logs {log}.jobs 2>&1 | tee {log}"
