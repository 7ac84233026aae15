"""What the workflow plans with: the runs of a configuration, checked, before any job starts.

Nothing here imports PyTorch, as Snakemake reads this at every start.
"""

from __future__ import annotations

from pathlib import Path

from vaelab.data import DATASETS
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs, resolve
from vaelab.training.methods import check
from vaelab.util.errors import VaelabError


def load_runs(config: Config, root: Path = Path()) -> Runs:
    """The resolved run table, every specification checked against the registries.

    Args:
        config: the validated settings.
        root: the folder that `config.runs` is relative to.

    Raises:
        VaelabError: the table is not valid, settings name a run or a dataset that does not exist,
            or a specification names what is not registered or what does not go together.
    """
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
