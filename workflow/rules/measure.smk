# REQUIRED INPUTS: data/raw/mnist/*, arrays.npz of every MNIST run.
# OUTPUTS: checkpoints/classifier.safetensors, measures.json (what the report did not measure),
# nll.json (-log p(x) of the models of Table 1), metrics.json (the headline numbers of all runs).
#
# Long lists of input files have no name: Snakemake hashes a named list once for each file in it,
# which for a table of 10 000 runs would take hours.


rule classifier:
    input:
        ancient(PLAN.dataset_files(DIGITS)),
    output:
        update(f"{RESULTS}/checkpoints/classifier.safetensors"),
    log:
        f"{RESULTS}/logs/classifier.log",
    benchmark:
        f"{RESULTS}/benchmarks/classifier.jsonl"
    priority: 5
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        classifier=CONFIG.classifier.model_dump_json(),
        code=lambda wildcards: PLAN.code("classifier"),
    shell:
        "vaelab classifier --threads {threads} > {log:q} 2>&1"


rule measures:
    input:
        PLAN.evaluations(RUNS.by_id),
        rules.classifier.output,
        # The search's answer is measured as well.
        rules.search.output,
        searched,
    output:
        update(f"{RESULTS}/measures.json"),
    log:
        f"{RESULTS}/logs/measures.log",
    benchmark:
        f"{RESULTS}/benchmarks/measures.jsonl"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        runs=sorted(RUNS.alias),
        further=lambda wildcards: PLAN.further_seeds,
        code=lambda wildcards: PLAN.code("measures"),
    shell:
        "vaelab measure --threads {threads} > {log:q} 2>&1"


rule nll:
    input:
        PLAN.weights(PLAN.ids_of("table_1")),
        [PLAN.run_file(i, "metrics.json") for i in PLAN.ids_of("table_1")],
    output:
        update(f"{RESULTS}/nll.json"),
    log:
        f"{RESULTS}/logs/nll.log",
    benchmark:
        f"{RESULTS}/benchmarks/nll.jsonl"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        further=lambda wildcards: PLAN.further_seeds,
        code=lambda wildcards: PLAN.code("nll"),
    shell:
        "vaelab nll --threads {threads} > {log:q} 2>&1"


rule metrics:
    input:
        PLAN.evaluations(RUNS.by_id),
        rules.measures.output,
        rules.search.output,
    output:
        update(f"{RESULTS}/metrics.json"),
    log:
        f"{RESULTS}/logs/metrics.log",
    group:
        lambda wildcards: together("summary")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        runs=sorted(RUNS.alias),
        code=lambda wildcards: PLAN.code("metrics"),
    shell:
        "vaelab metrics > {log:q} 2>&1"
