# REQUIRED INPUTS: the run `yardstick`, which is not part of `all`.
# OUTPUTS: yardstick.json, the test NLL of Burda et al.'s VAE beside the literature's.

# Of the first seed; none where a run table of one's own lacks it.
YARDSTICK = [i for i, run in RUNS.apart.items() if run.name == "yardstick"][:1]


rule yardstick:
    input:
        PLAN.weights(YARDSTICK),
        ancient(PLAN.dataset_files(DIGITS)),
    output:
        f"{RESULTS}/yardstick.json",
    log:
        f"{RESULTS}/logs/yardstick.log",
    benchmark:
        f"{RESULTS}/benchmarks/yardstick.jsonl"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    shell:
        "vaelab yardstick --threads {threads} > {log:q} 2>&1"
