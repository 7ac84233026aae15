"""The data folder: what is in it, whether it is good, where it came from, and arrays of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vaelab.data.pointers import check_pointer
from vaelab.data.readers import Unusable, content_sha256
from vaelab.data.registry import DATASETS, DataFile, DatasetEntry
from vaelab.util.errors import VaelabError
from vaelab.util.io import not_in_future, read_json, write_json

# Seed of the binary images on which models of dynamically binarised ones are measured.
BINARY_SEED = 20150901


@dataclass(frozen=True)
class Dataset:
    """Images as flattened uint8 rows, (N, P) with P = height * width, and labels (N,)."""

    name: str
    train_images: np.ndarray
    test_images: np.ndarray
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    image_shape: tuple[int, int]
    """Height and width."""
    sha256: str
    """Identifies the content: `DatasetEntry.sha256`, or the pixels' own if synthetic."""
    synthetic: bool
    """Whether procedural images stand in for the real ones."""

    def binarized(self) -> Dataset:
        """The same with black and white pixels; a grey value is the probability of white.

        The draw is the same for all models, so that their likelihoods on a test set compare.
        """
        rng = np.random.default_rng(BINARY_SEED)

        def draw(images: np.ndarray) -> np.ndarray:
            white = 255.0 * rng.random(images.shape, dtype=np.float32) < images
            return white.astype(np.uint8) * np.uint8(255)

        # The test images first, so that they do not depend on the size of the training set.
        test = draw(self.test_images)
        return replace(self, test_images=test, train_images=draw(self.train_images))


@dataclass(frozen=True)
class FileState:
    """One file of the data folder, compared with the registry."""

    path: Path
    state: Literal["verified", "synthetic", "missing", "corrupt"]
    problem: str = ""
    """What is wrong, for a corrupt file with the hash found and that expected."""
    content: bytes | None = field(default=None, repr=False)
    """Where it is verified or synthetic."""


@dataclass(frozen=True)
class SourceRecord:
    """Where the files of a dataset came from; `data/raw/<dataset>/source.json`."""

    dataset: str
    sha256: str
    """Of the content of the whole dataset, as `DatasetEntry.sha256` defines it."""
    synthetic: bool
    files: Mapping[str, str]
    """Source of each file."""

    @property
    def source(self) -> str:
        """The sources in one line."""
        return "; ".join(dict.fromkeys(self.files.values()))


def load(name: str, root: str | Path = "data", *, allow_synthetic: bool = True) -> Dataset:
    """Read a dataset from the data folder and verify all of it.

    Hashing the 55 MB of MNIST takes some tens of milliseconds, so every load does it: a run
    can then vouch for the data it saw.

    Args:
        name: name of a registered dataset.
        root: the data folder.
        allow_synthetic: whether procedural images may stand in for the real ones.

    Raises:
        VaelabError: no such dataset; a file is missing, corrupt or not what the dataset's DVC
            pointer pins; or the images are synthetic and may not be.
    """
    dataset = DATASETS[name]
    sha256, synthetic, contents = dataset.sha256, False, []
    for file in verify_dataset(name, root):
        if file.content is None:
            raise VaelabError(
                f"{name}: {file.state} data: {file.problem}\nRun `vaelab fetch {name}` to get it."
            )
        if file.state == "synthetic":
            # Images that have a stand-in are all in one file.
            sha256, synthetic = content_sha256(file.content), True
        contents.append(file.content)
        not_in_future(file.path)
    if not synthetic:
        check_pointer(dataset, Path(root))
    elif not allow_synthetic:
        raise VaelabError(
            f"{Path(root) / dataset.files[0].path} holds synthetic images, which this preset does "
            f"not allow; run `vaelab fetch {name}` where a source of the real ones can be reached"
        )
    arrays = dataset.reader.arrays(contents)
    return Dataset(
        name=name,
        train_images=arrays.train_images.reshape(len(arrays.train_images), -1),
        test_images=arrays.test_images.reshape(len(arrays.test_images), -1),
        train_labels=arrays.train_labels,
        test_labels=arrays.test_labels,
        image_shape=dataset.image_shape,
        sha256=sha256,
        synthetic=synthetic,
    )


def verify_dataset(name: str, root: str | Path = "data") -> list[FileState]:
    """State of every file of a dataset, in registry order; nothing is changed."""
    dataset = DATASETS[name]
    record = read_record(dataset, Path(root))
    return [examine(dataset, file, Path(root), record) for file in dataset.files]


def examine(
    dataset: DatasetEntry, file: DataFile, root: Path, record: SourceRecord | None
) -> FileState:
    """State of one file.

    Images count as synthetic only if the record says so and names their hash; the content alone
    decides what is real.
    """
    path = root / file.path
    try:
        content = dataset.reader.unpack(path.read_bytes())
    except FileNotFoundError:
        return FileState(path, "missing", f"{path} does not exist")
    except OSError as error:
        return FileState(path, "corrupt", f"{path}: {error.strerror or error}")
    except Unusable as reason:
        return FileState(path, "corrupt", f"{path}: {reason}")
    found = content_sha256(content)
    if found == file.sha256:
        return FileState(path, "verified", content=content)
    if dataset.stand_in and record and record.synthetic and record.sha256 == found:
        return FileState(path, "synthetic", f"{path} holds synthetic images", content)
    problem = f"{path}: content has SHA-256 {found}, expected {file.sha256}"
    return FileState(path, "corrupt", problem)


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
        value = asdict(record) | {"source": record.source}
        write_json(root / "raw" / dataset.name / "source.json", value)
