"""Adam and Adagrad on the flat parameters, state in float32, by PyTorch's fused functions.

PyTorch's optimiser classes do the same arithmetic, but creating one imports PyTorch's compiler,
which takes longer than a small run. `fast.optimizer` does a step in one compiled pass.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam

from vaelab.training.fast.flat import FlatParameters

ADAM_BETA1 = 0.9
ADAM_EPS = 1e-8
ADAGRAD_EPS = 1e-10

MOMENTS = {"adam": ("exp_avg", "exp_avg_sq"), "adagrad": ("sum",)}


class Optimizer:
    """Adam or Adagrad with PyTorch's defaults: no weight decay, no rate decay.

    Args:
        kind: which of the two.
        flat: the parameters, with their gradient.
        adam_beta2: decay of Adam's second moment.

    Attributes:
        state: name -> tensor; all there is to save and restore.
    """

    def __init__(
        self, kind: Literal["adam", "adagrad"], flat: FlatParameters, adam_beta2: float = 0.999
    ) -> None:
        self.kind, self.flat, self.adam_beta2 = kind, flat, adam_beta2
        self.state = {name: torch.zeros_like(flat.master) for name in MOMENTS[kind]}
        self.state["step"] = torch.zeros((), dtype=torch.float32, device=flat.master.device)

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Update the weights, in both types, from the gradient in the compute type.

        Args:
            learning_rate: rate: a number on the CPU, a tensor () on a GPU.
        """
        state, flat = self.state, self.flat
        flat.collect()
        weights: list[Tensor] = [flat.master]
        gradients: list[Tensor] = [flat.gradient]
        if self.kind == "adam":
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
                beta2=self.adam_beta2,
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
                lr=learning_rate,  # type: ignore[arg-type]  # a tensor works, too
                weight_decay=0.0,
                lr_decay=0.0,
                eps=ADAGRAD_EPS,
                maximize=False,
            )
        flat.publish()
