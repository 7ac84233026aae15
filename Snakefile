# Entry point: `snakemake --cores 8 all`. The workflow itself is workflow/Snakefile.
include: "workflow/Snakefile"


# An included file's default target does not count.
workflow.default_target = "all"
