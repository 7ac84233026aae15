# Shared by all rules: the validated configuration, the resolved runs, the paths of their files.
#
# The layers config/config.yaml, config/presets/<preset>.yaml, --configfile, --config are merged
# here and handed to every command in VAELAB_CONFIG. A rule that depends on a setting names it
# in `params`, so that a changed setting reruns what depends on it and nothing else. Device and
# precision are no params: changing the machine retrains nothing.
#
# In another workflow's `module` the settings are those of its `config:` instead of the last two
# layers. What belongs to this workflow is found from ROOT, results and data from the working
# directory.
import math
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parents[1]
# This workflow goes with its own sources, whatever else is installed.
sys.path.insert(0, str(ROOT / "src"))

from vaelab.settings.config import CONFIG_FILE, preset_file, read_yaml, validate
from vaelab.data import DATASETS
from vaelab.output.catalogue import CATALOGUE, figures, tables
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json
from vaelab.search.algorithm import run_name
from vaelab.pipeline.planning import load_runs, needed_datasets
from vaelab.settings.spec import EVALUATION_SCHEMA, TRAINING_SCHEMA, VaePart
from vaelab.models.families import family_of
from vaelab.training.methods import training_cost


def load_configuration():
    """The validated configuration and the resolved run table, or one readable error."""
    if workflow.modifier.is_main_snakefile():
        # `config` holds the files too; the error for a bad key should name its file.
        given = [(str(path), read_yaml(path)) for path in workflow.configfiles]
        given.append(("--config", workflow.config_settings.config))
    else:
        given = [("the module's config", dict(config))]
    base = read_yaml(ROOT / CONFIG_FILE)
    if Path.cwd() != ROOT:
        base.setdefault("runs", str(ROOT / "config/runs.tsv"))
    preset = config.get("preset", base.get("preset"))
    overlay = read_yaml(preset_file(preset, ROOT))
    settings = validate(
        [
            (str(CONFIG_FILE), base),
            (f"config/presets/{preset}.yaml", overlay),
            *given,
        ]
    )
    return settings, load_runs(settings)


try:
    CONFIG, RUNS = load_configuration()
except VaelabError as error:
    raise WorkflowError(str(error)) from None

config.update(CONFIG.model_dump(mode="json"))
# Jobs find this workflow's `vaelab`, which runs in the first Python on the path: that of a conda
# environment where a job has one, else the one that runs Snakemake, activated or not.
folders = [str(ROOT / "workflow/bin"), str(Path(sys.executable).parent)]
os.environ.update(
    VAELAB_CONFIG=CONFIG.model_dump_json(),
    PATH=os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
)
# glibc hands every large tensor back to the kernel and faults it in again, a sixth of the
# training time; these thresholds keep the memory.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "1073741824")
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "1073741824")

RESULTS = CONFIG.folder.as_posix()
# With device: auto the driver's control file tells whether there is a GPU, without torch.
HAS_CARD = Path(os.sep, "dev", "nvidiactl").exists() and os.environ.get(
    "CUDA_VISIBLE_DEVICES", "all"
) not in ("", "-1")
GPUS_PER_RUN = int(CONFIG.device == "cuda" or (CONFIG.device == "auto" and HAS_CARD))
# Used with `--software-deployment-method conda`, and by nothing else.
ENVIRONMENT = f"../../envs/{'cuda' if GPUS_PER_RUN else 'cpu'}.yaml"
SEEDS = ", ".join(map(str, CONFIG.seeds))
# Groups of jobs on a cluster: some eight trainings each, six figures and tables, what comes last.
TRAININGS = [f"trainings_{n}" for n in range(math.ceil(len(RUNS.by_id) / 8))]
DRAWINGS = [f"drawing_{n}" for n in range(3)]
SUMMARY = "summary"


wildcard_constraints:
    run=r"[a-z][a-z0-9_]*-s\d+",
    step=r"\d+",


def run_file(run_id, name):
    """A text or array file of a run."""
    return f"{RESULTS}/runs/{run_id}/{name}"


