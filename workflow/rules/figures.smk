# REQUIRED INPUTS: evaluations of the runs that output/catalogue.py names for the figure or table.
# OUTPUTS: figures/figure_<nn>.png, and an .svg twin where it is a plot; tables/table_<n>.csv and
# tables/likelihood.csv with .md twins, and the pictures of Table 3.

REPORT_FILES = []

for position, item in enumerate(CATALOGUE.values()):
    target, kind = item.target, item.kind
    files = {
        form: (
            f"{RESULTS}/{path}"
            if form == "md"
            else report(
                f"{RESULTS}/{path}",
                caption=f"../report/{target}.rst",
                category=item.category,
                labels=labels_of(target, form),
            )
        )
        for form, path in item.files.items()
    }
    REPORT_FILES += files.values()

    rule:
        name:
            target
        input:
            needed_by(target),
            # Some also show what our own search found.
            [rules.search.output, searched] if item.searched else [],
        output:
            **files,
        log:
            f"{RESULTS}/logs/{kind}s/{target}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{kind}s/{target}.jsonl"
        group:
            together(None if item.searched else DRAWINGS[position % len(DRAWINGS)])
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            command=f"{kind} {item.key}",
            title=f"{item.label}: {item.title}",
            look=item.caption,
            preset=CONFIG.preset,
            seeds=SEEDS,
            samples=seen_by(target),
            runs=shown_by(target),
        shell:
            "vaelab {params.command} > {log} 2>&1"
