# REQUIRED INPUTS: none; sources are public hosts, npm, or a local mirror.
# OUTPUTS: data/raw/<dataset>/*, verified by content. Files of `data.own` stay where they are.
# Runs where Snakemake runs: a cluster's nodes often cannot reach the internet. The outputs are
# `update`d, so that verified files that are there are kept whatever asks for the rule.
#
# No setting is in `params`: trainings take these files as `ancient`, and where a job behind an
# `ancient` file runs again, Snakemake forgets to plan the missing files of all that comes after it.

for dataset in (name for name, entry in DATASETS.items() if not entry.own):

    rule:
        name:
            f"fetch_{dataset}"
        output:
            update(PLAN.dataset_files(dataset)),
        log:
            f"{RESULTS}/logs/fetch_{dataset}.log",
        retries: 1
        localrule: True
        conda:
            ENVIRONMENT
        params:
            dataset=dataset,
        shell:
            "vaelab fetch {params.dataset} > {log:q} 2>&1"
