"""`vaelab restore`: bring published weights, arrays and datasets here, verified.

They come from the DVC remote, or from a bundle, which also brings the records of runs that are
not in git. Everything is put into a folder beside the tree and verified there. Files are then
renamed into place, run by run; given again after a kill, the command goes on. Snakemake is told
last: it would otherwise not know with which settings the runs were trained, and so not notice a
change.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaelab.data import DATASETS, verify_dataset
from vaelab.data.pointers import pointer_path
from vaelab.data.store import SourceRecord, write_record
from vaelab.publishing import dvc
from vaelab.publishing.bundle import fetch_bundle, unpack_bundle
from vaelab.publishing.publication import (
    Publication,
    expected_fingerprint,
    pinned_datasets,
    problem,
    run_folders,
    weight_files,
)
from vaelab.results.files import (
    RunFiles,
    changed_settings,
    classifier_file,
    evaluation_identity,
)
from vaelab.results.told import tell_snakemake
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, one_at_a_time, read_json

# Where pulled files wait; in the project, for DVC works nowhere else.
STAGE = Path(".restore")
SNAKEMAKE_LOCKS = Path(".snakemake", "locks")
# There from before the first file is put in place until Snakemake has been told.
UNTOLD = Path(".snakemake", "restored-untold")

logger = logging.getLogger(__name__)


def restore(config: Config, runs: Runs, bundle: str | None = None) -> None:
    """Bring what is published of a preset, and the datasets, as far as they are not here.

    What is missing at the remote, or stale against the current settings, is named and left to
    the workflow.

    Args:
        config: names the preset.
        runs: the table.
        bundle: file, URL or DOI of a bundle to take in place of the DVC remote.

    Raises:
        VaelabError: damaged content (all of it is named, nothing is restored), DVC or a download
            failed, or Snakemake is at work here.
    """
    if SNAKEMAKE_LOCKS.is_dir() and any(SNAKEMAKE_LOCKS.iterdir()):
        raise VaelabError(
            "Snakemake is at work in this folder, or was killed; wait for it, or give "
            "`snakemake --unlock`"
        )
    with one_at_a_time(dvc.LOCKED_FOLDER):
        if bundle is not None:
            with _staged([]):
                file = fetch_bundle(bundle, STAGE / "downloads")
                bundled = unpack_bundle(file, config, (STAGE / config.folder).parent)
                _refuse_damaged(Path(), [], config.folder, bundled, bundle)
                _restore_results(config, runs, bundled, bundle)
            return
        datasets = pinned_datasets(config, verified=False)
        pointers = [
            *config.folder.glob("checkpoints.dvc"),
            *config.folder.glob("runs/*/arrays.npz.dvc"),
        ]
        publication = Publication.read(config.folder) if pointers else None
        if publication is None:
            logger.info(
                f"{config.preset}: no results of it are published here; the workflow will train"
            )
        remote = dvc.default_remote()
        if remote is None:
            logger.info(
                "DVC has no default remote, so nothing is restored; the workflow will train"
            )
            return
        # As DVC names it: from the project's root, where the stage is as well.
        root = Path(os.path.relpath(config.data.root))
        pointers += [pointer_path(DATASETS[name], root) for name in datasets]
        with _staged(pointers):
            dvc.pull(STAGE)
            _refuse_damaged(root, datasets, config.folder, publication, "DVC")
            _restore_datasets(root, datasets)
            if publication is not None:
                _restore_results(config, runs, publication, f"the remote {remote!r}")


@contextmanager
def _staged(pointers: Sequence[Path]) -> Iterator[None]:
    """Copy pointers to the stage, where DVC will put what they point to; clear it in the end."""
    shutil.rmtree(STAGE, ignore_errors=True)
    try:
        STAGE.mkdir()
        for pointer in pointers:
            (STAGE / pointer).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(pointer, STAGE / pointer)
        yield
    finally:
        shutil.rmtree(STAGE, ignore_errors=True)


def _refuse_damaged(
    root: Path,
    datasets: Sequence[str],
    folder: Path,
    publication: Publication | None,
    source: str,
) -> None:
    """Compare all that was brought with what was published, before any of it is put in place."""
    states = [state for name in datasets for state in verify_dataset(name, STAGE / root)]
    problems = [state.problem for state in states if state.state == "corrupt"]
    for path, published in publication.sha256.items() if publication else ():
        staged = STAGE / folder / path
        if staged.is_file() and (found := file_sha256(staged)) != published:
            problems.append(f"{folder / path}: has SHA-256 {found}, published was {published}")
    if problems:
        listed = "\n  ".join(problems)
        advice = (
            "Delete .dvc/cache, which only holds copies, and restore again. If that does not "
            "help, the remote is damaged: publish again from where the results are good."
            if source == "DVC"
            else "Get the file again, or bundle again where the results are good."
        )
        raise VaelabError(
            f"What {source} brought is damaged, so nothing was restored:\n  {listed}\n{advice}"
        )


def _restore_datasets(root: Path, names: Sequence[str]) -> None:
    for name in names:
        dataset = DATASETS[name]
        if not all((STAGE / root / file.path).is_file() for file in dataset.files):
            logger.info(f"{name}: not at the remote; the workflow will fetch it from its sources")
            continue
        for file in dataset.files:
            _place(root / file.path)
        origins = {file.name: "DVC remote" for file in dataset.files}
        write_record(dataset, root, SourceRecord(name, dataset.sha256, False, origins))
        logger.info(f"{name}: restored")


def _restore_results(
    config: Config,
    runs: Runs,
    publication: Publication,
    source: str,
) -> None:
    folder = config.folder
    if not any((STAGE / folder / path).is_file() for path in publication.sha256):
        logger.info(f"{config.preset}: {source} has nothing of it; the workflow will train")
        return

    def refuse() -> None:
        raise VaelabError(f"another workflow is at work on {folder}; wait for it to end")

    # The end of any workflow removes Snakemake's locks of all. This lock is the workflow's own.
    with one_at_a_time(folder, meanwhile=refuse):
        _place_results(config, runs, publication)


def _place_results(config: Config, runs: Runs, publication: Publication) -> None:
    folder = config.folder
    interrupted = UNTOLD.exists()
    UNTOLD.parent.mkdir(exist_ok=True)
    UNTOLD.touch()
    placed, whole = 0, []
    for run_id in sorted({*runs.by_id, *run_folders(folder), *run_folders(STAGE / folder)}):
        usable, reason = _usable(config, runs, publication, run_id)
        if reason:
            logger.info(reason)
        placed += sum(_place(path) for path in usable)
        if usable and problem(config, runs, RunFiles(folder, run_id), False) is None:
            whole.append(run_id)
    targets = [RunFiles(folder, run_id).checkpoint for run_id in whole]
    usable, reason = _usable_classifier(config, publication)
    if reason:
        logger.info(reason)
    placed += sum(_place(path) for path in usable)
    if placed or interrupted:
        tell_snakemake(config, [*targets, *usable])
    UNTOLD.unlink()
    logger.info(
        f"{config.preset}: {len(whole)} runs are as published, {placed} files were restored"
    )


def _usable(
    config: Config, runs: Runs, publication: Publication, run_id: str
) -> tuple[list[Path], str | None]:
    """Files of a run to be put in place, and what is wrong with the others."""
    files = RunFiles(config.folder, run_id)
    arrays = files.text("arrays.npz")
    try:
        run = runs.run(run_id)
    except VaelabError:
        return [], f"stale: {run_id} is no longer a run of {config.runs}"
    try:
        provenance = _record(files.text("provenance.json"))
        metrics = _record(files.text("metrics.json"))
    except VaelabError as error:
        return [], f"missing: {run_id} is not published ({error}); it will be trained"
    if provenance["fingerprint"] != expected_fingerprint(config, run, provenance):
        changed = changed_settings(run, provenance)
        what = f"another {', '.join(changed)}" if changed else "another seed, data or code"
        return [], f"stale: {run_id} was published with {what}; it will be trained again"
    absent = [p for p in (*weight_files(files, run), arrays) if not (STAGE / p).is_file()]
    if absent:
        names = ", ".join(map(str, absent))
        return [], f"missing: {names}: could not be brought; {run_id} will be trained"
    held = publication.sha256.get(files.checkpoint.relative_to(config.folder).as_posix())
    if held != provenance["checkpoint_sha256"]:
        return [], f"kept: {run_id} was trained here and differs from what is published"
    identity = evaluation_identity(config, run, provenance["checkpoint_sha256"])
    # Records come with a bundle; those in git stay as they are.
    staged = [path.relative_to(STAGE) for path in sorted((STAGE / files.text("")).iterdir())]
    texts = [path for path in staged if path.suffix in (".json", ".csv") and not path.is_file()]
    if metrics.get("evaluation") != identity:
        return (
            [*weight_files(files, run), *texts],
            f"stale: {run_id} was published with other evaluation settings; it will be evaluated "
            "again",
        )
    return [*weight_files(files, run), *texts, arrays], None


def _record(path: Path) -> Any:
    """A record that is here, else the one that came with the weights."""
    return read_json(path if path.is_file() else STAGE / path)


def _usable_classifier(config: Config, publication: Publication) -> tuple[list[Path], str | None]:
    path = classifier_file(config.folder)
    if publication.classifier != config.classifier.model_dump(mode="json"):
        return [], "stale: the classifier was published with other settings; it will be trained"
    if not (STAGE / path).is_file():
        return [], f"missing: {path}: could not be brought; the classifier will be trained"
    return [path], None


def _place(path: Path) -> bool:
    """Rename a file from the stage to its place, unless the same is there."""
    if path.is_file() and file_sha256(path) == file_sha256(STAGE / path):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    (STAGE / path).replace(path)
    return True
