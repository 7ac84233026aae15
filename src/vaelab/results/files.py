"""The files of a run, and whether they are up to date. Imports no PyTorch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab.settings.config import Config
from vaelab.settings.runs import Run
from vaelab.settings.spec import EVALUATION_SCHEMA
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, read_json
from vaelab.util.registry import extensions_of_kind


@dataclass(frozen=True)
class RunFiles:
    """Paths of one run under results/<preset>."""

    folder: Path
    run_id: str

    @property
    def checkpoint(self) -> Path:
        """Weights."""
        return self.folder / "checkpoints" / f"{self.run_id}.safetensors"

    @property
    def snapshots(self) -> Path:
        """Weights during the training (likelihood runs only)."""
        return self.folder / "checkpoints" / f"{self.run_id}.snapshots.safetensors"

    def resume(self, kind: str) -> Path:
        """Resumable state of an unfinished training on one kind of device ("cpu-bf16").

        Snakemake does not know this file, so a rerun keeps it. A training that moves to another
        kind of device starts anew there and does not touch the state of the first.
        """
        return self.folder / "checkpoints" / ".resume" / f"{self.run_id}.{kind}.safetensors"

    def resumes(self) -> list[Path]:
        """The existing states of the unfinished training, of any device."""
        pattern = self.resume("*")
        return sorted(pattern.parent.glob(pattern.name))

    def kept(self, kind: str) -> Path:
        """State at the end of a training, from which one with a larger budget can go on."""
        return self.folder / "states" / f"{self.run_id}.{kind}.safetensors"

    def shorter(self, kind: str) -> list[Path]:
        """Kept states of the run, of this and other presets; first those of one kind of device."""
        kept, any_kind = self.kept(kind), self.kept("*")
        found = self.folder.parent.glob(f"*/{any_kind.parent.name}/{any_kind.name}")
        return sorted(found, key=lambda path: (path.name != kept.name, path))

    def text(self, name: str) -> Path:
        """A file of results/<preset>/runs/<run>."""
        return self.folder / "runs" / self.run_id / name

    def hashes(self, paths: Iterable[Path]) -> dict[str, str]:
        """SHA-256 of files by their paths in results/<preset>."""
        return {path.relative_to(self.folder).as_posix(): file_sha256(path) for path in paths}

    def intact(self, provenance: Mapping[str, Any], paths: Iterable[Path]) -> bool:
        """Whether files are as the provenance records them; an earlier version recorded none."""
        recorded = provenance.get("files", {})
        return all(recorded.get(path, held) == held for path, held in self.hashes(paths).items())


def classifier_file(folder: Path) -> Path:
    """Weights of the digit classifier that judges the images of a preset."""
    return folder / "checkpoints" / "classifier.safetensors"


def changed_settings(run: Run, provenance: Mapping[str, Any]) -> list[str]:
    """Fields of a run's specification that differ from those it was trained with."""
    spec = run.spec.flat()
    return [key for key in spec if provenance["spec"].get(key) != spec[key]]


def stale(files: RunFiles, run: Run, identity: str) -> str | None:
    """Why the run's files are out of date; None if they are up to date."""
    try:
        provenance = read_json(files.text("provenance.json"))
    except VaelabError:
        return "it has not been trained"
    if provenance.get("fingerprint") != identity:
        return "its fingerprint changed"
    if not files.checkpoint.is_file():
        return "its checkpoint is missing"
    if file_sha256(files.checkpoint) != provenance.get("checkpoint_sha256"):
        return "its checkpoint is not the one its provenance records"
    if not files.text("history.csv").is_file():
        return "its history is missing"
    if run.spec.budget.snapshots and not files.snapshots.is_file():
        return "its snapshots are missing"
    snapshots = [files.snapshots] if run.spec.budget.snapshots else []
    if not files.intact(provenance, [files.text("history.csv"), *snapshots]):
        return "its history or snapshots are not those its provenance records"
    return None


def evaluation_identity(config: Config, run: Run, checkpoint_sha256: str) -> str:
    """SHA-256 over everything that determines the evaluation of a checkpoint."""
    settings = config.evaluation.model_dump(mode="json")
    if run.spec.budget.snapshots:
        settings |= config.likelihood.model_dump(mode="json")
    parts = [EVALUATION_SCHEMA, checkpoint_sha256, settings]
    extensions = list(run.spec.extensions)
    if run.spec.budget.snapshots:
        # The kind of `estimators.registry.ESTIMATORS`.
        extensions += extensions_of_kind("estimator of log p(x)")
    # Left out where there are none, as evaluations from before there were extensions are valid.
    parts += [extensions] if extensions else []
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def evaluation_files(run: Run) -> list[str]:
    """Names of the files that the evaluation of a run writes."""
    names = ["metrics.json", "arrays.npz"]
    return (
        names + ["likelihood.csv", "likelihood_final.csv"] if run.spec.budget.snapshots else names
    )


def evaluated(files: RunFiles, run: Run, identity: str) -> bool:
    """Whether the evaluation of a run is up to date."""
    paths = [files.text(name) for name in evaluation_files(run)]
    if not all(path.is_file() for path in paths):
        return False
    try:
        metrics = read_json(files.text("metrics.json"))
        provenance = read_json(files.text("provenance.json"))
    except VaelabError:
        return False
    return metrics.get("evaluation") == identity and files.intact(provenance, paths)
