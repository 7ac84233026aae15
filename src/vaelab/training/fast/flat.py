"""All parameters of a model in one buffer, so that the optimiser makes one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# On a GPU parameters begin at multiples of so many numbers: the fastest matrix products want
# operands at multiples of 16 bytes.
GPU_ALIGNMENT = 64


class FlatParameters:
    """Re-homes a model's parameters in one float32 buffer with one gradient buffer.

    The model keeps working: its parameters are views. For bf16 products a bf16 copy of the
    buffer is kept beside the float32 master, with a bf16 gradient buffer; in float32 both are
    the master's own. A VAE's first layers come first, so that `first_layer` is one matrix for
    both of two trunks. On a GPU there are gaps between parameters; they are and stay 0.
    Convolutions keep the memory format that their model gave them: in another one PyTorch would
    reorder weights and gradients in every step.

    Attributes:
        master: float32 weights (P,), a parameter; P counts the gaps.
        gradient: float32 gradient (P,), the master's `.grad`.
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
        self._shapes = {name: parameters[name].shape for name in order}
        self._channels_last = {
            name
            for name, parameter in parameters.items()
            if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
        }
        device = next(iter(parameters.values())).device
        self._starts, size = self._layout(GPU_ALIGNMENT if device.type == "cuda" else 1)
        self.master = nn.Parameter(torch.zeros(size, device=device))
        self.gradient = torch.zeros_like(self.master)
        self.master.grad = self.gradient
        gradients = self._views(self.gradient)
        for name, view in self._views(self.master.detach()).items():
            parameter = parameters[name]
            parameter.data = view.copy_(parameter.detach())
            parameter.grad = gradients[name]
        if dtype == torch.float32:
            self.compute, self.compute_grad = self.master.detach(), self.gradient
        else:
            self.compute = self.master.detach().to(dtype)
            self.compute_grad = torch.zeros_like(self.compute)
        self.separate = dtype != torch.float32
        self.weights = self._views(self.compute)
        self.gradients = self._views(self.compute_grad)

    def _layout(self, alignment: int) -> tuple[dict[str, int], int]:
        """Where each parameter starts, the first layers' one after the other, and the end."""
        together = {name for names in self._first for name in names}
        starts: dict[str, int] = {}
        end = 0
        for name, shape in self._shapes.items():
            starts[name] = end if name in together else -(-end // alignment) * alignment
            end = starts[name] + shape.numel()
        return starts, end

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        views = {}
        for name, shape in self._shapes.items():
            start = self._starts[name]
            part = flat[start : start + shape.numel()]
            if name in self._channels_last:
                outputs, inputs, *kernel = shape
                views[name] = part.view(outputs, *kernel, inputs).movedim(-1, 1)
            else:
                views[name] = part.view(shape)
        return views

    def packed(self, tensor: Tensor) -> Tensor:
        """A buffer like the master without its gaps, the same on every device; others as is."""
        if tensor.shape != self.master.shape:
            return tensor
        return torch.cat([view.flatten() for view in self._views(tensor).values()])

    def unpack(self, packed: Tensor, tensor: Tensor) -> None:
        """Write what `packed` made of a tensor into such a tensor."""
        if tensor.shape != self.master.shape:
            tensor.copy_(packed)
            return
        views = self._views(tensor)
        parts = packed.split([view.numel() for view in views.values()])
        for view, part in zip(views.values(), parts, strict=True):
            view.copy_(part.view_as(view))

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
            self.gradient.copy_(self.compute_grad)
