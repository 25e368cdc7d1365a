rule report:
    """All results -> a page that judges them, and one on each acquisition."""
    input:
        predictions=predictions,
        references=references,
    output:
        receipt=f"{RESULTS}/report/campaign.json",
        page=report(
            f"{RESULTS}/report/report.html",
            caption="../report/campaign.rst",
            category="Campaign",
            labels={"page": "what not to trust, results, models"},
        ),
        cost=report(
            f"{RESULTS}/report/cost.html",
            caption="../report/cost.rst",
            category="Campaign",
            labels={"page": "what ran, and what it cost"},
        ),
        acquisitions=[
            report(
                f"{RESULTS}/report/acquisitions/{name}.html",
                caption="../report/acquisition.rst",
                category="Acquisitions",
                labels={"acquisition": name},
            )
            for name in PREDICTED
        ],
    log:
        f"{LOGS}/report/campaign.log",
    params:
        settings=campaign.report_task().model_dump_json(),
        arguments=REPORT_ARGUMENTS,
    shell:
        "python -m pipeline report @{params.arguments} 2>&1 | tee {log}"
