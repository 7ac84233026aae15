"""Adam and Adagrad on the flat parameter, by PyTorch's functional, fused implementations.

The optimiser classes do the same arithmetic, but creating one imports PyTorch's compiler,
which takes longer than a small run.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam

from vaelab.spec import RunSpec

ADAM_BETA1 = 0.9
ADAM_EPS = 1e-8
ADAGRAD_EPS = 1e-10


class FlatOptimizer:
    """The optimiser of a spec, with PyTorch's defaults (no weight decay, no rate decay).

    Attributes:
        state: name -> tensor; all there is to save and restore.
    """

    def __init__(self, spec: RunSpec, master: Tensor) -> None:
        self.spec, self.master = spec, master
        moments = {"adam": ("exp_avg", "exp_avg_sq"), "adagrad": ("sum",)}[spec.optimizer]
        self.state = {name: torch.zeros_like(master) for name in moments}
        self.state["step"] = torch.zeros((), dtype=torch.float32, device=master.device)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the master weights from their gradient."""
        state, weights, gradients = self.state, [self.master], [self.master.grad]
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
                # There is no fused Adagrad for CUDA.
                fused=not self.master.is_cuda,
                lr=learning_rate,
                weight_decay=0.0,
                lr_decay=0.0,
                eps=ADAGRAD_EPS,
                maximize=False,
            )
