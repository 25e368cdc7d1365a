rule predict:
    """Model + volume -> instance labels and table."""
    input:
        image=f"{RESULTS}/ingest/{{acquisition}}.json",
        model=f"{RESULTS}/finetune/{{model}}.json",
    output:
        receipt=f"{RESULTS}/predict/{{model}}/{{acquisition}}.json",
    log:
        f"{LOGS}/predict/{{model}}/{{acquisition}}.log",
    resources:
        **RESOURCES["predict"],
    params:
        settings=campaign.predict_task().model_dump_json(),
        cluster=cluster,
    shell:
        "python -m pipeline predict {output.receipt} --image {input.image}"
        " --model {input.model} --settings {params.settings:q}"
        " {params.cluster} --job-logs {log}.jobs 2>&1 | tee {log}"
