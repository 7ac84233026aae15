"""Arrays of one's own as a dataset: what is taken, what is refused, and that content counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from toys import toy_spec, toy_vqvae_spec
from vaelab.data import DATASETS, fetch_dataset, load
from vaelab.data.own import register_own
from vaelab.settings.spec import fingerprint
from vaelab.training.methods import check
from vaelab.util.errors import VaelabError

MIRROR = os.environ.get("VAELAB_DATA_MIRROR")
DIGITS = load_digits()
# 1797 digits of 8 x 8 with 17 grey levels.
IMAGES, LABELS = DIGITS.images / 16, DIGITS.target
SPLIT = {
    "train": IMAGES[:1500],
    "test": IMAGES[1500:],
    "train_labels": LABELS[:1500],
    "test_labels": LABELS[1500:],
}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """Where the file of the dataset `digits8` is."""
    yield tmp_path / "digits.npz"
    register_own({})


def registered(path: Path, **arrays: np.ndarray) -> None:
    np.savez(path, **arrays)
    register_own({"digits8": str(path)})


def test_floats_become_grey_values_with_their_labels(own: Path) -> None:
    registered(own, **SPLIT)
    entry, data = DATASETS["digits8"], load("digits8", own.parent / "elsewhere")
    assert (entry.image_shape, entry.classes, entry.pixels) == ((8, 8), 10, 64)
    assert (entry.train_images, entry.test_images) == (1500, 297)
    np.testing.assert_array_equal(data.train_images, np.rint(IMAGES[:1500] * 255).reshape(-1, 64))
    np.testing.assert_array_equal(data.test_labels, LABELS[1500:])
    assert data.train_images.dtype == data.train_labels.dtype == np.uint8
    assert not data.synthetic
    assert data.sha256 == entry.sha256


def test_the_content_counts_and_not_the_name_or_the_date(own: Path, tmp_path: Path) -> None:
    registered(own, **SPLIT)
    spec = toy_spec(dataset="digits8")
    first = fingerprint(spec, 0, DATASETS["digits8"].sha256)
    registered(tmp_path / "again.npz", **SPLIT)
    assert fingerprint(spec, 0, DATASETS["digits8"].sha256) == first
    registered(own, **SPLIT | {"test": IMAGES[1500:][::-1]})
    assert fingerprint(spec, 0, DATASETS["digits8"].sha256) != first
    with open(own, "ab") as stream:
        stream.write(b"!")
    with pytest.raises(VaelabError, match="digits8: corrupt data: .* has SHA-256"):
        load("digits8")


def test_what_a_model_asks_of_the_images(own: Path) -> None:
    registered(own, train=IMAGES[:1500, :, :6], test=IMAGES[1500:, :, :6])
    assert DATASETS["digits8"].classes == 0
    assert load("digits8").train_labels is None
    check(toy_spec(dataset="digits8"))
    with pytest.raises(VaelabError, match="digits8 has no labels to condition on"):
        check(toy_spec(dataset="digits8", condition="onehot"))
    with pytest.raises(VaelabError, match="sides divisible by 4; digits8 has 8 x 6"):
        check(toy_vqvae_spec(dataset="digits8"))
    with pytest.raises(VaelabError, match="train_subset is at most 1500"):
        check(toy_spec(dataset="digits8", train_subset=1501))


@pytest.mark.skipif(not MIRROR, reason="VAELAB_DATA_MIRROR names no mirror of MNIST")
def test_mnist_written_out_is_mnist(own: Path, tmp_path: Path) -> None:
    fetch_dataset("mnist", tmp_path, base_urls={"mnist": []})
    real = load("mnist", tmp_path)
    images = {
        "train": real.train_images.reshape(-1, 28, 28),
        "test": real.test_images.reshape(-1, 28, 28).astype(np.float32) / 255,
    }
    registered(own, **images, train_labels=real.train_labels, test_labels=real.test_labels)
    written = load("digits8")
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(written, name), getattr(real, name))
    assert (DATASETS["digits8"].image_shape, DATASETS["digits8"].classes) == ((28, 28), 10)
    check(toy_vqvae_spec(dataset="digits8"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test": None}, "has the arrays test_labels, train, train_labels; it takes train and"),
        ({"test_labels": None}, "either both or none of train_labels and test_labels"),
        ({"masks": LABELS}, "has the arrays masks, test"),
        ({"train": IMAGES[:1500].reshape(1500, 64)}, r"has train of shape \(1500, 64\)"),
        ({"train": IMAGES[:99]}, r"has train of shape \(99, 8, 8\); .* N at least 100"),
        ({"test": IMAGES[1500:, :7]}, "images of 8 x 8 for training and of 7 x 8 for testing"),
        ({"test": DIGITS.images[1500:]}, "has test from 0 to 16; floats lie in"),
        ({"test": DIGITS.images[1500:].astype(int)}, "has test of type int64"),
        ({"test": np.full((297, 8, 8), np.nan)}, "has test from nan to nan"),
        ({"test_labels": LABELS[1500:] - 1}, "has test_labels .* one whole number from 0 to 255"),
        ({"test_labels": LABELS[1501:]}, r"has test_labels of shape \(296,\)"),
        ({"test_labels": LABELS[1500:] / 2}, "type float64"),
        ({"test_labels": LABELS[1500:].astype(object)}, "is not a .npz file of arrays"),
    ],
)
def test_bad_arrays_are_one_error(
    own: Path, changed: dict[str, np.ndarray | None], message: str
) -> None:
    arrays = {name: array for name, array in (SPLIT | changed).items() if array is not None}
    with pytest.raises(VaelabError, match=f"^data.own.digits8: {own} .*{message}"):
        registered(own, **arrays)
    assert "digits8" not in DATASETS


def test_bad_files_and_names_are_one_error(own: Path) -> None:
    with pytest.raises(VaelabError, match=r"digits\.npz cannot be read: No such file"):
        register_own({"digits8": str(own)})
    own.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(VaelabError, match="is not a .npz file of arrays"):
        register_own({"digits8": str(own)})
    np.savez(own, **SPLIT)
    with pytest.raises(VaelabError, match=r"data\.own\.mnist: there is already a dataset named"):
        register_own({"mnist": str(own)})
    assert DATASETS["mnist"].title == "MNIST"
