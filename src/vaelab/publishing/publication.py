"""What belongs to the publication of a preset, and the record of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab.data import DATASETS, verify_dataset
from vaelab.data.pointers import pointer_path
from vaelab.results.files import RunFiles
from vaelab.settings.config import Config
from vaelab.settings.runs import Run
from vaelab.settings.spec import fingerprint
from vaelab.util.io import read_json, write_json


@dataclass(frozen=True)
class Publication:
    """results/<preset>/publication.json.

    Attributes:
        sha256: of every file that DVC holds for the preset, by its path in results/<preset>.
        classifier: settings of the classifier among them, which has no provenance of its own.
    """

    sha256: dict[str, str]
    classifier: dict[str, Any]

    @staticmethod
    def path(folder: Path) -> Path:
        """Where the record of results/<preset> is."""
        return folder / "publication.json"

    @classmethod
    def read(cls, folder: Path) -> Publication:
        """The record of results/<preset>.

        Raises:
            VaelabError: it is missing or damaged.
        """
        return cls(**read_json(cls.path(folder)))

    def write(self, folder: Path) -> None:
        """Write the record of results/<preset>."""
        write_json(self.path(folder), {"sha256": self.sha256, "classifier": self.classifier})


def weight_files(files: RunFiles, run: Run) -> list[Path]:
    """Files of a run in the folder of checkpoints."""
    return [files.checkpoint, files.snapshots] if run.spec.budget.snapshots else [files.checkpoint]


def run_folders(folder: Path) -> list[str]:
    """Ids of the runs that results/<preset> has a folder of, probes of the search among them."""
    return sorted(path.name for path in (folder / "runs").glob("*") if path.is_dir())


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
