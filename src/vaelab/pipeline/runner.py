"""Training and evaluating one run as files: idempotent, resumable, verified.

A run whose checkpoint carries the fingerprint that is asked for, and whose bytes are those
its provenance records, is never trained again, whatever made the workflow ask. The same
holds for its evaluation.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

from vaelab.data import Dataset, load
from vaelab.data.registry import DATASETS
from vaelab.evaluation.evaluator import evaluate
from vaelab.evaluation.likelihood import likelihood_tables
from vaelab.models.base import Model
from vaelab.models.families import build
from vaelab.models.vae import LatentVariableModel
from vaelab.results.files import (
    RunFiles,
    changed_settings,
    evaluated,
    evaluation_files,
    evaluation_identity,
    stale,
)
from vaelab.results.manifest import put_on_record
from vaelab.results.provenance import git_state, versions
from vaelab.results.trained import CheckpointRecord
from vaelab.settings.config import Config
from vaelab.settings.runs import Run
from vaelab.settings.spec import fingerprint
from vaelab.training.device import Compute
from vaelab.training.lease import compute_with, places
from vaelab.training.methods import training_cost
from vaelab.training.selfcheck import checked
from vaelab.training.state import load_tensors, save_tensors
from vaelab.training.termination import end_if_asked, termination
from vaelab.training.trainer import Trainer, TrainingResult
from vaelab.util.errors import VaelabError
from vaelab.util.io import (
    as_json,
    file_sha256,
    one_at_a_time,
    read_json,
    write_json,
    write_npz,
    write_rows,
)

logger = logging.getLogger(__name__)


def work_on_runs(
    config: Config,
    runs: Sequence[Run],
    *,
    training: bool = True,
    evaluation: bool = True,
    threads: int = 1,
) -> None:
    """Train and evaluate runs, one after another or, on GPUs, as many at once as they have places.

    Runs share nothing but the GPU: each has its own queue of kernels and its own random numbers,
    so what comes out does not depend on what ran beside it.

    Args:
        config: names results, devices and how many runs share a GPU.
        runs: what to work on.
        training: whether to train them.
        evaluation: whether to evaluate them.
        threads: CPU threads of each run.

    Raises:
        VaelabError: a run cannot be trained or evaluated. Runs not yet begun are left out then.
        SystemExit: the process was asked to end; states are saved.
    """

    def work(run: Run) -> None:
        end_if_asked()
        if training:
            train_run(config, run, threads=threads)
        if evaluation:
            evaluate_run(config, run, threads=threads)

    at_once = min(places(config), len(runs))
    if at_once <= 1:
        for run in runs:
            work(run)
        return
    for run in runs:
        # Once for all threads, before any of them asks.
        _dataset(config, run)

    def attempt(run: Run) -> None:
        try:
            work(run)
        except VaelabError as error:
            # Said at once: what is under way beside it may take hours yet.
            logger.info(f"{run.id}: failed: {error}")
            raise

    # The longest start first, so that none is left for the end.
    longest_first = sorted(runs, key=lambda run: training_cost(run.spec).kernels, reverse=True)
    with termination(), ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(attempt, run) for run in longest_first]
        try:
            left = set(waiting)
            while left:
                # A signal may reach another thread, and this one handles it only when it wakes.
                done, left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def train_run(config: Config, run: Run, *, threads: int = 1) -> None:
    """Train a run unless its verified result is there; write checkpoint, history, provenance.

    Raises:
        VaelabError: unusable data, a diverged training, or `require_cached` and no result.
    """
    files = RunFiles(config.folder, run.id)
    dataset = _dataset(config, run)
    identity = fingerprint(run.spec, run.seed, dataset.sha256)
    reason = stale(files, run, identity)
    if reason is not None:
        if config.require_cached:
            raise VaelabError(
                f"{run.id} would have to be trained ({reason}), but require_cached is on"
            )
        # A training orphaned by a killed workflow may still be at work on the same run.
        with one_at_a_time(files.text(""), meanwhile=end_if_asked):
            reason = stale(files, run, identity)
            if reason is not None:
                logger.info(f"{run.id}: training, because {reason}")
                _train_and_store(config, run, files, dataset, threads)
                return
    logger.info(f"{run.id}: REUSED, fingerprint {identity[:12]}")
    kept = [files.checkpoint, files.text("history.csv"), files.text("provenance.json")]
    for path in kept + ([files.snapshots] if run.spec.budget.snapshots else []):
        path.touch()


def _train_and_store(
    config: Config, run: Run, files: RunFiles, dataset: Dataset, threads: int
) -> None:
    identity = fingerprint(run.spec, run.seed, dataset.sha256)
    started = time.monotonic()
    # Now: the checkout may move on while these sources train.
    code = git_state(config.results)
    if code["revision"] is None:
        logger.info("no git checkout of these sources: their revision will not be on record")

    def work(compute: Compute) -> tuple[Compute, TrainingResult]:
        if config.device == "auto" and compute.device.type == "cuda":
            compute = checked(run.spec, run.seed, dataset, compute)
            if compute.left_out:
                logger.info(f"{run.id}: {compute.left_out}")
        trainer = Trainer(run.id, run.spec, run.seed, dataset, compute)
        return compute, trainer.run(
            resume=files.resume(compute.kind),
            resume_seconds=config.checkpoint_seconds,
            shorter=files.shorter(compute.kind),
            keep=files.kept(compute.kind) if config.keep_states else None,
        )

    compute, result = compute_with(config, threads, work)
    images = DATASETS[run.spec.data.dataset]
    record = CheckpointRecord(
        run.name, run.seed, run.spec, dataset.sha256, images.image_shape, images.classes
    )
    metadata = {"run": run.id, "fingerprint": identity, "versions": versions()} | record.metadata()
    snapshots = [] if result.snapshots is None else [files.snapshots]
    if result.snapshots is not None:
        save_tensors(
            files.snapshots,
            {"weights": result.snapshots},
            metadata | {"samples": result.snapshot_samples},
        )
    save_tensors(files.checkpoint, result.state, metadata)
    # An evaluation of the same weights, too: its hashes are in the old provenance.
    files.text("metrics.json").unlink(missing_ok=True)
    write_rows(files.text("history.csv"), result.history)
    write_json(
        files.text("provenance.json"),
        {
            "run": run.id,
            "fingerprint": identity,
            "checkpoint_sha256": file_sha256(files.checkpoint),
            "files": files.hashes([files.text("history.csv"), *snapshots]),
            "spec": run.spec.flat(),
            "seed": run.seed,
            "dataset": {
                "name": dataset.name,
                "sha256": dataset.sha256,
                "synthetic": dataset.synthetic,
            },
            "git": code,
            "versions": versions(),
            "device": compute.device.type,
            "precision": compute.precision,
            **({"left_out": compute.left_out} if compute.left_out else {}),
            **({"moves": result.moves} if result.moves else {}),
            "threads": threads,
            "samples": run.spec.budget.samples,
            "train_seconds": round(result.seconds, 3),
            "wall_seconds": round(time.monotonic() - started, 3),
            "core_seconds": round(result.core_seconds, 3),
        },
    )
    put_on_record(config.folder, [f"runs/{run.id}/provenance.json"])
    for state in files.resumes():
        state.unlink(missing_ok=True)


def evaluate_run(config: Config, run: Run, *, threads: int = 1) -> None:
    """Evaluate a trained run unless this very evaluation is there.

    Raises:
        VaelabError: the run has not been trained, or as another spec, or its checkpoint is not
            the one recorded.
    """
    files = RunFiles(config.folder, run.id)
    provenance = read_json(files.text("provenance.json"))
    changed = changed_settings(run, provenance)
    if changed:
        raise VaelabError(
            f"{run.id} was trained with another {', '.join(changed)}; train it again to evaluate it"
        )
    found = file_sha256(files.checkpoint) if files.checkpoint.is_file() else "missing"
    if found != provenance["checkpoint_sha256"]:
        raise VaelabError(
            f"{files.checkpoint}: SHA-256 {found}, but provenance.json records "
            f"{provenance['checkpoint_sha256']}; delete the checkpoint and train the run again"
        )
    identity = evaluation_identity(config, run, provenance["checkpoint_sha256"])
    if evaluated(files, run, identity):
        logger.info(f"{run.id}: evaluation REUSED")
        for name in evaluation_files(run):
            files.text(name).touch()
        return
    dataset = _dataset(config, run)
    started = time.monotonic()
    snapshots = load_tensors(files.snapshots) if run.spec.budget.snapshots else None

    def work(compute: Compute) -> tuple[Any, ...]:
        # Anew in each attempt: estimates along the training put other weights into it.
        model = load_model(files.checkpoint, run)
        measured = evaluate(run.spec, model, dataset, config.evaluation, compute)
        if snapshots is None:
            return measured
        tensors, metadata = snapshots
        assert isinstance(model, LatentVariableModel)
        return *measured, *likelihood_tables(
            run.id,
            run.spec,
            model,
            tensors["weights"],
            metadata["samples"],
            dataset,
            config.likelihood,
            compute,
        )

    measured, arrays, *likelihood = compute_with(config, threads, work)
    for name, rows in zip(("likelihood.csv", "likelihood_final.csv"), likelihood, strict=False):
        write_rows(files.text(name), rows)
    write_npz(files.text("arrays.npz"), arrays)
    metrics = {
        "run": run.id,
        "name": run.name,
        "seed": run.seed,
        "preset": config.preset,
        "spec": run.spec.flat() | {"seed": run.seed},
        "samples": run.spec.budget.samples,
        **measured,
        "evaluation": identity,
    }
    names = [name for name in evaluation_files(run) if name != "metrics.json"]
    hashes = files.hashes([files.text(name) for name in names]) | {
        f"runs/{run.id}/metrics.json": hashlib.sha256(as_json(metrics).encode()).hexdigest()
    }
    provenance["files"] = provenance.get("files", {}) | hashes
    # Beside the training's seconds, not among the metrics: those are the same in every repeat.
    provenance["evaluate_seconds"] = round(time.monotonic() - started, 3)
    write_json(files.text("provenance.json"), provenance)
    put_on_record(config.folder, [f"runs/{run.id}/provenance.json"])
    # Last: with its identity the evaluation is there, and nobody would put it on record.
    write_json(files.text("metrics.json"), metrics)
    logger.info(f"{run.id}: evaluated")


def load_model(checkpoint: Path, run: Run) -> Model:
    """The network of a run with its trained weights."""
    tensors, _ = load_tensors(checkpoint)
    model = build(run.spec)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise VaelabError(f"{checkpoint} does not hold the weights of {run.id}: {error}") from error
    return model


def _dataset(config: Config, run: Run) -> Dataset:
    return _read_once(
        run.spec.data.dataset,
        Path(config.data.root).resolve(),
        config.data.frey.fallback == "synthetic",
    )


@lru_cache(maxsize=2)
def _read_once(name: str, root: Path, allow_synthetic: bool) -> Dataset:
    """A dataset, read and verified once for both stages of a run, and for all runs."""
    return load(name, root, allow_synthetic=allow_synthetic)
