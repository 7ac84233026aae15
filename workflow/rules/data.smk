# REQUIRED INPUTS: none; sources are public hosts, npm, or a local mirror.
# OUTPUTS: data/raw/<dataset>/*, verified by content.
# Runs where Snakemake runs: a cluster's nodes often cannot reach the internet. The outputs are
# `update`d, so that verified files that are there are kept whatever asks for the rule.

for dataset in DATASETS:

    rule:
        name:
            f"fetch_{dataset}"
        output:
            update(dataset_files(dataset)),
        log:
            f"{RESULTS}/logs/fetch_{dataset}.log",
        retries: 1
        localrule: True
        conda:
            ENVIRONMENT
        params:
            dataset=dataset,
            fallback=CONFIG.data.frey.fallback if DATASETS[dataset].stand_in else "none",
        shell:
            "vaelab fetch {params.dataset} > {log} 2>&1"
