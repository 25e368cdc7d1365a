rule ingest:
    """Raw file -> OME-Zarr 0.5 volume with a pyramid."""
    input:
        raw=raw_file,
    output:
        receipt=f"{RESULTS}/ingest/{{acquisition}}.json",
    log:
        f"{LOGS}/ingest/{{acquisition}}.log",
    resources:
        jobs=16,
        job_gvoxel=5,
        cpus_per_task=1,
        mem_mb=3000,
        runtime=60,
        gpu=0,
    params:
        settings=lambda wildcards: campaign.ingest_task(
            wildcards.acquisition
        ).model_dump_json(),
        cluster=cluster,
    shell:
        "python -m pipeline ingest {output.receipt} --settings {params.settings:q}"
        " {params.cluster} --job-logs {log}.jobs 2>&1 | tee {log}"
