"""The data folder: which files are there, whether they are good, where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vaelab.data.readers import FormatError, content_sha256
from vaelab.data.registry import DATASETS, DataFile, DatasetEntry, Datasets
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json, write_json


@dataclass(frozen=True)
class FileState:
    """One file of the data folder, compared with the registry."""

    file: DataFile
    path: Path
    state: Literal["verified", "synthetic", "missing", "corrupt"]
    problem: str = ""
    """What is wrong, for a corrupt file with the hash found and that expected."""


@dataclass(frozen=True)
class SourceRecord:
    """Where the files of a dataset came from; `data/raw/<dataset>/source.json`."""

    dataset: str
    sha256: str
    """Of the content of the whole dataset, as `DatasetEntry.sha256` defines it."""
    synthetic: bool
    files: Mapping[str, str] = field(default_factory=dict)
    """Source of each file."""

    @property
    def source(self) -> str:
        """The sources in one line."""
        return "; ".join(dict.fromkeys(self.files.values()))

    def to_json(self) -> dict[str, Any]:
        """The record as it is written."""
        return asdict(self) | {"source": self.source}


def read_record(dataset: DatasetEntry, root: Path) -> SourceRecord | None:
    """The source record, or None where there is none that can be understood.

    A damaged record is not an error: it proves nothing, and the next fetch writes it again.
    """
    try:
        value = read_json(root / "raw" / dataset.name / "source.json")
        synthetic = value["synthetic"] is True
        return SourceRecord(dataset.name, str(value["sha256"]), synthetic, dict(value["files"]))
    except (VaelabError, ValueError, KeyError, TypeError):
        return None


def write_record(dataset: DatasetEntry, root: Path, record: SourceRecord) -> None:
    """Write the source record, unless it already says the same (its date then stays)."""
    if read_record(dataset, root) != record:
        write_json(root / "raw" / dataset.name / "source.json", record.to_json())


def examine(
    dataset: DatasetEntry, file: DataFile, root: Path, record: SourceRecord | None
) -> tuple[FileState, bytes | None]:
    """State of one file, and its content where that is verified or synthetic.

    Images count as synthetic only if the record says so and names their hash; the content alone
    decides what is real.
    """
    path = root / file.path
    try:
        content = dataset.reader.unpack(path.read_bytes())
    except FileNotFoundError:
        return FileState(file, path, "missing", f"{path} does not exist"), None
    except (OSError, FormatError) as error:
        reason = getattr(error, "strerror", None) or error
        return FileState(file, path, "corrupt", f"{path}: {reason}"), None
    found = content_sha256(content)
    if found == file.sha256:
        return FileState(file, path, "verified"), content
    if dataset.stand_in and record and record.synthetic and record.sha256 == found:
        return FileState(file, path, "synthetic", f"{path} holds synthetic images"), content
    problem = f"{path}: content has SHA-256 {found}, expected {file.sha256}"
    return FileState(file, path, "corrupt", problem), None


def verify_dataset(
    name: str, root: str | Path = "data", registry: Datasets = DATASETS
) -> tuple[FileState, ...]:
    """State of every file of a dataset, in registry order; nothing is changed.

    Raises:
        VaelabError: no such dataset.
    """
    dataset = registry[name]
    record = read_record(dataset, Path(root))
    return tuple(examine(dataset, file, Path(root), record)[0] for file in dataset.files)
