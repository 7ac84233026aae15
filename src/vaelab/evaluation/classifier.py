"""A small convolutional digit classifier: the yardstick for generated images.

The report judges generations by eye. Here one network, trained by the pipeline on the same
training images, gives class probabilities (confidence, agreement with a condition) and the
features on which Frechet distances are computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from vaelab.evaluation.measures import Classified
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_path

FEATURES = 64
_CHANNELS = (16, 32)
# Augmentation: digits moved by up to so many pixels, which makes long trainings generalise.
_SHIFT = 1
# Evaluation runs in blocks of this size: large enough for the matrix products, small enough
# that the activations of the first layer stay in the cache.
_BLOCK = 500


class DigitClassifier(nn.Module):
    """Images to logits, by way of 64 non-negative features (for digits, about 107 000 weights).

    Args:
        shape: height and width of an image, at least 3 each.
        classes: number of labels.
    """

    def __init__(self, shape: tuple[int, int] = (28, 28), classes: int = 10) -> None:
        super().__init__()
        self.shape = shape
        first, second = _CHANNELS
        height, width = ((side + 1) // 2 // 2 for side in shape)
        self.trunk = nn.Sequential(
            nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * height * width, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def reset_parameters(self, generator: torch.Generator) -> None:
        """He initialisation with zero biases; batch-norm layers start at the identity."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations (B, 64) of images (B, P) in [0, 1]."""
        images = x.unflatten(-1, (1, *self.shape)).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.trunk(images)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, P) in [0, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


def train_classifier(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    seed: int,
    precision: str = "fp32",
    batch_size: int = 100,
    learning_rate: float = 6e-3,
    shape: tuple[int, int] = (28, 28),
    classes: int = 10,
) -> dict[str, Tensor]:
    """Train on all images with Adam, a short warm-up and a half cosine to zero.

    Args:
        images: uint8 (N, P).
        labels: classes (N,).
        epochs: passes over the images, each in a new order.
        seed: of the weights and the orders; with as many threads the result is bit-identical.
        precision: "fp32", or "bf16" for autocast.
        batch_size: images per step.
        learning_rate: peak rate.
        shape: height and width of an image.
        classes: number of labels.

    Returns:
        The state dict, in evaluation form (float32, on the CPU).
    """
    generator = torch.Generator().manual_seed(seed)
    model = DigitClassifier(shape, classes)
    model.reset_parameters(generator)
    model.train()
    pixels, targets = torch.tensor(images), torch.tensor(labels, dtype=torch.int64)
    # A last, partial batch is left out: one image alone has no batch variance to normalise by.
    steps_per_epoch = max(1, len(pixels) // batch_size)
    steps, warmup = epochs * steps_per_epoch, max(1, epochs * steps_per_epoch // 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * step / steps)),
    )
    for _ in range(epochs):
        order = torch.randperm(len(pixels), generator=generator)
        for batch in order[: steps_per_epoch * batch_size].split(batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                logits = model(_shifted(pixels[batch], shape, generator).float() / 255.0)
            loss = cross_entropy(logits.float(), targets[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
    return {key: value.detach().contiguous() for key, value in model.state_dict().items()}


def save_classifier(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors, atomically."""
    with atomic_path(path) as temporary:
        save_file(dict(state), temporary)


def load_classifier(path: str | Path) -> DigitClassifier:
    """Read a trained classifier, ready for evaluation.

    Raises:
        VaelabError: the file is missing, damaged or holds another network; it is named.
    """
    try:
        state = load_file(path)
    except FileNotFoundError as error:
        raise VaelabError(f"{path} does not exist") from error
    except (OSError, SafetensorError) as error:
        raise VaelabError(f"{path} is not a safetensors file: {error}") from error
    return classifier(state, source=str(path))


def classifier(
    state: Mapping[str, Tensor],
    *,
    source: str = "the state",
    shape: tuple[int, int] = (28, 28),
    classes: int = 10,
) -> DigitClassifier:
    """The network that holds the given weights, in evaluation mode.

    Raises:
        VaelabError: the weights are those of another network; `source` is named.
    """
    model = DigitClassifier(shape, classes)
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise VaelabError(f"{source} does not hold the digit classifier's weights") from error
    return model.eval()


@torch.inference_mode()
def classify(model: DigitClassifier, images: np.ndarray) -> Classified:
    """Probabilities and features of uint8 images (N, P)."""
    features, probabilities = [], []
    for start in range(0, len(images), _BLOCK):
        block = torch.tensor(images[start : start + _BLOCK])
        activations = model.features(block.float() / 255.0)
        features.append(activations.double())
        probabilities.append(torch.softmax(model.head(activations).double(), -1))
    return Classified(torch.cat(probabilities).numpy(), torch.cat(features).numpy())


def _shifted(pixels: Tensor, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """The images (B, P), each moved by up to `_SHIFT` pixels along both axes."""
    padded = pad(pixels.unflatten(-1, shape), (_SHIFT,) * 4)
    offsets = torch.randint(2 * _SHIFT + 1, (2, len(pixels), 1), generator=generator)
    rows, columns = (offset + torch.arange(n) for offset, n in zip(offsets, shape, strict=True))
    image = torch.arange(len(pixels))[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].flatten(1)
