"""Verified arrays for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vaelab.data.formats import faces_array
from vaelab.data.idx import parse_idx
from vaelab.data.pointers import check_pointer
from vaelab.data.sources import DATASETS, RawDataset, Registry, find_dataset
from vaelab.data.store import examine, read_record
from vaelab.util.errors import VaelabError

FREY_IMAGE_SHAPE = (28, 20)
FREY_TEST_IMAGES = 400
# Seed of the Frey split. The report draws one at random and keeps no seed; any will do, but it is
# one for all runs, so that their numbers compare.
FREY_SPLIT_SEED = 20130530
# Seed of the binary images on which models of dynamically binarised ones are measured.
BINARY_SEED = 20150901


@dataclass(frozen=True)
class Dataset:
    """Images as flattened uint8 rows, (N, P) with P = height * width, and digit labels (N,)."""

    name: str
    train_images: np.ndarray
    test_images: np.ndarray
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    image_shape: tuple[int, int]
    """Height and width."""
    sha256: str
    """Identifies the content: `RawDataset.sha256`, or the pixels' own if synthetic."""
    synthetic: bool
    """Whether procedural faces stand in for Frey Face."""

    def binarized(self) -> Dataset:
        """The same with black and white pixels, white with the grey value as probability.

        One draw for all: of a test set, whose likelihoods then compare from model to model.
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
    registry: Registry = DATASETS,
) -> Dataset:
    """Read a dataset from the data folder, verifying all of it.

    Hashing the 55 MB of MNIST costs some tens of milliseconds, so every load does it: a run
    can then vouch for the data it saw.

    Args:
        name: "mnist" (60 000 / 10 000 images, labels) or "frey" (1565 / 400, no labels).
        root: the data folder.
        allow_synthetic: whether procedural faces may stand in for Frey Face.
        registry: the datasets that exist.

    Raises:
        VaelabError: a file is missing, corrupt or not what the dataset's DVC pointer pins, or
            the faces are synthetic and may not be.
    """
    dataset = find_dataset(name, registry)
    contents, synthetic = _read_verified(dataset, Path(root))
    if dataset.files[0].kind == "faces":
        if synthetic and not allow_synthetic:
            raise VaelabError(
                f"{Path(root) / dataset.files[0].path} holds synthetic faces, which this preset "
                f"does not allow; run `vaelab fetch {name}` where a source of the real ones can "
                "be reached"
            )
        train, test = split_faces(faces_array(contents[0]))
        return Dataset(
            name=name,
            train_images=train,
            test_images=test,
            train_labels=None,
            test_labels=None,
            image_shape=FREY_IMAGE_SHAPE,
            sha256=synthetic or dataset.sha256,
            synthetic=synthetic is not None,
        )
    train_images, train_labels, test_images, test_labels = (
        parse_idx(content, file.name) for content, file in zip(contents, dataset.files, strict=True)
    )
    height, width = train_images.shape[1:]
    return Dataset(
        name=name,
        train_images=train_images.reshape(len(train_images), -1),
        test_images=test_images.reshape(len(test_images), -1),
        train_labels=train_labels,
        test_labels=test_labels,
        image_shape=(height, width),
        sha256=dataset.sha256,
        synthetic=False,
    )


def split_faces(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of the face set: 400 random ones are the test set.

    Returns:
        (N - 400, P) and (400, P), in the order of a fixed permutation.
    """
    # RandomState, not default_rng: only its streams are promised never to change.
    order = np.random.RandomState(FREY_SPLIT_SEED).permutation(len(faces))
    return faces[order[FREY_TEST_IMAGES:]], faces[order[:FREY_TEST_IMAGES]]


def _read_verified(dataset: RawDataset, root: Path) -> tuple[list[bytes], str | None]:
    """Contents of the files, and the hash of the faces if they are synthetic."""
    record = read_record(dataset, root)
    contents, synthetic = [], None
    for file in dataset.files:
        state, content = examine(file, root, record)
        if content is None:
            raise VaelabError(
                f"{dataset.name}: {state.state} data: {state.problem}\n"
                f"Run `vaelab fetch {dataset.name}` to get it."
            )
        if state.state == "synthetic" and record is not None:
            synthetic = record.sha256
        contents.append(content)
    if synthetic is None:
        check_pointer(dataset, root)
    return contents, synthetic
