rule ingest:
    """Raw file -> OME-Zarr 0.5 volume with a pyramid."""
    input:
        raw=raw_file,
    output:
        receipt=f"{RESULTS}/ingest/{{acquisition}}.json",
    log:
        f"{LOGS}/ingest/{{acquisition}}.log",
    resources:
        **RESOURCES["ingest"],
    params:
        settings=lambda wildcards: campaign.ingest_task(
            wildcards.acquisition
        ).model_dump_json(),
        cluster=cluster,
    shell:
        "python -m pipeline ingest {output.receipt} --settings {params.settings:q}"
        " {params.cluster} --job-logs {log}.jobs 2>&1 | tee {log}"
