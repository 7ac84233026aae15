"""An optimiser step in one compiled pass, for bf16 products on a CPU; see `fast.kernels`."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vaelab.training.fast.flat import FlatParameters
from vaelab.training.optimizer import (
    ADAGRAD_EPS,
    ADAM_BETA1,
    ADAM_EPS,
    MOMENTS,
    Optimizer,
)


def fastest_optimizer(
    kind: Literal["adam", "adagrad"], flat: FlatParameters, adam_beta2: float
) -> Optimizer:
    """The optimiser for these parameters: the compiled step where it serves, else PyTorch's."""
    return (OnePassOptimizer if one_pass(flat) else Optimizer)(kind, flat, adam_beta2)


def one_pass(flat: FlatParameters) -> bool:
    """Whether the compiled step serves: bf16 products on a CPU."""
    return flat.separate and not flat.master.is_cuda


class OnePassOptimizer(Optimizer):
    """Reads the bf16 gradient, updates the float32 state, writes both weights, all at once."""

    def __init__(
        self, kind: Literal["adam", "adagrad"], flat: FlatParameters, adam_beta2: float = 0.999
    ) -> None:
        super().__init__(kind, flat, adam_beta2)
        # What the compiled step reads and writes; the buffers stay where they are.
        self._arrays = [
            flat.master.detach().numpy(),
            *(self.state[name].numpy() for name in MOMENTS[kind]),
            flat.compute_grad.view(torch.uint16).numpy(),
            flat.compute.view(torch.uint16).numpy(),
        ]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """See `Optimizer`."""
        # Imported here because the compiler takes a third of a second to load.
        from vaelab.training.fast import kernels

        self.state["step"] += 1
        if self.kind == "adagrad":
            kernels.adagrad_bf16(*self._arrays, np.float32(learning_rate), np.float32(ADAGRAD_EPS))
            return
        step = self.state["step"].item()
        kernels.adam_bf16(
            *self._arrays,
            np.float32(learning_rate / (1.0 - ADAM_BETA1**step)),
            np.float32(1.0 / math.sqrt(1.0 - self.adam_beta2**step)),
            np.float32(ADAM_BETA1),
            np.float32(self.adam_beta2),
            np.float32(ADAM_EPS),
        )
