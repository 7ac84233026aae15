"""What the workflow plans with: the runs of a configuration, checked, before any job starts.

Nothing here imports PyTorch, as Snakemake reads this at every start.
"""

from __future__ import annotations

from pathlib import Path

from vaelab.data.sources import DATASETS, find_dataset
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs, resolve


def load_runs(config: Config, root: Path = Path()) -> Runs:
    """The resolved run table, every specification checked against the registries.

    Args:
        config: the validated settings.
        root: the folder that `config.runs` is relative to.

    Raises:
        VaelabError: the table is not valid, settings name a run that it lacks, or a specification
            names a dataset that is not registered.
    """
    runs = resolve(config, root)
    for run in (*runs.by_id.values(), *runs.apart.values()):
        find_dataset(run.spec.dataset, DATASETS)
    return runs
