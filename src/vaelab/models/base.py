"""What training asks of the network of any model family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Generator, Tensor, nn, no_grad

from vaelab.models.distributions import DiagonalNormal


class Model(nn.Module, ABC):
    """A network with its objective.

    Images x are (B, P) in [0, 1]. A condition c is (B, condition_dim), or None.

    Attributes:
        conditional: whether encoder and decoder take the label of an image as their condition.
        exact_pixels: whether pixels must stay float32 where matrix products are bf16.
    """

    conditional: bool = False
    exact_pixels: bool = True

    def initialise(
        self, init: Literal["normal", "default"], generator: Generator | None = None
    ) -> None:
        """Draw the initial weights: N(0, sd 0.01) for every parameter, or PyTorch's default."""
        if init == "default":
            self.reset_parameters(generator)
            return
        with no_grad():
            for parameter in self.parameters():
                parameter.normal_(0.0, 0.01, generator=generator)

    @abstractmethod
    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw PyTorch's default initial weights, reproducibly."""

    @abstractmethod
    def start_output_at(self, mean: np.ndarray) -> None:
        """Let the untrained model answer with the mean image, as in Burda et al.'s code.

        Args:
            mean: mean training image (P,) in [0, 1].
        """

    def embed(self, labels: Tensor) -> Tensor:
        """Labels (B,) as conditions (B, condition_dim); for conditional models only."""
        raise NotImplementedError(f"{type(self).__name__} takes no labels")

    @abstractmethod
    def draw(self, images: int, generator: Generator) -> tuple[Tensor, ...]:
        """The noise that the objective of so many images needs."""

    @abstractmethod
    def loss(self, x: Tensor, c: Tensor | None, noise: Sequence[Tensor], beta: float) -> Tensor:
        """Mean objective of a batch, a scalar that autograd can differentiate."""

    @abstractmethod
    def measure(
        self,
        x: Tensor,
        c: Tensor | None,
        noise: Sequence[Tensor],
        beta: float,
        q: DiagonalNormal | None = None,
    ) -> dict[str, float]:
        """The columns of the training history for some images, as means; `objective` is one.

        Args:
            x: images.
            c: conditions.
            noise: what `draw` returned.
            beta: weight of the KL term or of the commitment loss.
            q: posteriors in place of the encoder's, where a method trains no encoder.
        """
