"""When a training is evaluated along its way, on which images, and what is measured."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vaelab.data import Dataset
from vaelab.estimators.fitted import FittedAdapter
from vaelab.models.base import Model
from vaelab.models.vae import LatentVariableModel
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.training.methods import METHODS
from vaelab.util.rng import representative, stream_seed

# Stream of random numbers of the history; `trainer` has those of training.
HISTORY = 3

# Images for each split where a method trains no encoder: a Gaussian is fitted to the posterior
# of each image whenever the bound is evaluated.
FITTED_IMAGES = 100

# First point of a history that does not depend on the budget.
HISTORY_START = 1000


def history_grid(spec: RunSpec) -> list[int]:
    """Sample counts at which the history is recorded: log-spaced, the last included.

    With a number of points per decade they do not depend on the budget.
    """
    budget, samples = spec.budget, spec.budget.samples
    if budget.history_per_decade is not None:
        decades = math.log10(max(1.0, samples / HISTORY_START))
        ends = np.arange(math.floor(decades * budget.history_per_decade) + 1)
        early = np.rint(HISTORY_START * 10.0 ** (ends / budget.history_per_decade)).astype(int)
        return sorted({*(int(n) for n in early if n < samples), samples})
    grid = np.geomspace(min(spec.recipe.batch_size, samples), samples, budget.history_points)
    return sorted({round(float(value)) for value in grid})


def snapshot_grid(spec: RunSpec) -> list[int]:
    """Sample counts at which weights are kept: equally spaced, the last included."""
    samples, count = spec.budget.samples, spec.budget.snapshots
    return [round(samples * (i + 1) / count) for i in range(count)]


def in_unit_interval(images: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """uint8 images as numbers in [0, 1] on the device."""
    # Grey levels are exact in every type, so the division rounds once; a GPU would multiply by
    # the rounded 1 / 255.
    return torch.from_numpy(images).to(dtype).div_(255.0).to(device)


class History:
    """Measures a model in training on fixed images with fixed noise, the same for every seed.

    Args:
        spec: what is trained.
        model: its network, on the device.
        dataset: the images; binary ones where the training draws binary ones.
        compute: device and precision.
    """

    def __init__(self, spec: RunSpec, model: Model, dataset: Dataset, compute: Compute) -> None:
        self.model, self.compute, self.beta = model, compute, spec.objective.beta
        self.encoder = METHODS[spec.method].encoder
        self.wanted = spec.budget.history_images
        if not self.encoder:
            self.wanted = min(self.wanted, FITTED_IMAGES)
        train = dataset.train_images[: spec.data.train_subset]
        self.splits = {
            "train": self._fixed(train, dataset.train_labels, dataset.image_shape),
            "test": self._fixed(dataset.test_images, dataset.test_labels, dataset.image_shape),
        }

    def _fixed(
        self, images: np.ndarray, labels: np.ndarray | None, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Images that represent a split, their conditions and their noise."""
        device = self.compute.device
        chosen = representative(images, shape, self.wanted, HISTORY)
        x = in_unit_interval(images[chosen], device, torch.float32)
        c = None
        if self.model.conditional:
            assert labels is not None
            c = self.model.embed(torch.from_numpy(labels[chosen])).to(device)
        generator = torch.Generator().manual_seed(stream_seed(0, HISTORY))
        return x, c, [noise.to(device) for noise in self.model.draw(len(x), generator)]

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The columns `<split>_<measure>` at the present weights."""
        columns: dict[str, float] = {}
        self.model.eval()
        for split, (x, c, noise) in self.splits.items():
            with torch.autocast(
                x.device.type, self.compute.dtype, enabled=self.compute.precision == "bf16"
            ):
                q = None
                if not self.encoder:
                    assert isinstance(self.model, LatentVariableModel)
                    q = FittedAdapter(self.model, encoder=False).encode(x, c)
                values = self.model.measure(x, c, noise, self.beta, q)
            columns |= {f"{split}_{name}": value for name, value in values.items()}
        self.model.train()
        return columns
