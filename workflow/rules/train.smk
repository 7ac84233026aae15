# REQUIRED INPUTS: data/raw/<dataset>/*, rows of config/runs.tsv or probes of the search.
# OUTPUTS, per run: checkpoints/<run>.safetensors and runs/<run>/{history.csv,provenance.json,
# metrics.json,arrays.npz}; for the runs of Figure 3 also their likelihood tables.
#
# One job trains and then evaluates a run, in one process: importing torch takes as long as
# evaluating. Both stages are idempotent (a result with the right fingerprint is REUSED) and
# their outputs are `update`d, so a spurious trigger costs seconds and never a training.
# Snakemake would delete the state of an interrupted training if it were declared; it is not.


rule train:
    input:
        # Content identifies data, not time: a newer file with the same content retrains nothing.
        lambda wildcards: ancient(PLAN.training_data(wildcards.run)),
    output:
        checkpoint=update(f"{RESULTS}/checkpoints/{{run}}.safetensors"),
        history=update(PLAN.run_file("{run}", "history.csv")),
        provenance=update(PLAN.run_file("{run}", "provenance.json")),
        metrics=update(PLAN.run_file("{run}", "metrics.json")),
        arrays=update(PLAN.run_file("{run}", "arrays.npz")),
    log:
        f"{RESULTS}/logs/train/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{run}}.jsonl"
    # Before everything else that could run.
    priority: 10
    group:
        lambda wildcards: together(PLAN.training_group(wildcards.run))
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        # CUDA's libraries and its context are in the job's memory, too.
        mem_mb=growing(6000 if PLAN.gpus_per_run else 2000),
        runtime=lambda wildcards, attempt: PLAN.training_minutes(wildcards.run, attempt),
        gpu=PLAN.gpus_per_run,
    params:
        training=lambda wildcards: PLAN.training_identity(wildcards.run),
        evaluation=PLAN.evaluation_identity,
    shell:
        "vaelab train --evaluate --threads {threads} {wildcards.run} > {log:q} 2>&1"


# The longest start first, so that none is left for the end; then what the search may wait for.
use rule train as train_longest with:
    wildcard_constraints:
        run=PLAN.longest,
    priority: 30


use rule train as train_architecture with:
    wildcard_constraints:
        run="|".join(
            [
                r"arch_[\d_]+-s\d+",
                *PLAN.ids_of("table_2"),
                *PLAN.ids_of("table_3"),
            ]
        ),
    priority: 20


use rule train as train_likelihood with:
    output:
        checkpoint=update(f"{RESULTS}/checkpoints/{{run}}.safetensors"),
        snapshots=update(f"{RESULTS}/checkpoints/{{run}}.snapshots.safetensors"),
        history=update(PLAN.run_file("{run}", "history.csv")),
        provenance=update(PLAN.run_file("{run}", "provenance.json")),
        metrics=update(PLAN.run_file("{run}", "metrics.json")),
        arrays=update(PLAN.run_file("{run}", "arrays.npz")),
        likelihood=update(PLAN.run_file("{run}", "likelihood.csv")),
        final=update(PLAN.run_file("{run}", "likelihood_final.csv")),
    wildcard_constraints:
        run=PLAN.ids_where(lambda run: run.spec.budget.snapshots),
    priority: 30
    params:
        training=lambda wildcards: PLAN.training_identity(wildcards.run),
        evaluation=PLAN.likelihood_identity,


ruleorder: train_likelihood > train_longest > train_architecture > train
