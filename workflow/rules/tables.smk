# REQUIRED INPUTS: evaluations of the runs that config/runs.tsv marks with the table.
# OUTPUTS: tables/table_<n>.csv with a .md twin; for Table 3 also its pictures;
# tables/likelihood.csv with a .md twin, the companion of Figure 3.

TABLE_SECTIONS = {1: "4 Benchmarks", 2: "5 Minimal architecture", 3: "6 Appendix"}

TABLE_FILES = []

for number, section in TABLE_SECTIONS.items():
    table = f"table_{number}"
    files = {
        form: report(
            f"{RESULTS}/tables/{table}.{form}",
            caption=f"../report/{table}.rst",
            category=section,
            labels=labels_of(table, f"Table {number}", form),
        )
        # Table 3 of the report has a picture of samples and reconstructions in every row.
        for form in (("csv", "png") if number == 3 else ("csv",))
    }
    files["md"] = f"{RESULTS}/tables/{table}.md"
    TABLE_FILES += files.values()

    rule:
        name:
            table
        input:
            needed_by(table),
            [rules.search.output, searched] if number == 2 else [],
        output:
            **files,
        log:
            f"{RESULTS}/logs/tables/{table}.log",
        benchmark:
            f"{RESULTS}/benchmarks/tables/{table}.jsonl"
        group:
            together(DRAWINGS[number % len(DRAWINGS)] if number != 2 else None)
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            number=number,
            preset=CONFIG.preset,
            seeds=SEEDS,
            samples=seen_by(table),
            runs=RUNS.used_by.get(table, ()),
        shell:
            "vaelab table {params.number} > {log} 2>&1"


rule table_likelihood:
    input:
        needed_by("figure_03"),
    output:
        csv=report(
            f"{RESULTS}/tables/likelihood.csv",
            caption="../report/table_likelihood.rst",
            category="2 Reimplementation",
            labels=labels_of("figure_03", "Companion of Figure 3", "csv"),
        ),
        md=f"{RESULTS}/tables/likelihood.md",
    log:
        f"{RESULTS}/logs/tables/table_likelihood.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/table_likelihood.jsonl"
    group:
        together(DRAWINGS[0])
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(1000),
        runtime=growing(5),
    params:
        preset=CONFIG.preset,
        seeds=SEEDS,
        samples=seen_by("figure_03"),
        runs=RUNS.used_by.get("figure_03", ()),
    shell:
        "vaelab table likelihood > {log} 2>&1"


TABLE_FILES += rules.table_likelihood.output
