# REQUIRED INPUTS: evaluations of the runs that config/runs.tsv marks with the table.
# OUTPUTS: tables/table_<n>.csv with a .md twin; for Table 3 also its pictures.

TABLE_SECTIONS = {1: "4 Benchmarks", 2: "5 Minimal architecture", 3: "6 Appendix"}

TABLE_FILES = []

for number, section in TABLE_SECTIONS.items():
    table = f"table_{number}"
    files = {
        "csv": report(
            f"{RESULTS}/tables/{table}.csv",
            caption=f"../report/{table}.rst",
            category=section,
            labels={"item": f"Table {number}", "format": "csv"},
        ),
        "md": f"{RESULTS}/tables/{table}.md",
    }
    if number == 3:
        files["png"] = report(
            f"{RESULTS}/tables/{table}.png",
            caption=f"../report/{table}.rst",
            category=section,
            labels={"item": f"Table {number}", "format": "png"},
        )
    TABLE_FILES += files.values()

    rule:
        name:
            table
        input:
            needed_by(table),
            [rules.search.output, searched] if number == 2 else [],
        output:
            **files,
        params:
            number=number,
            preset=CONFIG.preset,
            seeds=SEEDS,
            samples=seen_by(table),
            runs=RUNS.used_by.get(table, ()),
        log:
            f"{RESULTS}/logs/tables/{table}.log",
        benchmark:
            f"{RESULTS}/benchmarks/tables/{table}.jsonl"
        resources:
            mem_mb=1500,
            runtime=10,
        shell:
            "vaelab table {params.number} > {log} 2>&1"
