rule report:
    """All results -> one page that shows and judges them."""
    input:
        predictions=predictions,
        references=references,
    output:
        receipt=f"{RESULTS}/report/campaign.json",
    log:
        f"{LOGS}/report/campaign.log",
    params:
        settings=campaign.report_task().model_dump_json(),
        arguments=REPORT_ARGUMENTS,
    shell:
        "python -m pipeline report @{params.arguments} 2>&1 | tee {log}"
