# REQUIRED INPUTS: evaluations of the runs that output/catalogue.py names for the figure or table.
# OUTPUTS: figures/figure_<nn>.png, and an .svg twin where it is a plot; tables/table_<n>.csv and
# tables/likelihood.csv with .md twins, and the pictures of Table 3. As they are `update`d, the old
# one stays where a new one fails.

REPORT_FILES = []

for item in CATALOGUE.values():
    target, kind = item.target, item.kind
    caption = "extension" if item.extension else target
    files = {
        form: (
            update(f"{RESULTS}/{path}")
            if form == "md"
            else in_report(
                path,
                f"{item.label}: {item.title}",
                caption,
                item.category,
                f"{item.group}s",
                others=[] if item.apart else OTHERS,
            )
        )
        for form, path in item.files.items()
    }
    # As text: the flags of an output mean nothing on an input.
    REPORT_FILES += [] if item.apart else map(str, files.values())

    rule:
        name:
            target
        input:
            PLAN.evaluations(PLAN.ids_of(target)),
            # Some also show what our own search found.
            [rules.search.output, searched] if item.searched else [],
            [getattr(rules, part).output for part in BESIDE.get(target, ())],
        output:
            **files,
        log:
            f"{RESULTS}/logs/{kind}s/{target}.log",
        benchmark:
            f"{RESULTS}/benchmarks/{kind}s/{target}.jsonl"
        group:
            lambda wildcards, target=target: together(PLAN.drawing_group(target))
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            command=f"{kind} {item.key}",
            code=lambda wildcards, target=target: PLAN.code(target),
            # The captions say these.
            title=f"{item.label}: {item.title}",
            look=item.caption,
            made=made_by(CONFIG.preset, PLAN.seeds_of(target), PLAN.samples_of(target)),
            runs=PLAN.shown_by(target),
            # Further seeds on record enter tables.
            further=PLAN.further_seeds if kind == "table" else [],
        shell:
            "vaelab {params.command} > {log:q} 2>&1"
