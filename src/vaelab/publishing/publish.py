"""`vaelab publish`: version the results of a preset and send them to the remote."""

from __future__ import annotations

import logging
from pathlib import Path

from vaelab.data import DATASETS
from vaelab.data.pointers import check_pointer
from vaelab.publishing import dvc
from vaelab.publishing.publication import (
    Publication,
    expected_fingerprint,
    pinned_datasets,
    run_folders,
    weight_files,
)
from vaelab.results.files import (
    RunFiles,
    classifier_file,
    evaluated,
    evaluation_identity,
    stale,
)
from vaelab.results.provenance import ignored_by_git
from vaelab.settings.config import Config
from vaelab.settings.runs import Run, Runs
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, one_at_a_time, read_json

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
        if ignored_by_git(folder / "checkpoints.dvc"):
            raise VaelabError(
                f"git ignores {folder}, so preset {config.preset} is not one that is published; "
                f"take the line of {folder} out of .gitignore to publish it all the same"
            )
        remote = dvc.default_remote()
        if remote is None:
            raise VaelabError("DVC has no default remote to push to; see `dvc remote add --help`")
        ids = sorted({*runs.by_id, *run_folders(folder)})
        files = {run_id: RunFiles(folder, run_id) for run_id in ids}
        problems = [p for i in ids if (p := _problem(config, runs, files[i]))]
        if not problems:
            published = {i: runs.run(i) for i in ids}
            problems = _strangers(folder, published)
        if problems:
            raise VaelabError(
                f"preset {config.preset} is not ready to be published:\n  " + "\n  ".join(problems)
            )
        checkpoints = folder / "checkpoints"
        arrays = [files[i].text("arrays.npz") for i in ids]
        held = [*sorted(checkpoints.glob("*.safetensors")), *arrays]
        Publication(
            {path.relative_to(folder).as_posix(): file_sha256(path) for path in held},
            config.classifier.model_dump(mode="json"),
        ).write(folder)
        data = [DATASETS[name] for name in pinned_datasets(config, verified=True)]
        root = Path(config.data.root)
        for dataset in data:
            check_pointer(dataset, root)
        targets = [checkpoints, *arrays, *(root / "raw" / dataset.name for dataset in data)]
        dvc.add(targets)
        dvc.push([path.with_name(f"{path.name}.dvc") for path in targets])
    logger.info(
        f"{config.preset}: {len(ids)} runs are at the remote {remote!r}; commit their text now:"
    )
    logger.info(f"  git add {folder} && git commit -m 'Publish {config.preset}'")


def _problem(config: Config, runs: Runs, files: RunFiles) -> str | None:
    """Why a run cannot be published; None where it can."""
    try:
        run = runs.run(files.run_id)
    except VaelabError:
        return f"{files.run_id}: not a run of {config.runs}; delete its files"
    try:
        provenance = read_json(files.text("provenance.json"))
    except VaelabError:
        return f"{run.id}: it has not been trained"
    reason = stale(files, run, expected_fingerprint(config, run, provenance))
    if reason:
        return f"{run.id}: {reason}"
    identity = evaluation_identity(config, run, provenance["checkpoint_sha256"])
    if not evaluated(files, run, identity):
        return f"{run.id}: its evaluation is missing or of other settings"
    git = provenance["git"]
    if git["revision"] is None:
        return f"{run.id}: trained outside a git checkout, so its code is not on record"
    if git["dirty"]:
        return f"{run.id}: trained from uncommitted changes to revision {git['revision'][:12]}"
    return None


def _strangers(folder: Path, published: dict[str, Run]) -> list[str]:
    """Files among the checkpoints that are of no published run."""
    known = {classifier_file(folder)}
    for run_id, run in published.items():
        known |= {*weight_files(RunFiles(folder, run_id), run)}
    found = {p for p in (folder / "checkpoints").iterdir() if not p.name.startswith(".")}
    return [f"{path}: is of no run; delete it" for path in sorted(found - known)] + [
        f"{path}: is missing" for path in sorted(known - found)
    ]
