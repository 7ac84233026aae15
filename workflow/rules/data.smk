# REQUIRED INPUTS: none; sources are public hosts, npm, or a local mirror.
# OUTPUTS: data/raw/<dataset>/*, verified by content.
# Runs where Snakemake runs: a cluster's nodes often cannot reach the internet. The outputs are
# `update`d, so that verified files that are there are kept whatever asks for the rule.


rule fetch_mnist:
    output:
        update(dataset_files("mnist")),
    log:
        f"{RESULTS}/logs/fetch_mnist.log",
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    shell:
        "vaelab fetch mnist > {log} 2>&1"


rule fetch_frey:
    output:
        update(dataset_files("frey")),
    log:
        f"{RESULTS}/logs/fetch_frey.log",
    retries: 1
    localrule: True
    conda:
        ENVIRONMENT
    params:
        fallback=CONFIG.data.frey.fallback,
    shell:
        "vaelab fetch frey > {log} 2>&1"
