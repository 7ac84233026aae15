"""Small specifications and datasets for the tests of models, training and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from reports import heard
from vaelab.data import Dataset
from vaelab.data.registry import DATASETS
from vaelab.models.base import Model
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.training.trainer import Trainer, TrainingResult

FP32 = Compute(torch.device("cpu"), torch.float32)
BF16 = Compute(torch.device("cpu"), torch.bfloat16)

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, which PyTorch does not see here"
)


@contextmanager
def kept_process_settings() -> Iterator[None]:
    """Give the process its threads and kernels back, which commands configure as a whole."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        torch.set_flush_denormal(False)


def toy_spec(**changes: object) -> RunSpec:
    """A VAE that trains and evaluates in milliseconds."""
    fields = {
        "dataset": "mnist",
        "latent_dim": 3,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "init": "default",
        "samples": 300,
        "history_points": 3,
        "history_images": 20,
    }
    if changes.get("model", "vae") == "vae":
        fields["hidden"] = (16,)
    return RunSpec.from_flat(fields | changes)


def pixels_of(spec: RunSpec) -> int:
    """Pixels of an image of the run's dataset."""
    return DATASETS[spec.data.dataset].pixels


def train(
    name: str,
    spec: RunSpec,
    seed: int,
    dataset: Dataset,
    compute: Compute,
    *,
    log: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> TrainingResult:
    """Train a run to its end; `log` is called with every line that is reported."""
    with heard(log):
        return Trainer(name, spec, seed, dataset, compute).run(**options)


def toy_vqvae_spec(**changes: object) -> RunSpec:
    """The report's VQ-VAE with a budget of a few steps."""
    fields = {
        "model": "vqvae",
        "latent_dim": 2,
        "beta": 0.25,
        "codebook_size": 10,
        "samples": 60,
        "batch_size": 30,
    }
    return toy_spec(**(fields | changes))


VARIANTS = {
    "separate_relu": toy_spec(hidden=(32, 16)),
    "shared_tanh": toy_spec(trunks="shared", activation="tanh", hidden=(24,), latent_dim=5),
    "linear": toy_spec(hidden=(), latent_dim=2),
    "beta": toy_spec(hidden=(32, 16), beta=4.0),
    "onehot": toy_spec(hidden=(32, 16), condition="onehot"),
    "scalar": toy_spec(hidden=(32, 16), condition="scalar", trunks="shared"),
    "gaussian": toy_spec(
        dataset="frey", trunks="shared", activation="tanh", hidden=(20,), likelihood="gaussian"
    ),
    "gaussian_fixed": toy_spec(hidden=(32, 16), likelihood="gaussian_fixed"),
}
"""A VAE of every kind, by name."""


def toy_batch(spec: RunSpec, model: Model) -> tuple[torch.Tensor, ...]:
    """17 random images for a VAE, their conditions or None, and noise."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(17, pixels_of(spec), generator=generator)
    labels = torch.randint(10, (17,), generator=generator)
    c = model.embed(labels) if model.conditional else None
    return x, c, torch.randn(17, spec.model.latent_dim, generator=generator)


def toy_images(name: str = "mnist", train: int = 130, test: int = 120) -> Dataset:
    """Bright bars whose position encodes the digit, with noise; faces have no labels."""
    shape = {"mnist": (28, 28), "frey": (28, 20)}[name]
    rng = np.random.default_rng(0)
    labels = np.arange(train + test, dtype=np.uint8) % 10
    images = rng.integers(0, 40, size=(train + test, *shape))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 6] += 200
    pixels = images.astype(np.uint8).reshape(train + test, -1)
    digits = (labels[:train], labels[train:]) if name == "mnist" else (None, None)
    return Dataset(name, pixels[:train], pixels[train:], *digits, shape, f"toy {name}", False)
