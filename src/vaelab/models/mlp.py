"""A plain multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class MLP(nn.Module):
    """Linear layers with one activation between them and none after the last.

    Args:
        sizes: widths from input to output, at least two.
        activation: "tanh" or "relu".
    """

    def __init__(self, sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(
            nn.Linear(i, o) for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., sizes[0]) -> (..., sizes[-1])."""
        activate = ACTIVATIONS[self.activation]
        for layer in self.layers[:-1]:
            x = activate(layer(x))
        out: Tensor = self.layers[-1](x)
        return out

    def linear(self, index: int) -> nn.Linear:
        """One of the layers."""
        layer = self.layers[index]
        assert isinstance(layer, nn.Linear)
        return layer

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """PyTorch's default for linear layers, U(-1/sqrt(fan-in), 1/sqrt(fan-in)), reproducibly."""
        with torch.no_grad():
            for layer in map(self.linear, range(len(self.layers))):
                bound = 1.0 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
