rule pretrain:
    """Simulated fields -> base model."""
    input:
        parent=parent_base,
    output:
        receipt=f"{RESULTS}/pretrain/{{base}}.json",
    log:
        f"{LOGS}/pretrain/{{base}}.log",
    resources:
        jobs=1,
        cpus_per_task=1,
        mem_mb=3500,
        runtime=240,
        gpu=0,
    params:
        settings=lambda wildcards: campaign.pretrain_task(
            wildcards.base
        ).model_dump_json(),
        parent=lambda wildcards, input: (
            f"--parent {input.parent}" if input.get("parent") else ""
        ),
        cluster=cluster,
    shell:
        "python -m pipeline pretrain {output.receipt} {params.parent}"
        " --settings {params.settings:q}"
        " {params.cluster} --job-logs {log}.jobs 2>&1 | tee {log}"


localrules:
    bases,


rule bases:
    """All base models: `make bases` puts them where networks look for them."""
    input:
        expand(f"{RESULTS}/pretrain/{{base}}.json", base=campaign.pretrain.bases),
