"""What the workflow plans with: checked runs, paths, labels, identities, costs and groups of jobs.

The rules in workflow/rules ask a `Plan` and decide nothing themselves. Nothing here imports
PyTorch, as Snakemake reads this at every start.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vaelab.data import DATASETS
from vaelab.data.own import register_own
from vaelab.estimators.registry import ESTIMATORS
from vaelab.output.catalogue import CATALOGUE
from vaelab.results.files import evaluation_files
from vaelab.search.algorithm import run_name
from vaelab.settings.config import MEANINGLESS, Config
from vaelab.settings.runs import Run, Runs, resolve
from vaelab.settings.spec import EVALUATION_SCHEMA, TRAINING_SCHEMA
from vaelab.training.methods import check, training_cost
from vaelab.util.code import code_digest
from vaelab.util.errors import VaelabError
from vaelab.util.extensions import load_extensions
from vaelab.util.io import atomic_write, file_sha256
from vaelab.util.registry import extensions_of_kind

# Jobs of a group on a cluster, roughly; longer trainings queue alone.
TRAININGS_PER_GROUP = 8
LONG_MINUTES = 60
DRAWING_GROUPS = 3


class Part(NamedTuple):
    """What a command makes of a preset as a whole; figures and tables are in the catalogue.

    Attributes:
        module: the code behind it.
        files: what it writes and puts on record.
        before: the parts that it is made from.
        runs: the evaluated runs that it is made from: those of a figure or table, "all" or "none".
            (Those of the search are in its decisions.)
    """

    module: str
    files: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    runs: str = "all"


_QUALITY = "vaelab.evaluation.quality"
PARTS = {
    "classifier": Part(_QUALITY, ("checkpoints/classifier.safetensors",), runs="none"),
    "measures": Part(_QUALITY, ("measures.json",), ("classifier", "search")),
    "nll": Part("vaelab.pipeline.nll", ("nll.json",), runs="table_1"),
    "metrics": Part("vaelab.pipeline.summary", ("metrics.json",), ("measures", "search")),
    "search": Part("vaelab.pipeline.search_steps", ("search/decisions.json",), runs="none"),
    "claims": Part("vaelab.original.claims", ("claims.csv", "claims.md"), ("measures", "search")),
    # Not on record: it says what the results cost, which a clone with restored weights cannot know.
    "page": Part("vaelab.output.page.collect", runs="none"),
}
# Parts that a figure or table is made from, beside runs and the search.
BESIDE = {"table_1": ("nll",)}

# A training this many times as long as half of the others starts before them.
LONG = 2.0

# Control file of NVIDIA's driver.
DRIVER = Path("/dev/nvidiactl")


def load_runs(config: Config, root: Path = Path()) -> Runs:
    """The resolved run table, every specification checked against the registries.

    Args:
        config: the validated settings.
        root: the folder that `config.runs` is relative to.

    Raises:
        VaelabError: an extension cannot be used, the table is not valid, settings name a run or a
            dataset that does not exist, or a specification names what is not registered or what
            does not go together.
    """
    load_extensions(config.extensions)
    register_own({name: own.path for name, own in config.data.own.items()})
    for name in config.data.sources:
        if name not in DATASETS:
            raise VaelabError(f"data.sources: {DATASETS.unknown(name)}")
    runs = resolve(config, root)
    for run in (*runs.by_id.values(), *runs.apart.values()):
        try:
            check(run.spec)
        except VaelabError as error:
            raise VaelabError(f"{config.runs}, run {run.name!r}: {error}") from error
    return runs


def needed_datasets(runs: Runs) -> list[str]:
    """Names of the datasets of all runs, in the order of the registry."""
    used = {run.spec.data.dataset for run in (*runs.by_id.values(), *runs.apart.values())}
    return [name for name in DATASETS if name in used]


def memory_mb() -> int:
    """Memory of this machine or, where that is less, of the container or job (cgroup)."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path("/sys/fs/cgroup", name).read_text()))
        except (OSError, ValueError):
            # Another version of cgroups, or "max".
            continue
    return min(limits) // 2**20


