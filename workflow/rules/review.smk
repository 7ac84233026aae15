# REQUIRED INPUTS: all results.
# OUTPUTS: claims.csv with a .md twin (a verdict for every claim of the report), index.html (the
# results page).


rule claims:
    input:
        PLAN.evaluations(RUNS.by_id),
        rules.measures.output,
        rules.search.output,
    output:
        csv=in_report("claims.csv", "Claims", "claims", "Claims"),
        md=update(f"{RESULTS}/claims.md"),
    log:
        f"{RESULTS}/logs/claims.log",
    benchmark:
        f"{RESULTS}/benchmarks/claims.jsonl"
    group:
        lambda wildcards: together("summary")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        made=made_by(CONFIG.preset, PLAN.seeds),
        runs=sorted(RUNS.alias),
        further=lambda wildcards: PLAN.further_seeds,
        # Both set the verdicts of other presets beside their own.
        elsewhere=lambda wildcards: PLAN.judged_elsewhere,
        code=lambda wildcards: PLAN.code("claims"),
    shell:
        "vaelab claims > {log:q} 2>&1"


rule page:
    input:
        rules.claims.output,
        rules.metrics.output,
        rules.measures.output,
        rules.search.output,
        REPORT_FILES,
        PLAN.weights(PLAN.ids_of("figure_13")),
    output:
        in_report("index.html", "Results page", "index", "Results page"),
    log:
        f"{RESULTS}/logs/page.log",
    benchmark:
        f"{RESULTS}/benchmarks/page.jsonl"
    group:
        lambda wildcards: together("summary")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        made=made_by(CONFIG.preset, PLAN.seeds),
        elsewhere=lambda wildcards: PLAN.judged_elsewhere,
        # Tables that `all` does not make, but the page shows.
        studies=lambda wildcards: PLAN.studies,
        code=lambda wildcards: PLAN.code("page"),
    shell:
        "vaelab review > {log:q} 2>&1"
