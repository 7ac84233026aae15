# Shared by all rules: the validated configuration and what is planned with it (`Plan`).
#
# The layers config/config.yaml, config/presets/<preset>.yaml, --configfile, --config are merged
# here and handed to every command in the file that VAELAB_CONFIG names. A rule that depends on a
# setting names it in `params`, so that a changed setting reruns what depends on it and nothing
# else. Device and precision are not in params: another machine retrains nothing. `code` in params
# is a digest of the source code behind the command.
#
# In another workflow's `module` the settings are those of its `config:` instead of the last two
# layers. What belongs to this workflow is found from ROOT, results and data from the working
# directory.
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Snakemake sets the folder of a workflow that is a module in no other place.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
if ROOT.is_dir():
    # This workflow goes with its own sources, whatever else is installed.
    sys.path.insert(0, str(ROOT / "src"))
else:
    # Deployed from the address of a repository, where Snakemake reads no more than rules: the
    # package is the one installed, config/ a copy in the working directory.
    ROOT = Path.cwd()
    if find_spec("vaelab") is None:
        raise WorkflowError(
            "the package vaelab is not installed: pip install git+REPOSITORY@REVISION"
        )

from vaelab.data import DATASETS
from vaelab.data.registry import DIGITS
from vaelab.output.catalogue import CATALOGUE
from vaelab.pipeline.planning import (
    BESIDE,
    Plan,
    growing,
    load_runs,
    made_by,
    memory_mb,
    needed_datasets,
)
from vaelab.settings.config import RUN_TABLE, load_config
from vaelab.util.errors import VaelabError
from vaelab.util.io import lock_for_good, read_json

try:
    # `config` has the layers merged; an error should name the file that has the bad key.
    if workflow.modifier.is_main_snakefile():
        layers = workflow.configfiles, workflow.config_settings.config
        source = "--config"
    else:
        layers, source = ((), config), "the module's config"
    table = {} if Path.cwd() == ROOT else {"runs": str(ROOT / RUN_TABLE)}
    CONFIG = load_config(*layers, ROOT, defaults=table, source=source)
    RUNS = load_runs(CONFIG)
except VaelabError as error:
    raise WorkflowError(str(error)) from None

PLAN = Plan(CONFIG, RUNS)
RESULTS = PLAN.results
config.update(CONFIG.model_dump(mode="json"))
# Jobs find this workflow's `vaelab`, which runs in the first Python on the path: that of a conda
# environment where a job has one, else the one that runs Snakemake, activated or not.
folders = [str(ROOT / "workflow/bin"), str(Path(sys.executable).parent)]
os.environ.update(
    VAELAB_CONFIG=PLAN.hand_over(),
    PATH=os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
)
# Packages of an HPC module would hide those of a virtual environment.
if sys.prefix != sys.base_prefix:
    os.environ.pop("PYTHONPATH", None)

# Used with `--software-deployment-method conda`, and by nothing else.
ENVIRONMENT = f"../../envs/{'cuda' if PLAN.gpus_per_run else 'cpu'}.yaml"


# For Snakemake's report: other presets' results, and what they have of this one's figures, tables
# and claims. While jobs run these are no input, since Snakemake would lock both presets.
OTHERS = [path.parent for path in CONFIG.judged_elsewhere]
TWINS = []
OTHER_CAPTION = workflow.current_basedir.join("../report/other.rst")


def in_report(path, item, caption, category, group=None, others=OTHERS):
    """An output that is updated and shown in Snakemake's report, beside its twins.

    The report makes a switch of a label with two values, each of half of a list, if no other label
    of the list has two: of the preset where twins are, else of the format.
    """
    form = Path(path).suffix[1:]
    labels = {"item": item, "format": form}
    if OTHERS:
        labels = {"item": item, "preset": CONFIG.preset}
        group = group and f"{group}, {form}"
    for twin in [folder / path for folder in others if (folder / path).is_file()]:
        theirs = {**labels, "preset": twin.relative_to(CONFIG.folder.parent).parts[0]}
        TWINS.append(report(str(twin), OTHER_CAPTION, category, group, theirs))
    return report(
        update(f"{RESULTS}/{path}"),
        caption=f"../report/{caption}.rst",
        category=category,
        subcategory=group,
        labels=labels,
    )


wildcard_constraints:
    run=r"[a-z][a-z0-9_]*-s\d+",
    step=r"\d+",


def together(name):
    """On a cluster, make the jobs with a group's name wait in the queue as one job."""
    # Only the workflow knows whether jobs leave this machine, and only after it was read.
    if name is None or not workflow.non_local_exec:
        return None
    # Snakemake keeps jobs that do not depend on each other apart, unless it is given a number of
    # them. Any less than all would merge further at each checkpoint (its issue 1217), and
    # --group-components does not reach the Snakemake inside of a Slurm job.
    settings = workflow.group_settings
    settings.group_components = {**settings.group_components, name: sys.maxsize}
    return name


def search_step(step):
    """File of a finished step of the search (raises to make Snakemake run it first)."""
    return checkpoints.search_step.get(step=step).output[0]


def step_input(wildcards):
    """The step before, and the metrics of the probes it asked for."""
    if wildcards.step == "0":
        return []
    before = search_step(int(wildcards.step) - 1)
    return [before, *PLAN.probe_metrics(read_json(before))]


def last_step(wildcards):
    """The step that holds the answer."""
    step = 0
    while read_json(search_step(step))["answer"] is None:
        step += 1
    return search_step(step)


def searched(wildcards):
    """Evaluations of every run that the search measured, and of its answer."""
    return PLAN.searched(read_json(last_step(wildcards)))