def weights(run_ids):
    """The weights of runs."""
    return [f"{RESULTS}/checkpoints/{i}.safetensors" for i in run_ids]


def evaluations(run_ids):
    """Everything that figures and tables may read of runs."""
    names = ("metrics.json", "history.csv", "provenance.json", "arrays.npz")
    files = [run_file(i, name) for i in run_ids for name in names]
    return files + [
        run_file(i, name)
        for i in run_ids
        if RUNS.run(i).spec.budget.snapshots
        for name in ("likelihood.csv", "likelihood_final.csv")
    ]


def shown_by(target):
    """Names of the runs that a figure or table shows, as far as the run table has them."""
    return CATALOGUE[target].among(RUNS.alias)


def needed_by(target):
    """The evaluations of the runs that a figure or table shows."""
    return evaluations(RUNS.ids(shown_by(target)))


def seen_by(target):
    """Training samples per run of a target, for its caption."""
    samples = {RUNS.run(i).spec.budget.samples for i in RUNS.ids(shown_by(target))}
    return ", ".join(f"{n:,}".replace(",", " ") for n in sorted(samples))


def labels_of(target, form):
    """Labels of a figure or table; items that differ in one of them become a switch."""
    specs = [RUNS.run(i).spec for i in RUNS.ids(shown_by(target))]
    vaes = [spec for spec in specs if isinstance(spec.model, VaePart)]

    def joined(values):
        return ", ".join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in values
        )

    return {
        "item": CATALOGUE[target].label,
        "dataset": joined(sorted({DATASETS[s.data.dataset].title for s in specs})),
        "model": joined(sorted({family_of(spec).label(spec) for spec in specs})),
        "d": joined(sorted({spec.model.latent_dim for spec in vaes})),
        "beta": joined(sorted({spec.objective.beta for spec in vaes})),
        "split": CATALOGUE[target].split,
        "format": form,
    }


def dataset_files(name):
    """The files of a dataset under the data folder."""
    return [f"{CONFIG.data.root}/{file.path}" for file in DATASETS[name].files]


def training_identity(wildcards):
    """All that the trained weights depend on, besides the data's content."""
    run = RUNS.run(wildcards.run)
    return f"{run.spec.canonical()} seed {run.seed} schema {TRAINING_SCHEMA}"


def dataset_of(wildcards):
    # Content identifies data, not time: a fetched file that is merely newer retrains nothing.
    return ancient(dataset_files(RUNS.run(wildcards.run).spec.data.dataset))


def training_minutes(wildcards, attempt=1):
    """Limit for clusters: ten times what one core of 2022 needs, doubled at each retry."""
    return int(
        15 + training_cost(RUNS.run(wildcards.run).spec).multiply_adds / 1e11
    ) * 2 ** (attempt - 1)


def growing(first):
    """A resource that doubles at each retry.

    Memory: about twice the largest of a quick run's benchmarks, and 400 MB for the two Snakemakes
    that a cluster's job runs in.
    """
    return lambda wildcards, attempt: first * 2 ** (attempt - 1)


def together(name):
    """On a cluster, the group of all jobs with a name, which wait in its queue as one.

    Not for a job whose input a checkpoint decides: Snakemake would lose it (its issue 4202).
    """

    def group(wildcards):
        if name is None or not workflow.non_local_exec:
            return None
        # Snakemake keeps jobs that do not depend on each other apart, unless it is given a number
        # of them. Any less than all would merge further at each checkpoint (its issue 1217), and
        # --group-components does not reach the Snakemake inside of a Slurm job.
        settings = workflow.group_settings
        settings.group_components = {**settings.group_components, name: sys.maxsize}
        return name

    return group


def short_trainings(wildcards):
    """On a cluster, one of the groups of trainings that are soon over; a long one queues alone.

    So does a probe of the search: the next step waits for it.
    """
    if wildcards.run not in RUNS.by_id or training_minutes(wildcards) > 60:
        return None
    return together(
        TRAININGS[sorted(RUNS.by_id).index(wildcards.run) % len(TRAININGS)]
    )(wildcards)


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
