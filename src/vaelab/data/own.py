"""Arrays of your own: a .npz file that the setting `data.own` names is a dataset like any other."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from vaelab.data.readers import Arrays, Reader, content_sha256
from vaelab.data.registry import DATASETS, DataFile, DatasetEntry
from vaelab.util.errors import VaelabError

IMAGES, LABELS = ("train", "test"), ("train_labels", "test_labels")
# A sheet of reconstructions shows so many; with fewer, no measure of them means much.
LEAST = 100


class OwnReader(Reader):
    """One .npz file; its content is the file, byte by byte."""

    def arrays(self, contents: Sequence[bytes]) -> Arrays:
        """Images (N, H, W) and labels (N,), as uint8.

        Raises:
            VaelabError: the file is not as `docs/data.md` describes it; the text is the reason.
        """
        try:
            with np.load(io.BytesIO(contents[0]), allow_pickle=False) as archive:
                found = dict(archive)
        except (OSError, ValueError, EOFError, BadZipFile, AttributeError) as error:
            raise VaelabError("is not a .npz file of arrays") from error
        if not set(IMAGES) <= set(found) <= {*IMAGES, *LABELS} or len(found) == 3:
            raise VaelabError(
                f"has the arrays {', '.join(sorted(found))}; it takes {' and '.join(IMAGES)}, and "
                f"either both or none of {' and '.join(LABELS)}"
            )
        train, test = (_grey(name, found[name]) for name in IMAGES)
        if train.shape[1:] != test.shape[1:]:
            raise VaelabError(
                f"has images of {_size(train)} for training and of {_size(test)} for testing"
            )
        labels: list[np.ndarray | None] = [
            _labels(name, found[name], len(images)) if name in found else None
            for name, images in zip(LABELS, (train, test), strict=True)
        ]
        return Arrays(train, labels[0], test, labels[1])


def register_own(paths: Mapping[str, str]) -> None:
    """Make the datasets of `data.own` those that are registered, in place of an earlier setting's.

    Raises:
        VaelabError: a name is taken, or a file is missing or not as it should be.
    """
    for name in [name for name, entry in DATASETS.items() if entry.own]:
        DATASETS.remove(name)
    for name, path in paths.items():
        try:
            DATASETS.add(name, own_entry(name, Path(path)))
        except VaelabError as error:
            raise VaelabError(f"data.own.{name}: {error}") from error


def own_entry(name: str, path: Path) -> DatasetEntry:
    """The entry of a .npz file, which stays where it is.

    Raises:
        VaelabError: the file is missing or not as `docs/data.md` describes it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VaelabError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        arrays = OwnReader().arrays([content])
    except VaelabError as error:
        raise VaelabError(f"{path} {error}") from error
    labels = [each for each in (arrays.train_labels, arrays.test_labels) if each is not None]
    height, width = arrays.train_images.shape[1:]
    return DatasetEntry(
        name=name,
        title=name,
        image_shape=(height, width),
        train_images=len(arrays.train_images),
        test_images=len(arrays.test_images),
        classes=max((int(each.max()) + 1 for each in labels), default=0),
        files=(DataFile(name, path.name, content_sha256(content), (), path.resolve()),),
        reader=OwnReader(),
        sources=(),
    )


def _grey(name: str, images: np.ndarray[Any, Any]) -> np.ndarray:
    """Images as grey values; floats are rounded to the nearest of 256."""
    if images.ndim != 3 or len(images) < LEAST or 0 in images.shape:
        raise VaelabError(
            f"has {name} of shape {images.shape}; it takes (N, height, width), N at least {LEAST}"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise VaelabError(
            f"has {name} of type {images.dtype}; uint8 and floats in [0, 1] are taken"
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise VaelabError(
            f"has {name} from {low:g} to {high:g}; floats lie in [0, 1], grey values are uint8"
        )
    grey: np.ndarray = np.rint(255 * images).astype(np.uint8)
    return grey


def _labels(name: str, labels: np.ndarray[Any, Any], count: int) -> np.ndarray:
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.shape != (count,) or labels.min() < 0 or labels.max() > 255:
        raise VaelabError(
            f"has {name} of shape {labels.shape} and type {labels.dtype}; it takes one whole "
            f"number from 0 to 255 for each of the {count} images"
        )
    return labels.astype(np.uint8)


def _size(images: np.ndarray) -> str:
    return " x ".join(map(str, images.shape[1:]))
