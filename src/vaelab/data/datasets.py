"""Verified arrays for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vaelab.data.pointers import check_pointer
from vaelab.data.registry import DATASETS, DatasetEntry, Datasets
from vaelab.data.store import examine, read_record
from vaelab.util.errors import VaelabError
from vaelab.util.io import not_in_future

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


def load(
    name: str,
    root: str | Path = "data",
    *,
    allow_synthetic: bool = True,
    registry: Datasets = DATASETS,
) -> Dataset:
    """Read a dataset from the data folder and verify all of it.

    Hashing the 55 MB of MNIST takes some tens of milliseconds, so every load does it: a run
    can then vouch for the data it saw.

    Args:
        name: name of a registered dataset.
        root: the data folder.
        allow_synthetic: whether procedural images may stand in for the real ones.
        registry: the datasets that exist.

    Raises:
        VaelabError: no such dataset; a file is missing, corrupt or not what the dataset's DVC
            pointer pins; or the images are synthetic and may not be.
    """
    entry = registry[name]
    contents, synthetic = _read_verified(entry, Path(root))
    if synthetic and not allow_synthetic:
        raise VaelabError(
            f"{Path(root) / entry.files[0].path} holds synthetic images, which this preset does "
            f"not allow; run `vaelab fetch {name}` where a source of the real ones can be reached"
        )
    arrays = entry.reader.arrays(contents)
    return Dataset(
        name=name,
        train_images=arrays.train_images.reshape(len(arrays.train_images), -1),
        test_images=arrays.test_images.reshape(len(arrays.test_images), -1),
        train_labels=arrays.train_labels,
        test_labels=arrays.test_labels,
        image_shape=entry.image_shape,
        sha256=synthetic or entry.sha256,
        synthetic=synthetic is not None,
    )


def _read_verified(dataset: DatasetEntry, root: Path) -> tuple[list[bytes], str | None]:
    """Contents of the files, and the hash of the images if they are synthetic."""
    record = read_record(dataset, root)
    contents, synthetic = [], None
    for file in dataset.files:
        state, content = examine(dataset, file, root, record)
        if content is None:
            raise VaelabError(
                f"{dataset.name}: {state.state} data: {state.problem}\n"
                f"Run `vaelab fetch {dataset.name}` to get it."
            )
        if state.state == "synthetic" and record is not None:
            synthetic = record.sha256
        not_in_future(state.path)
        contents.append(content)
    if synthetic is None:
        check_pointer(dataset, root)
    return contents, synthetic
