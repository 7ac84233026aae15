"""`vaelab publish`: version the results of a preset and send them to the remote."""

from __future__ import annotations

import logging
from pathlib import Path

from vaelab.data import DATASETS
from vaelab.data.pointers import check_pointer
from vaelab.publishing import dvc
from vaelab.publishing.publication import (
    Publication,
    finished_runs,
    pinned_datasets,
    refuse,
    weight_files,
)
from vaelab.results.files import RunFiles, classifier_file
from vaelab.results.provenance import ignored_by_git
from vaelab.settings.config import Config
from vaelab.settings.runs import Run, Runs
from vaelab.util.errors import VaelabError
from vaelab.util.io import one_at_a_time

logger = logging.getLogger(__name__)


def publish(config: Config, runs: Runs) -> None:
    """Put the weights and arrays of a preset, and its data, under DVC and push them.

    The text stays for the caller to commit; nothing is committed here.

    Raises:
        VaelabError: a run is unfinished, stale or from uncommitted code (all are named), git
            ignores the preset's results, there is no remote, or DVC failed.
    """
    folder = config.folder
    with one_at_a_time(dvc.LOCKED_FOLDER):
        remote = dvc.default_remote()
        if remote is None:
            raise VaelabError("DVC has no default remote to push to; see `dvc remote add --help`")
        if ignored_by_git(folder / "checkpoints.dvc"):
            raise VaelabError(
                f"git ignores {folder}, so preset {config.preset} is not one that is published; "
                f"take the line of {folder} out of .gitignore to publish it all the same"
            )
        published = finished_runs(config, runs, "published", committed=True)
        refuse(config, "published", _strangers(folder, published))
        checkpoints = folder / "checkpoints"
        arrays = [RunFiles(folder, run_id).text("arrays.npz") for run_id in published]
        held = [*sorted(checkpoints.glob("*.safetensors")), *arrays]
        Publication.of(config, held).write(folder)
        data = [DATASETS[name] for name in pinned_datasets(config, verified=True)]
        root = Path(config.data.root)
        for dataset in data:
            check_pointer(dataset, root)
        targets = [checkpoints, *arrays, *(root / "raw" / dataset.name for dataset in data)]
        dvc.add(targets)
        dvc.push([path.with_name(f"{path.name}.dvc") for path in targets])
    n = len(published)
    logger.info(f"{config.preset}: {n} runs are at the remote {remote!r}; commit their text now:")
    logger.info(f"  git add {folder} && git commit -m 'Publish {config.preset}'")


def _strangers(folder: Path, published: dict[str, Run]) -> list[str]:
    """Files among the checkpoints that are of no published run."""
    known = {classifier_file(folder)}
    for run_id, run in published.items():
        known |= {*weight_files(RunFiles(folder, run_id), run)}
    found = {p for p in (folder / "checkpoints").iterdir() if not p.name.startswith(".")}
    return [f"{path}: is of no run; delete it" for path in sorted(found - known)] + [
        f"{path}: is missing" for path in sorted(known - found)
    ]
