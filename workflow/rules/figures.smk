# REQUIRED INPUTS: evaluations of the runs that config/runs.tsv marks with the figure.
# OUTPUTS: figures/figure_<nn>.png, and an .svg twin where it is a plot.

SECTIONS = {
    1: "2 Reimplementation",
    2: "2 Reimplementation",
    3: "2 Reimplementation",
    4: "2 Reimplementation",
    5: "2 Reimplementation",
    6: "3 Other models",
    7: "3 Other models",
    8: "3 Other models",
    9: "3 Other models",
    10: "3 Other models",
    11: "4 Benchmarks",
    12: "4 Benchmarks",
    13: "4 Benchmarks",
    14: "4 Benchmarks",
    15: "5 Minimal architecture",
}
# Figures that are plots and get a vector twin.
PLOTS = (1, 2, 3, 6, 13, 14)

FIGURE_FILES = []

for number, section in SECTIONS.items():
    figure = f"figure_{number:02d}"
    files = {
        form: report(
            f"{RESULTS}/figures/{figure}.{form}",
            caption=f"../report/{figure}.rst",
            category=section,
            labels=labels_of(figure, f"Figure {number}", form),
        )
        for form in (("png", "svg") if number in PLOTS else ("png",))
    }
    FIGURE_FILES += files.values()

    rule:
        name:
            figure
        input:
            needed_by(figure),
            # The last figure also shows what our own search found.
            [rules.search.output, searched] if number == 15 else [],
        output:
            **files,
        log:
            f"{RESULTS}/logs/figures/{figure}.log",
        benchmark:
            f"{RESULTS}/benchmarks/figures/{figure}.jsonl"
        group:
            together(DRAWINGS[number % len(DRAWINGS)] if number != 15 else None)
        conda:
            ENVIRONMENT
        resources:
            mem_mb=growing(1000),
            runtime=growing(5),
        params:
            number=number,
            preset=CONFIG.preset,
            seeds=SEEDS,
            samples=seen_by(figure),
            runs=RUNS.used_by.get(figure, ()),
        shell:
            "vaelab figure {params.number} > {log} 2>&1"
