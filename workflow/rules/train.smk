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
        dataset_of,
    output:
        checkpoint=update(f"{RESULTS}/checkpoints/{{run}}.safetensors"),
        history=update(run_file("{run}", "history.csv")),
        provenance=update(run_file("{run}", "provenance.json")),
        metrics=update(run_file("{run}", "metrics.json")),
        arrays=update(run_file("{run}", "arrays.npz")),
    log:
        f"{RESULTS}/logs/train/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train/{{run}}.jsonl"
    # Before everything else that could run.
    priority: 10
    group:
        short_trainings
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        # CUDA's libraries and its context are in the job's memory, too.
        mem_mb=growing(6000 if GPUS_PER_RUN else 2000),
        runtime=training_minutes,
        gpu=GPUS_PER_RUN,
    params:
        training=training_identity,
        evaluation=f"{CONFIG.evaluation.model_dump_json()} schema {EVALUATION_SCHEMA}",
    shell:
        "vaelab train --evaluate --threads {threads} {wildcards.run} > {log} 2>&1"


# The longest start first, so that none is left for the end; then what the search may wait for.
use rule train as train_vqvae with:
    wildcard_constraints:
        run="|".join(i for i, run in RUNS.by_id.items() if run.spec.model.family == "vqvae")
        or "none",
    priority: 30


use rule train as train_architecture with:
    wildcard_constraints:
        run="|".join(
            [
                r"arch_[\d_]+-s\d+",
                *RUNS.ids(shown_by("table_2")),
                *RUNS.ids(shown_by("table_3")),
            ]
        ),
    priority: 20


use rule train as train_likelihood with:
    output:
        checkpoint=update(f"{RESULTS}/checkpoints/{{run}}.safetensors"),
        snapshots=update(f"{RESULTS}/checkpoints/{{run}}.snapshots.safetensors"),
        history=update(run_file("{run}", "history.csv")),
        provenance=update(run_file("{run}", "provenance.json")),
        metrics=update(run_file("{run}", "metrics.json")),
        arrays=update(run_file("{run}", "arrays.npz")),
        likelihood=update(run_file("{run}", "likelihood.csv")),
        final=update(run_file("{run}", "likelihood_final.csv")),
    wildcard_constraints:
        run="|".join(i for i, run in RUNS.by_id.items() if run.spec.budget.snapshots) or "none",
    priority: 30
    params:
        training=training_identity,
        evaluation=f"{CONFIG.evaluation.model_dump_json()} "
        f"{CONFIG.likelihood.model_dump_json()} schema {EVALUATION_SCHEMA}",


ruleorder: train_likelihood > train_vqvae > train_architecture > train
