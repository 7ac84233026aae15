"""AEVB's gradients for the MLP VAEs, written out: no graph, preallocated weights, one pass.

Forward and backward work on the flat parameters in the compute type. A test holds them to
`AutogradGradients`, the plain version. `training.baselines` builds other methods on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from vaelab.models.base import Model
from vaelab.models.mlp import MLP
from vaelab.models.vae import FIXED_VARIANCE, VAE
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.gradients import Gradients


def standard_normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Noise (rows, columns) on the generator's device."""
    return torch.randn((rows, columns), generator=generator, device=generator.device)


# In place where they can: an activation, and its backward pass from dy and the output y.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relu": (torch.relu_, lambda dy, y: torch.ops.aten.threshold_backward(dy, y, 0)),
    "tanh": (torch.tanh_, torch.ops.aten.tanh_backward),
}


class _FusedMLP:
    """Forward and backward of the layers of one MLP, on their views in the flat buffers."""

    def __init__(self, name: str, mlp: MLP, flat: FlatParameters, *, skip: int = 0) -> None:
        prefixes = [f"{name}.layers.{i}" for i in range(skip, len(mlp.layers))]
        self.weights = [flat.weights[f"{p}.weight"] for p in prefixes]
        self.biases = [flat.weights[f"{p}.bias"] for p in prefixes]
        self.weight_grads = [flat.gradients[f"{p}.weight"] for p in prefixes]
        self.bias_grads = [flat.gradients[f"{p}.bias"] for p in prefixes]
        self.activate, self.differentiate = _ACTIVATIONS[mlp.activation]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The inputs of every layer and, last, the output."""
        values = [x]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = linear(values[-1], weight, bias)
            values.append(y if i == len(self.weights) - 1 else self.activate(y))
        return values

    def backward(
        self, dy: Tensor, values: list[Tensor], *, need_dx: bool, need_weights: bool = True
    ) -> Tensor:
        """Write the weight gradients; return the gradient of the input where it is needed."""
        for i in reversed(range(len(self.weights))):
            if need_weights:
                torch.mm(dy.t(), values[i], out=self.weight_grads[i])
                torch.sum(dy, 0, out=self.bias_grads[i])
            if i or need_dx:
                dy = torch.mm(dy, self.weights[i])
            if i:
                dy = self.differentiate(dy, values[i])
        return dy


class _FusedEncoder:
    """Forward and backward of an encoder, whose trunks have their first layers in one product."""

    def __init__(self, model: VAE, flat: FlatParameters) -> None:
        self.weight, self.bias = flat.first_layer(flat.compute)
        self.weight_grad, self.bias_grad = flat.first_layer(flat.compute_grad)
        trunks = {name: getattr(model, name) for name in model.trunks}
        activation = next(iter(trunks.values())).activation
        self.activate, self.differentiate = _ACTIVATIONS[activation]
        # Without hidden layers the first layer is the last.
        self.upper = [
            _FusedMLP(name, mlp, flat, skip=1)
            for name, mlp in trunks.items()
            if len(mlp.layers) > 1
        ]

    def forward(self, x: Tensor) -> tuple[list[list[Tensor]], Tensor]:
        """What `backward` needs, and mean and log-variance side by side (B, 2 d)."""
        y = linear(x, self.weight, self.bias)
        if not self.upper:
            return [[x]], y
        y = self.activate(y)
        width = y.shape[-1] // len(self.upper)
        values = [
            trunk.forward(part) for trunk, part in zip(self.upper, y.split(width, -1), strict=True)
        ]
        return [[x, y], *values], torch.cat([v[-1] for v in values], -1)

    def backward(self, dy: Tensor, values: list[list[Tensor]]) -> None:
        """Write the weight gradients, from those of mean and log-variance (B, 2 d)."""
        (x, *first), *upper = values
        if self.upper:
            heads = dy.split(dy.shape[-1] // len(self.upper), -1)
            parts = [
                trunk.backward(head, v, need_dx=True)
                for trunk, head, v in zip(self.upper, heads, upper, strict=True)
            ]
            dy = self.differentiate(torch.cat(parts, -1), *first)
        torch.mm(dy.t(), x, out=self.weight_grad)
        torch.sum(dy, 0, out=self.bias_grad)


class FusedGradients(Gradients):
    """The gradient of a `VAE`'s loss.

    Everything of the size of the latent space is float32, as are the output errors; products
    are in the compute type.
    """

    def __init__(self, model: Model, flat: FlatParameters, beta: float, dtype: torch.dtype) -> None:
        # Products are in the type of the weights.
        super().__init__(model, flat, beta, flat.compute.dtype)
        self.model = cast(VAE, model)
        self.latent_dim, self.likelihood = self.model.latent_dim, self.model.likelihood
        self.encoder = _FusedEncoder(self.model, flat)
        self.decoder = _FusedMLP("decoder", self.model.decoder, flat)

    @classmethod
    def serves(cls, model: Model) -> bool:
        """Whether it is the MLP VAE itself: a subclass may compute something else."""
        return type(model) is VAE

    def draw(self, x: Tensor, index: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise (B, d) of the latents."""
        return (standard_normal(len(x), self.latent_dim, generator),)

    @torch.no_grad()
    def __call__(self, x: Tensor, c: Tensor | None, *drawn: Tensor) -> None:
        """See `Gradients`."""
        batch, d = len(x), self.latent_dim
        (eps,) = drawn
        encoded, mean, log_var = self.encode(x, c)
        sd = torch.exp(0.5 * log_var)
        z = mean + sd * eps
        latent = z if c is None else torch.cat([z, c], -1)

        decoded = self.decoder.forward(latent.to(self.dtype))
        error = self.output_error(decoded[-1].float(), x).mul_(1.0 / batch)
        dz = self.decoder.backward(error.to(self.dtype), decoded, need_dx=True)[:, :d].float()

        weight = self.beta / batch
        d_mean = dz + weight * mean
        d_log_var = 0.5 * (dz * eps * sd + weight * (log_var.exp() - 1.0))
        self.backward_encoder(encoded, d_mean, d_log_var)

    def encode(self, x: Tensor, c: Tensor | None) -> tuple[list[list[Tensor]], Tensor, Tensor]:
        """What `encoder.backward` needs, and mean and log-variance (B, d) of q(z|x, c)."""
        inputs = x.to(self.dtype)
        if c is not None:
            inputs = torch.cat([inputs, c.to(self.dtype)], -1)
        encoded, heads = self.encoder.forward(inputs)
        heads = heads.float()
        return encoded, heads[:, : self.latent_dim], heads[:, self.latent_dim :]

    def backward_encoder(
        self, encoded: list[list[Tensor]], d_mean: Tensor, d_log_var: Tensor
    ) -> None:
        """Write the encoder's gradients, from those of mean and log-variance (B, d)."""
        self.encoder.backward(torch.cat([d_mean, d_log_var], -1).to(self.dtype), encoded)

    def output_error(self, out: Tensor, x: Tensor) -> Tensor:
        """Derivative of -log p(x|z) with respect to the decoder's output, (B, outputs)."""
        if self.likelihood == "bernoulli":
            # Both float32: a subtraction of mixed types is not vectorised.
            return out.sigmoid_().sub_(x.float())
        mean_logits, log_var = out.chunk(2, -1) if self.likelihood == "gaussian" else (out, None)
        mean = torch.sigmoid(mean_logits)
        precision = torch.exp(-log_var) if log_var is not None else 1.0 / FIXED_VARIANCE
        residual = mean - x
        d_logits = residual * precision * mean * (1.0 - mean)
        if log_var is None:
            return d_logits
        return torch.cat([d_logits, 0.5 * (1.0 - residual.square() * precision)], -1)
