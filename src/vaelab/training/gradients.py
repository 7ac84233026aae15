"""Gradients of a training objective with respect to the flat parameters.

Two ways with one interface. `AutogradGradients` differentiates the readable objective and
serves every model. `FusedGradients` is the fast path of the MLP VAEs: forward and backward
written out on preallocated weights in the compute type, without a graph. A test holds the
second to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from vaelab.models.vae import FIXED_VARIANCE, VAE
from vaelab.models.vqvae import VQVAE
from vaelab.objectives import elbo_terms, vq_terms
from vaelab.training.flat import FlatParameters


class Gradients(Protocol):
    """Writes the gradient of the mean objective of a batch to `flat.compute_grad`."""

    def __call__(self, x: Tensor, c: Tensor | None, eps: Tensor) -> None:
        """Images x (B, P), conditions c (B, condition_dim) or None, noise eps (B, d)."""


class AutogradGradients:
    """The objective as the modules state it, differentiated by autograd."""

    def __init__(
        self, model: VAE | VQVAE, flat: FlatParameters, beta: float, dtype: torch.dtype
    ) -> None:
        self.model, self.flat, self.beta, self.dtype = model, flat, beta, dtype

    def loss(self, x: Tensor, c: Tensor | None, eps: Tensor) -> Tensor:
        """Mean objective of the batch."""
        x = x.float()
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if isinstance(self.model, VQVAE):
                return vq_terms(self.model, x, self.beta)[0].objective()
            return elbo_terms(self.model, x, c, eps).objective(self.beta).mean()

    def __call__(self, x: Tensor, c: Tensor | None, eps: Tensor) -> None:
        """See `Gradients`."""
        self.flat.master.grad.zero_()
        with torch.enable_grad():
            self.loss(x, c, eps).backward()


class _FusedMLP:
    """Forward and backward of one MLP on its views in the flat buffers."""

    def __init__(self, name: str, layers: int, activation: str, flat: FlatParameters) -> None:
        prefixes = [f"{name}.layers.{i}" for i in range(layers)]
        self.weights = [flat.weights[f"{p}.weight"] for p in prefixes]
        self.biases = [flat.weights[f"{p}.bias"] for p in prefixes]
        self.weight_grads = [flat.gradients[f"{p}.weight"] for p in prefixes]
        self.bias_grads = [flat.gradients[f"{p}.bias"] for p in prefixes]
        self.activate: Callable[[Tensor], Tensor]
        self.activate_backward: Callable[[Tensor, Tensor], Tensor]
        if activation == "relu":
            self.activate = torch.relu_
            self.activate_backward = lambda dy, y: torch.ops.aten.threshold_backward(dy, y, 0)
        else:
            self.activate = torch.tanh_
            self.activate_backward = torch.ops.aten.tanh_backward

    def forward(self, x: Tensor) -> list[Tensor]:
        """The inputs of every layer and, last, the output."""
        values = [x]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            y = linear(values[-1], weight, bias)
            values.append(y if i == len(self.weights) - 1 else self.activate(y))
        return values

    def backward(self, dy: Tensor, values: list[Tensor], *, need_dx: bool) -> Tensor:
        """Write the weight gradients; return the gradient of the input where it is needed."""
        for i in reversed(range(len(self.weights))):
            torch.mm(dy.t(), values[i], out=self.weight_grads[i])
            torch.sum(dy, 0, out=self.bias_grads[i])
            if i or need_dx:
                dy = torch.mm(dy, self.weights[i])
            if i:
                dy = self.activate_backward(dy, values[i])
        return dy


class FusedGradients:
    """The fast path of `elbo_terms(...).objective(beta).mean()` for a `VAE`.

    Everything of the size of the latent space is float32, as are the output errors; products
    are in the compute type.
    """

    def __init__(self, model: VAE, flat: FlatParameters, beta: float, dtype: torch.dtype) -> None:
        self.flat, self.beta, self.dtype = flat, beta, dtype
        self.latent_dim, self.likelihood = model.latent_dim, model.likelihood
        self.parts = {
            name: _FusedMLP(name, len(mlp.layers), mlp.activation, flat)
            for name, mlp in model.named_children()
        }

    @torch.no_grad()
    def __call__(self, x: Tensor, c: Tensor | None, eps: Tensor) -> None:
        """See `Gradients`."""
        batch, d = len(x), self.latent_dim
        inputs = x.to(self.dtype)
        if c is not None:
            inputs = torch.cat([inputs, c.to(self.dtype)], -1)
        trunks = [part for name, part in self.parts.items() if name != "decoder"]
        encoded = [trunk.forward(inputs) for trunk in trunks]
        heads = torch.cat([values[-1] for values in encoded], -1).float()
        mean, log_var = heads[:, :d], heads[:, d:]
        sd = torch.exp(0.5 * log_var)
        z = mean + sd * eps
        latent = z if c is None else torch.cat([z, c], -1)

        decoder = self.parts["decoder"]
        decoded = decoder.forward(latent.to(self.dtype))
        error = self._output_error(decoded[-1].float(), x).mul_(1.0 / batch)
        dz = decoder.backward(error.to(self.dtype), decoded, need_dx=True)[:, :d].float()

        weight = self.beta / batch
        d_mean = dz + weight * mean
        d_log_var = 0.5 * (dz * eps * sd + weight * (log_var.exp() - 1.0))
        d_heads = torch.cat([d_mean, d_log_var], -1).to(self.dtype)
        for trunk, values, dy in zip(
            trunks, encoded, d_heads.split(2 * d // len(trunks), -1), strict=True
        ):
            trunk.backward(dy, values, need_dx=False)

    def _output_error(self, out: Tensor, x: Tensor) -> Tensor:
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


def gradients_for(
    model: nn.Module, flat: FlatParameters, beta: float, dtype: torch.dtype
) -> Gradients:
    """The fastest correct way for a model."""
    fast = isinstance(model, VAE)
    return (FusedGradients if fast else AutogradGradients)(model, flat, beta, dtype)
