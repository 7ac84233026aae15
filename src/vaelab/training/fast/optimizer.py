"""Adam and Adagrad on the flat parameters, state in float32.

On a CPU with bf16 products one compiled pass does a step; everywhere else PyTorch's
functional, fused implementations do. (Its optimiser classes do the same arithmetic, but
creating one imports PyTorch's compiler, which takes longer than a small run.)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam

from vaelab.settings.spec import RunSpec
from vaelab.training.fast.flat import FlatParameters

ADAM_BETA1 = 0.9
ADAM_EPS = 1e-8
ADAGRAD_EPS = 1e-10


def one_pass(flat: FlatParameters) -> bool:
    """Whether the compiled step serves: bf16 products on a CPU."""
    return flat.separate and not flat.master.is_cuda


class FlatOptimizer:
    """The optimiser of a spec, with PyTorch's defaults (no weight decay, no rate decay).

    Attributes:
        state: name -> tensor; all there is to save and restore.
    """

    def __init__(self, spec: RunSpec, flat: FlatParameters) -> None:
        self.spec, self.flat = spec, flat
        moments = {"adam": ("exp_avg", "exp_avg_sq"), "adagrad": ("sum",)}[spec.optimizer]
        self.state = {name: torch.zeros_like(flat.master) for name in moments}
        self.state["step"] = torch.zeros((), dtype=torch.float32, device=flat.master.device)
        self._arrays: list[np.ndarray] = []
        if one_pass(flat):
            # What the compiled step reads and writes; the buffers stay where they are.
            self._arrays = [
                flat.master.detach().numpy(),
                *(self.state[name].numpy() for name in moments),
                flat.compute_grad.view(torch.uint16).numpy(),
                flat.compute.view(torch.uint16).numpy(),
            ]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update the weights, in both types, from the gradient in the compute type.

        Args:
            learning_rate: rate, as a number on the CPU, a tensor () on a card.
        """
        if self._arrays:
            self._step_in_one_pass(learning_rate)
        else:
            self.flat.collect()
            self._step_by_pytorch(learning_rate)
            self.flat.publish()

    def _step_in_one_pass(self, learning_rate: float) -> None:
        # Imported here because the compiler takes a third of a second to load.
        from vaelab.training.fast import kernels

        self.state["step"] += 1
        if self.spec.optimizer == "adagrad":
            kernels.adagrad_bf16(*self._arrays, np.float32(learning_rate), np.float32(ADAGRAD_EPS))
            return
        step = self.state["step"].item()
        beta2 = self.spec.adam_beta2
        kernels.adam_bf16(
            *self._arrays,
            np.float32(learning_rate / (1.0 - ADAM_BETA1**step)),
            np.float32(1.0 / math.sqrt(1.0 - beta2**step)),
            np.float32(ADAM_BETA1),
            np.float32(beta2),
            np.float32(ADAM_EPS),
        )

    def _step_by_pytorch(self, learning_rate: float | Tensor) -> None:
        state, master = self.state, self.flat.master
        weights: list[Tensor] = [master]
        gradients: list[Tensor] = [master.grad]
        if self.spec.optimizer == "adam":
            adam(
                weights,
                gradients,
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [state["step"]],
                fused=True,
                amsgrad=False,
                beta1=ADAM_BETA1,
                beta2=self.spec.adam_beta2,
                lr=learning_rate,
                weight_decay=0.0,
                eps=ADAM_EPS,
                maximize=False,
            )
        else:
            adagrad(
                weights,
                gradients,
                [state["sum"]],
                [state["step"]],
                fused=True,
                lr=learning_rate,
                weight_decay=0.0,
                lr_decay=0.0,
                eps=ADAGRAD_EPS,
                maximize=False,
            )