def growing(first: int) -> Callable[[Any, int], int]:
    """A resource of a job that doubles at each retry, as Snakemake takes it.

    Memory (MB) should be about twice the largest of a quick run's benchmarks, and 400 for the two
    Snakemake processes that a cluster's job runs in.
    """
    return lambda wildcards, attempt: first * 2 ** (attempt - 1)


def made_by(preset: str, seeds: str, samples: str = "") -> str:
    """The end of a caption in Snakemake's report: what the results were made by."""
    samples = samples and f", {samples} samples a run"
    warning = "\n\n**Smoke preset: numbers are meaningless.**" if preset == MEANINGLESS else ""
    return f"Preset {preset}, seeds {seeds}{samples}.{warning}"


@dataclass(frozen=True)
class Plan:
    """What the rules ask. Runs are named by their ids, files by their paths as text."""

    config: Config
    runs: Runs

    @property
    def results(self) -> str:
        """results/<preset>."""
        return self.config.folder.as_posix()

    @property
    def seeds(self) -> str:
        """The seeds, for captions."""
        return ", ".join(map(str, self.config.seeds))

    @property
    def gpus_per_run(self) -> int:
        """1 where trainings ask for a GPU. The driver's file tells of one without PyTorch."""
        if self.config.device != "auto":
            return int(self.config.device == "cuda")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1")
        return int(visible and DRIVER.exists())

    # Files

    def hand_over(self) -> str:
        """Write the settings for the commands of all jobs; its path.

        Named by content, since workflows of other settings may be at work in the same folder.
        One environment variable holds 128 KiB, which is 800 settings of runs.
        """
        text = self.config.model_dump_json()
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = Path(".snakemake", "vaelab", f"{name}.json").absolute()
        if not path.is_file():
            with atomic_write(path) as stream:
                stream.write(text)
        return str(path)

    def run_file(self, run_id: str, name: str) -> str:
        """A text or array file of a run."""
        return f"{self.results}/runs/{run_id}/{name}"

    def weights(self, run_ids: Iterable[str]) -> list[str]:
        """The weights of runs."""
        return [f"{self.results}/checkpoints/{i}.safetensors" for i in run_ids]

    def evaluations(self, run_ids: Iterable[str]) -> list[str]:
        """Everything that figures and tables may read of runs."""
        return [
            self.run_file(i, name)
            for i in run_ids
            for name in ("history.csv", "provenance.json", *evaluation_files(self.runs.run(i)))
        ]

    def dataset_files(self, name: str) -> list[str]:
        """The files of a dataset under the data folder."""
        root = Path(self.config.data.root)
        return [(root / file.path).as_posix() for file in DATASETS[name].files]

    def training_data(self, run_id: str) -> list[str]:
        """The files that a run is trained on."""
        return self.dataset_files(self.runs.run(run_id).spec.data.dataset)

    # Figures and tables

    def shown_by(self, target: str) -> tuple[str, ...]:
        """Names of the runs that a figure or table shows, as far as the run table has them."""
        return CATALOGUE[target].among([*self.runs.alias, *self.runs.apart_alias])

    def ids_of(self, target: str) -> list[str]:
        """Ids of those runs."""
        return self.runs.ids(self.shown_by(target))

    def seeds_of(self, target: str) -> str:
        """Seeds of the runs of a figure or table, for its caption."""
        return ", ".join(map(str, sorted({self.runs.run(i).seed for i in self.ids_of(target)})))

    def samples_of(self, target: str) -> str:
        """Training samples per run of a figure or table, for its caption."""
        samples = {self.runs.run(i).spec.budget.samples for i in self.ids_of(target)}
        return ", ".join(f"{n:,}".replace(",", " ") for n in sorted(samples))

    # What else they rest on

    def code(self, target: str) -> str:
        """A digest of the source code behind a figure, a table or one of `PARTS`."""
        if target in PARTS:
            added = extensions_of_kind("claim") if target == "claims" else []
            return code_digest(PARTS[target].module) + "".join(added)
        item = CATALOGUE[target]
        writing = "vaelab.output.writing"
        if item.extension is not None:
            return code_digest(writing) + item.extension
        drawn = [item.module, *["figures.images"] * item.pictures]
        return code_digest(writing, *(f"vaelab.output.{name}" for name in drawn))

    @property
    def judged_elsewhere(self) -> dict[str, str]:
        """Digests of the other presets' claims. As input Snakemake would lock two presets."""
        return {path.parent.name: file_sha256(path) for path in self.config.judged_elsewhere}

    @property
    def further_seeds(self) -> list[str]:
        """Runs on record with seeds that the settings lack; they enter spreads."""
        found = sorted(path.parent.name for path in self.config.folder.glob("runs/*/metrics.json"))
        seeds = set(map(str, self.config.seeds))
        return [i for i in found if i not in self.runs.apart and i.rpartition("-s")[2] not in seeds]

    @property
    def studies(self) -> dict[str, str]:
        """Digests of the tables that are there though `all` does not make them."""
        files = [self.config.folder / i.files["csv"] for i in CATALOGUE.values() if i.apart]
        return {path.stem: file_sha256(path) for path in files if path.is_file()}

    # Trainings

    def training_identity(self, run_id: str) -> str:
        """All that the trained weights depend on; of the data's content, what may change."""
        run = self.runs.run(run_id)
        images = DATASETS[run.spec.data.dataset]
        content = f" data {images.sha256}" if images.own else ""
        added = "".join(f" extension {digest}" for digest in run.spec.extensions)
        return f"{run.spec.canonical()} seed {run.seed} schema {TRAINING_SCHEMA}{content}{added}"

    @property
    def evaluation_identity(self) -> str:
        """The settings that an evaluation depends on."""
        return f"{self.config.evaluation.model_dump_json()} schema {EVALUATION_SCHEMA}"

    @property
    def likelihood_identity(self) -> str:
        """The same for a run with snapshots."""
        return (
            f"{self.config.evaluation.model_dump_json()} "
            f"{self.config.likelihood.model_dump_json()} schema {EVALUATION_SCHEMA}"
            + "".join(f" extension {digest}" for digest in extensions_of_kind(ESTIMATORS.kind))
        )

    def training_minutes(self, run_id: str, attempt: int = 1) -> int:
        """Limit on clusters: ten times what one core of 2022 needs, doubled at each retry."""
        cost = training_cost(self.runs.run(run_id).spec).multiply_adds
        minutes: int = int(15 + cost / 1e11) * 2 ** (attempt - 1)
        return minutes

    @property
    def longest(self) -> str:
        """A pattern for the ids of the runs that take far longer than most."""
        cost = {i: training_cost(run.spec).multiply_adds for i, run in self.runs.by_id.items()}
        limit = LONG * statistics.median(cost.values() or [0.0])
        return self.ids_where(lambda run: cost[run.id] > limit)

    def ids_where(self, condition: Callable[[Run], object]) -> str:
        """A pattern for the ids of the runs of `all` that meet a condition."""
        return "|".join(i for i, run in self.runs.by_id.items() if condition(run)) or "none"

    def training_group(self, run_id: str) -> str | None:
        """On a cluster, the group that a short training queues with; None for one that is alone.

        Probes of the search queue alone, because its next step waits for them.
        """
        if run_id not in self.runs.by_id or self.training_minutes(run_id) > LONG_MINUTES:
            return None
        groups = math.ceil(len(self.runs.by_id) / TRAININGS_PER_GROUP)
        return f"trainings_{sorted(self.runs.by_id).index(run_id) % groups}"

    def drawing_group(self, target: str) -> str | None:
        """On a cluster, the group of a figure or table; None for one that a checkpoint decides.

        Snakemake would lose such a job in a group (its issue 4202).
        """
        if CATALOGUE[target].searched:
            return None
        return f"drawing_{list(CATALOGUE).index(target) % DRAWING_GROUPS}"

    # The search

    def probes(self, architectures: Iterable[Iterable[int]]) -> list[str]:
        """Ids of the runs behind architectures: those of the run table where it has them."""
        return self.runs.ids(run_name(tuple(widths)) for widths in architectures)

    def probe_metrics(self, step: Mapping[str, Any]) -> list[str]:
        """The metrics of the probes that a finished step of the search asks for."""
        return [self.run_file(i, "metrics.json") for i in self.probes(step["probes"])]

    def searched(self, step: Mapping[str, Any]) -> list[str]:
        """Evaluations of every run that the search measured up to a step."""
        return self.evaluations(self.probes(step["measured"]))
