"""The gradients that a training method follows, with respect to the flat parameters.

`AutogradGradients` differentiates the objective of the model and serves every family.
`fast.gradients` writes the same out for the MLP VAEs; `baselines` has other training methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vaelab.models.base import Model
from vaelab.training.fast.flat import FlatParameters


class Gradients(ABC):
    """A training method: what it draws for a batch, and the gradients it then follows.

    Every batch of one size takes the same operations, and none waits for a value of another, so
    that CUDA graphs can repeat them.

    Args:
        model: the network.
        flat: its parameters.
        beta: weight of the objective's KL term or commitment loss.
        dtype: type of matrix products.

    Attributes:
        updates: optimiser steps that each batch gets, all with what was drawn for it.
        float32: whether products take float32 weights, of whatever type they are themselves.
        state: tensors that a resumed training needs beside the weights; changed in place.
    """

    updates: int = 1
    float32: bool = False

    def __init__(self, model: Model, flat: FlatParameters, beta: float, dtype: torch.dtype) -> None:
        self.flat, self.beta, self.dtype = flat, beta, dtype
        self.state: dict[str, Tensor] = {}

    @classmethod
    def serves(cls, model: Model) -> bool:
        """Whether these gradients know the network."""
        return True

    def start(self, images: int, generator: torch.Generator) -> None:
        """Draw the state that a training on so many images begins with; without one nothing."""
        return

    @abstractmethod
    def draw(self, x: Tensor, index: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """All that is random about a batch, drawn at the present weights.

        Args:
            x: images (B, P).
            index: their numbers (B,) in the training set.
            generator: source of every random number.
        """

    @abstractmethod
    def __call__(self, x: Tensor, c: Tensor | None, *drawn: Tensor) -> None:
        """Write the gradient of the mean objective of a batch to `flat.compute_grad`.

        Args:
            x: images (B, P).
            c: conditions (B, condition_dim) or None.
            *drawn: what `draw` returned.
        """


class AutogradGradients(Gradients):
    """The model's own objective, differentiated by autograd."""

    # Autocast makes its own bf16 copies.
    float32 = True

    def __init__(self, model: Model, flat: FlatParameters, beta: float, dtype: torch.dtype) -> None:
        super().__init__(model, flat, beta, dtype)
        self.model = model

    def draw(self, x: Tensor, index: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The noise of the model's objective."""
        return self.model.draw(len(x), generator)

    def loss(self, x: Tensor, c: Tensor | None, *drawn: Tensor) -> Tensor:
        """Mean objective of the batch."""
        return self.model.loss(x, c, drawn, self.beta)

    def __call__(self, x: Tensor, c: Tensor | None, *drawn: Tensor) -> None:
        """See `Gradients`."""
        self.flat.compute_grad.zero_()
        with torch.enable_grad():
            with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
                loss = self.loss(x.float(), c, *drawn)
            loss.backward()
