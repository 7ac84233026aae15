# REQUIRED INPUTS: data/raw/mnist/*, arrays.npz of every MNIST run.
# OUTPUTS: checkpoints/classifier.safetensors, measures.json (what the report did not measure),
# metrics.json (the headline numbers of all runs).
#
# Long lists of input files have no name: Snakemake hashes a named list once for each file in it,
# which for a table of 10 000 runs would take hours.


rule classifier:
    input:
        ancient(PLAN.dataset_files(DIGITS)),
    output:
        f"{RESULTS}/checkpoints/classifier.safetensors",
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
    shell:
        "vaelab classifier --threads {threads} > {log} 2>&1"


rule measures:
    input:
        PLAN.evaluations(RUNS.by_id),
        rules.classifier.output,
    output:
        f"{RESULTS}/measures.json",
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
    shell:
        "vaelab measure --threads {threads} > {log} 2>&1"


rule metrics:
    input:
        PLAN.evaluations(RUNS.by_id),
        rules.measures.output,
        rules.search.output,
    output:
        f"{RESULTS}/metrics.json",
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
    shell:
        "vaelab metrics > {log} 2>&1"
