# REQUIRED INPUTS: metrics of the probes that the steps before asked for.
# OUTPUTS: search/step_<n>.json (what to train next, or the answer), search/decisions.json.
#
# Each step is a checkpoint: after it Snakemake knows the next probes, which are ordinary runs.
from vaelab.io import read_json
from vaelab.search import run_name


localrules:
    search_step,
    search,


def probe_ids(architectures):
    """Ids of the runs behind architectures: the table's where it has them."""
    return RUNS.ids(run_name(tuple(architecture)) for architecture in architectures)


def search_step_of(step):
    """The content of a finished step (raises to make Snakemake run it first)."""
    return read_json(checkpoints.search_step.get(step=step).output[0])


def step_input(wildcards):
    """The step before, and the metrics of the probes it asked for."""
    step = int(wildcards.step)
    if step == 0:
        return []
    before = checkpoints.search_step.get(step=step - 1).output[0]
    probes = probe_ids(read_json(before)["probes"])
    return [before, *(run_file(i, "metrics.json") for i in probes)]


def last_step(wildcards):
    """The step that holds the answer."""
    step = 0
    while (content := search_step_of(step))["answer"] is None:
        step += 1
    return checkpoints.search_step.get(step=step).output[0]


def searched(wildcards):
    """Evaluations of every run that the search measured, and of its answer."""
    content = read_json(last_step(wildcards))
    return evaluations(probe_ids(content["measured"]))


checkpoint search_step:
    input:
        step_input,
    output:
        f"{RESULTS}/search/step_{{step}}.json",
    log:
        f"{RESULTS}/logs/search/step_{{step}}.log",
    params:
        search=CONFIG.search.model_dump_json(),
    shell:
        "vaelab search --step {wildcards.step} > {log} 2>&1"


rule search:
    input:
        last_step,
    output:
        f"{RESULTS}/search/decisions.json",
    log:
        f"{RESULTS}/logs/search/decisions.log",
    shell:
        "vaelab search --summary > {log} 2>&1"
