# REQUIRED INPUTS: metrics of the probes that the steps before asked for.
# OUTPUTS: search/step_<n>.json (what to train next, or the answer), search/decisions.json.
#
# Each step is a checkpoint: after it Snakemake knows the next probes, which are ordinary runs.


checkpoint search_step:
    input:
        step_input,
    output:
        f"{RESULTS}/search/step_{{step}}.json",
    log:
        f"{RESULTS}/logs/search/step_{{step}}.log",
    # At once: the next probes, trained one after the other, are the longest path.
    priority: 100
    localrule: True
    conda:
        ENVIRONMENT
    params:
        search=CONFIG.search.model_dump_json(),
        code=lambda wildcards: PLAN.code("search"),
    shell:
        "vaelab search --step {wildcards.step} > {log:q} 2>&1"


rule search:
    input:
        last_step,
    output:
        f"{RESULTS}/search/decisions.json",
    log:
        f"{RESULTS}/logs/search/decisions.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        further=lambda wildcards: PLAN.further_seeds,
    shell:
        "vaelab search --summary > {log:q} 2>&1"
