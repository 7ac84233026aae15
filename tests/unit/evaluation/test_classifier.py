"""The digit classifier: it learns, repeats itself bit for bit, and survives its file."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reports import heard
from vaelab.evaluation import quality
from vaelab.evaluation.classifier import (
    FEATURES,
    DigitClassifier,
    _shifted,
    classifier,
    classify,
    load_classifier,
    save_classifier,
    train_classifier,
)
from vaelab.settings.config import Config
from vaelab.util.errors import VaelabError


def toy_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bars at ten places, noisy: separable, but not by one pixel."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    images = rng.integers(0, 120, (count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        row, column = 3 + 5 * (label % 5), 4 + 12 * (label // 5)
        image[row : row + 2, column : column + 8] += 110
    return images.reshape(count, 784).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    return train_classifier(*toy_digits(600, 0), epochs=4, seed=0)


def test_it_learns_separable_digits(trained):
    images, labels = toy_digits(300, 1)
    untrained = DigitClassifier()
    untrained.reset_parameters(torch.Generator().manual_seed(0))
    before = (classify(untrained.eval(), images).probabilities.argmax(-1) == labels).mean()
    after = (classify(classifier(trained), images).probabilities.argmax(-1) == labels).mean()
    assert before < 0.4
    assert after > 0.97


def test_equal_seeds_give_equal_bits_whatever_the_process_drew(trained):
    torch.manual_seed(12345)
    again = train_classifier(*toy_digits(600, 0), epochs=4, seed=0)
    other = train_classifier(*toy_digits(100, 0), epochs=1, seed=1)
    assert all(torch.equal(trained[key], again[key]) for key in trained)
    assert not torch.equal(trained["head.weight"], other["head.weight"])


def test_settings_reach_the_training(tmp_path, monkeypatch):
    images, labels = toy_digits(1200, 0)
    data = SimpleNamespace(
        name="mnist", train_images=images, train_labels=labels, image_shape=(28, 28)
    )
    monkeypatch.setattr(quality, "load", lambda name, root: data)
    monkeypatch.setattr(quality, "configure_process", lambda threads: None)
    settings = {"epochs": 1, "images": 1000}
    config = Config(results=str(tmp_path), precision="fp32", classifier=settings)
    lines: list[str] = []
    with heard(lines.append):
        quality.train_and_save_classifier(config)
    wanted = train_classifier(images[:1000], labels[:1000], epochs=1, seed=0)
    found = load_classifier(tmp_path / "quick/checkpoints/classifier.safetensors").state_dict()
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)
    assert lines == ["classifier: 1 epochs"]


@pytest.mark.slow
def test_bf16_learns_too():
    state = train_classifier(*toy_digits(600, 0), epochs=4, seed=0, precision="bf16")
    assert all(value.dtype in (torch.float32, torch.int64) for value in state.values())
    images, labels = toy_digits(300, 1)
    assert (classify(classifier(state), images).probabilities.argmax(-1) == labels).mean() > 0.95


def test_probabilities_and_features(trained):
    images, _ = toy_digits(1203, 2)
    model = classifier(trained)
    result = classify(model, images)
    assert result.probabilities.shape == (1203, 10)
    assert result.features.shape == (1203, FEATURES)
    assert result.probabilities.dtype == result.features.dtype == np.float64
    np.testing.assert_allclose(result.probabilities.sum(1), 1.0, rtol=1e-12)
    assert result.features.min() >= 0.0
    # Images are judged one by one: neither blocks nor neighbours matter.
    alone = classify(model, images[700:701])
    np.testing.assert_allclose(result.features[700], alone.features[0], rtol=1e-4, atol=1e-5)
    logits = model(torch.tensor(images[:5]).float() / 255.0)
    np.testing.assert_allclose(
        torch.softmax(logits, -1).detach().numpy(), result.probabilities[:5], rtol=1e-4, atol=1e-7
    )


def test_the_file_holds_everything(trained, tmp_path):
    path = tmp_path / "classifier.safetensors"
    save_classifier(path, trained)
    images, _ = toy_digits(50, 3)
    expected = classify(classifier(trained), images).probabilities
    np.testing.assert_array_equal(classify(load_classifier(path), images).probabilities, expected)


def test_bad_files_are_named(trained, tmp_path):
    path = tmp_path / "classifier.safetensors"
    with pytest.raises(VaelabError, match=r"classifier\.safetensors does not exist"):
        load_classifier(path)
    path.write_bytes(b"not weights")
    with pytest.raises(VaelabError, match="not a safetensors file"):
        load_classifier(path)
    save_file({"head.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(VaelabError, match="does not hold the digit classifier's weights"):
        load_classifier(path)


def test_shifts_move_whole_images_by_at_most_one_pixel():
    images = torch.zeros(200, 28, 20, dtype=torch.uint8)
    images[:, 10, 17] = torch.arange(1, 201, dtype=torch.uint8)
    moved = _shifted(images.flatten(1), (28, 20), torch.Generator().manual_seed(0))
    moved = moved.unflatten(-1, (28, 20))
    where = moved.nonzero()
    assert where[:, 0].tolist() == list(range(200))
    offsets = where[:, 1:] - torch.tensor([10, 17])
    assert {tuple(offset) for offset in offsets.tolist()} == {
        (row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)
    }
    assert torch.equal(moved.amax((1, 2)), images.amax((1, 2)))
