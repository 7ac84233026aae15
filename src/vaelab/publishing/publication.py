"""What belongs to the publication of a preset, and the record of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vaelab.data import DATASETS, verify_dataset
from vaelab.data.pointers import pointer_path
from vaelab.results.files import RunFiles, evaluated, evaluation_identity, stale
from vaelab.settings.config import Config
from vaelab.settings.runs import Run, Runs
from vaelab.settings.spec import fingerprint
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, read_json, write_json


@dataclass(frozen=True)
class Publication:
    """publication.json of results/<preset>, or of a bundle of it.

    Attributes:
        sha256: of every file that DVC holds for the preset, or that is in the bundle, by its path
            in results/<preset>.
        classifier: settings of the classifier among them, which has no provenance of its own.
    """

    sha256: dict[str, str]
    classifier: dict[str, Any]

    @staticmethod
    def path(folder: Path) -> Path:
        """Where the record of results/<preset> is."""
        return folder / "publication.json"

    @classmethod
    def of(cls, config: Config, files: Iterable[Path]) -> Publication:
        """The record of files of a preset, as they are now."""
        hashes = {path.relative_to(config.folder).as_posix(): file_sha256(path) for path in files}
        return cls(hashes, config.classifier.model_dump(mode="json"))

    @classmethod
    def read(cls, folder: Path) -> Publication:
        """The record of results/<preset>.

        Raises:
            VaelabError: it is missing or damaged.
        """
        return cls(**read_json(cls.path(folder)))

    def write(self, folder: Path) -> None:
        """Write the record of results/<preset>."""
        write_json(self.path(folder), asdict(self))


def weight_files(files: RunFiles, run: Run) -> list[Path]:
    """Files of a run in the folder of checkpoints."""
    return [files.checkpoint, files.snapshots] if run.spec.budget.snapshots else [files.checkpoint]


def run_folders(folder: Path) -> list[str]:
    """Ids of the runs that results/<preset> has a folder of, probes of the search among them."""
    return sorted(path.name for path in (folder / "runs").glob("*") if path.is_dir())


def finished_runs(config: Config, runs: Runs, purpose: str, *, committed: bool) -> dict[str, Run]:
    """The runs of the table, and others that have files, by id.

    Args:
        config: names the preset.
        runs: the table.
        purpose: what they are needed for, for the message.
        committed: whether their code has to be on record.

    Raises:
        VaelabError: some are unfinished, stale or, if that matters, from uncommitted code.
    """
    ids = sorted({*runs.by_id, *run_folders(config.folder)})
    found = (problem(config, runs, RunFiles(config.folder, i), committed) for i in ids)
    refuse(config, purpose, [named for named in found if named])
    return {run_id: runs.run(run_id) for run_id in ids}


def refuse(config: Config, purpose: str, problems: Iterable[str]) -> None:
    """Raise a VaelabError that names all problems, if there are any."""
    if listed := "\n  ".join(problems):
        raise VaelabError(f"preset {config.preset} is not ready to be {purpose}:\n  {listed}")


def unfit(config: Config, run: Run, files: RunFiles) -> str | None:
    """Why the weights of a run are not those that the settings ask for; None where they are."""
    try:
        provenance = read_json(files.text("provenance.json"))
    except VaelabError:
        return "it has not been trained"
    return stale(files, run, expected_fingerprint(config, run, provenance))


def problem(config: Config, runs: Runs, files: RunFiles, committed: bool) -> str | None:
    """Why a run is not finished or, if that matters, not committed; None where it is."""
    try:
        run = runs.run(files.run_id)
    except VaelabError:
        return f"{files.run_id}: not a run of {config.runs}; delete its files"
    if reason := unfit(config, run, files):
        return f"{run.id}: {reason}"
    provenance = read_json(files.text("provenance.json"))
    identity = evaluation_identity(config, run, provenance["checkpoint_sha256"])
    if not evaluated(files, run, identity):
        return f"{run.id}: its evaluation is missing or of other settings"
    git = provenance["git"]
    if committed and git["revision"] is None:
        return f"{run.id}: trained outside a git checkout, so its code is not on record"
    if committed and git["dirty"]:
        return f"{run.id}: trained from uncommitted changes to revision {git['revision'][:12]}"
    return None


def expected_fingerprint(config: Config, run: Run, provenance: dict[str, Any]) -> str:
    """The run's fingerprint as it should be, on real data or, where allowed, on a stand-in."""
    data = provenance["dataset"]
    if data["synthetic"] and config.data.frey.fallback == "synthetic":
        return fingerprint(run.spec, run.seed, data["sha256"])
    return fingerprint(run.spec, run.seed, DATASETS[run.spec.data.dataset].sha256)


def pinned_datasets(config: Config, *, verified: bool) -> list[str]:
    """Datasets with a pointer that are here, whole and real (`verified`), or that are not."""
    root = Path(config.data.root)
    return [
        name
        for name, dataset in DATASETS.items()
        if pointer_path(dataset, root).is_file()
        and verified == all(file.state == "verified" for file in verify_dataset(name, root))
    ]
