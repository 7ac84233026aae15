"""Everything that needs a trained model, once per run: numbers, images, codes, estimates.

What is written here is all that figures, tables, claims and the page read; none of them
imports torch. Noise is seeded apart from training, so an evaluation can be repeated alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from vaelab.data import Dataset
from vaelab.models.base import Model
from vaelab.models.families import family_of
from vaelab.results.records import Losses, Measured
from vaelab.settings.config import EvaluationSettings
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.training.methods import METHODS
from vaelab.util.rng import representative, stream_seed

# Streams of random numbers, disjoint from those of training.
POSTERIOR, PRIOR, RANDOM_IMAGES, LIKELIHOOD = range(100, 104)

BATCH = 1000
FITTED = 1000  # images of a split that get a posterior fitted where there is no encoder
GRID = 100  # images in a 10 x 10 grid

Arrays = dict[str, np.ndarray]
Network = TypeVar("Network", bound=Model)


def evaluate(
    spec: RunSpec,
    model: Model,
    dataset: Dataset,
    settings: EvaluationSettings,
    compute: Compute,
) -> tuple[Measured, Arrays]:
    """Numbers and arrays of a trained model.

    Returns:
        The metrics (nats per image; mean squared error per pixel) and the arrays, images as
        uint8 of shape (..., P).
    """
    kind: type[Evaluation[Model]] = resolve_name(family_of(spec).evaluation)
    # A network that came to its device under inference mode could never be trained again.
    evaluation = kind(spec, model, dataset, settings, compute)
    with inference(compute):
        return evaluation.run()


@contextmanager
def inference(compute: Compute) -> Iterator[None]:
    """Without gradients, in the precision of a device."""
    with (
        torch.inference_mode(),
        torch.autocast(compute.device.type, compute.dtype, enabled=compute.precision == "bf16"),
    ):
        yield


def to_uint8(means: Tensor) -> np.ndarray:
    """Pixel means in [0, 1] (values outside are clipped) as grey values, round(255 mean)."""
    return (means.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of independent values."""
    return float(values.std() / len(values) ** 0.5)


class Evaluation(ABC, Generic[Network]):
    """Measures one trained model; a subclass for each family says what there is to measure.

    Args:
        spec: the run.
        model: its network, on the device.
        dataset: images; binary ones are drawn from them where the run asks for that.
        settings: how many images and draws.
        compute: device and precision.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: Network,
        dataset: Dataset,
        settings: EvaluationSettings,
        compute: Compute,
    ) -> None:
        if spec.data.binarize == "dynamic":
            dataset = dataset.binarized()
        self.spec, self.model, self.dataset = spec, model.to(compute.device).eval(), dataset
        self.settings, self.compute = settings, compute
        whole = {
            "train": (dataset.train_images, dataset.train_labels, spec.data.train_subset),
            "test": (dataset.test_images, dataset.test_labels, None),
        }
        self.encoder = METHODS[spec.method].encoder
        limit = settings.images if self.encoder else FITTED
        self.splits = {
            split: (x[:n][:limit], None if y is None else y[:n][:limit])
            for split, (x, y, n) in whole.items()
        }

    @abstractmethod
    def run(self) -> tuple[Measured, Arrays]:
        """Measure everything."""

    @abstractmethod
    def test_losses(self) -> Losses:
        """Mean losses on the test images, with one latent sample each where there are any."""

    def measured(self, train: Losses, test: Losses) -> Measured:
        """What every family says of a model."""
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "image_shape": list(self.dataset.image_shape),
            "train": train,
            "test": test,
        }

    def generator(self, stream: int) -> torch.Generator:
        """A stream of random numbers on the device."""
        return torch.Generator(self.compute.device).manual_seed(stream_seed(0, stream))

    def images(self, split: str, index: slice | np.ndarray) -> Tensor:
        """float32 images in [0, 1]."""
        pixels = self.splits[split][0][index].astype(np.float32) / 255.0
        return torch.from_numpy(pixels).to(self.compute.device)

    def labels(self, split: str) -> np.ndarray:
        """Labels of a split of a labelled dataset."""
        labels = self.splits[split][1]
        assert labels is not None
        return labels

    def batches(self, split: str) -> Iterator[slice]:
        """Slices that cover a split."""
        for start in range(0, len(self.splits[split][0]), BATCH):
            yield slice(start, start + BATCH)

    def representative(self, split: str, n: int, stream: int) -> np.ndarray:
        """Numbers of n images of a stratified subset of a split."""
        return representative(self.splits[split][0], self.dataset.image_shape, n, stream)

    def random_images(self) -> np.ndarray:
        """100 random test images, the same for every run (the report's Figure 4)."""
        return self.representative("test", GRID, RANDOM_IMAGES)
