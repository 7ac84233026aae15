# Entry point: `snakemake --cores 8 all`. What each rule reads and writes stands at the top of
# its file in workflow/rules.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/review.smk"
include: "workflow/rules/yardstick.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        rules.page.output,
        rules.claims.output,
        rules.metrics.output,
        FIGURE_FILES,
        TABLE_FILES,


rule data:
    input:
        dataset_files("mnist"),
        dataset_files("frey"),


rule models:
    input:
        weights(RUNS.by_id),
