localrules:
    plate,


rule plate:
    """Volumes of all fields -> one OME-Zarr plate that refers to them."""
    input:
        images=plate_volumes,
    output:
        receipt=f"{RESULTS}/plate/{{plate}}.json",
    log:
        f"{LOGS}/plate/{{plate}}.log",
    params:
        arguments=PLATE_ARGUMENTS,
    shell:
        "python -m pipeline plate @{params.arguments} 2>&1 | tee {log}"
