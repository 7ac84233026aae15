"""All parameters of a model in one buffer, so that the optimiser makes one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FlatParameters:
    """Re-homes a model's parameters in one float32 buffer with one gradient buffer.

    The model keeps working: its parameters are views. For bf16 products a bf16 copy of the
    buffer is kept beside the float32 master, with a bf16 gradient buffer; in float32 both are
    the master's own. A VAE's first layers come first, so that `first_layer` is one matrix for
    both of two trunks.

    Attributes:
        master: float32 weights (P,), a parameter with `.grad`.
        separate: whether the compute type has buffers of its own.
        compute: weights (P,) in the compute type.
        compute_grad: gradient (P,) in the compute type.
        weights: name -> view in the compute type.
        gradients: name -> view in the compute type that backward passes write.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        parameters = dict(model.named_parameters())
        trunks = getattr(model, "trunks", [])
        self._first = [
            [f"{trunk}.layers.0.{kind}" for trunk in trunks] for kind in ("weight", "bias")
        ]
        order = dict.fromkeys([*(name for names in self._first for name in names), *parameters])
        named = [(name, parameters[name]) for name in order]
        self._shapes = {name: p.shape for name, p in named}
        self.master = nn.Parameter(torch.cat([p.detach().reshape(-1) for _, p in named]))
        self.master.grad = torch.zeros_like(self.master)
        for (_, parameter), view, grad in zip(
            named,
            self._views(self.master.detach()).values(),
            self._views(self.master.grad).values(),
            strict=True,
        ):
            parameter.data = view
            parameter.grad = grad
        if dtype == torch.float32:
            self.compute, self.compute_grad = self.master.detach(), self.master.grad
        else:
            self.compute = self.master.detach().to(dtype)
            self.compute_grad = torch.zeros_like(self.compute)
        self.separate = dtype != torch.float32
        self.weights = self._views(self.compute)
        self.gradients = self._views(self.compute_grad)

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        sizes = [shape.numel() for shape in self._shapes.values()]
        pieces = flat.split(sizes)
        return {
            name: piece.view(shape)
            for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }

    def first_layer(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (outputs, inputs) and bias (outputs,) of a VAE's first layers, stacked.

        Args:
            flat: `compute` for the weights, `compute_grad` for their gradients.
        """
        weights, biases = self._first
        rows = [self._shapes[name][0] for name in biases]
        columns = self._shapes[weights[0]][1]
        size = sum(rows) * columns
        return flat[:size].view(sum(rows), columns), flat[size : size + sum(rows)]

    def publish(self) -> None:
        """Copy the master weights to the compute type (after an optimiser step or a load)."""
        if self.separate:
            self.compute.copy_(self.master.detach())

    def collect(self) -> None:
        """Copy the compute type's gradients to the master's gradient."""
        if self.separate:
            self.master.grad.copy_(self.compute_grad)
