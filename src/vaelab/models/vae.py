"""VAE, beta-VAE and CVAE with MLPs as encoder and decoder (Kingma & Welling, appendix C)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vaelab.models.base import Model
from vaelab.models.distributions import Bernoulli, DiagonalNormal
from vaelab.models.mlp import MLP
from vaelab.models.objectives import elbo_terms

# Variance of the decoder with a fixed variance: about the pixel variance that a mean squared
# error plus 2.5e-4 KL implies, the scale of the report's first convolutional models.
FIXED_VARIANCE = 0.1

Likelihood = Literal["bernoulli", "gaussian", "gaussian_fixed"]
Condition = Literal["none", "scalar", "onehot"]


class LatentVariableModel(Model):
    """A model with a Gaussian encoder q(z|x, c), the prior N(0, I) and a decoder p(x|z, c).

    A subclass supplies the two networks; the objective is the (beta-weighted) negative ELBO.

    Args:
        latent_dim: latent dimensions d.
        likelihood: the decoder's distribution.
        condition: how a label enters: not at all, as one number, or one-hot.
        classes: number of labels.
    """

    def __init__(
        self,
        latent_dim: int,
        likelihood: Likelihood = "bernoulli",
        condition: Condition = "none",
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.likelihood = latent_dim, likelihood
        self.condition, self.classes = condition, classes
        self.condition_dim = {"none": 0, "scalar": 1, "onehot": classes}[condition]
        self.conditional = condition != "none"
        # The Gaussian's density is sharp enough to see bf16's rounding of the pixels.
        self.exact_pixels = likelihood != "bernoulli"

    @abstractmethod
    def encode(self, x: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        """q(z|x, c) for images x (B, P) and conditions c (B, condition_dim)."""

    @abstractmethod
    def decode(self, z: Tensor, c: Tensor | None = None) -> Bernoulli | DiagonalNormal:
        """p(x|z, c) for latents z (..., d)."""

    def outputs(self, pixels: int) -> int:
        """How many numbers the decoder returns for an image of so many pixels."""
        return 2 * pixels if self.likelihood == "gaussian" else pixels

    def observed(self, out: Tensor) -> Bernoulli | DiagonalNormal:
        """The distribution of images for the decoder's outputs (..., outputs).

        The means of the Gaussians are bounded to (0, 1) by a sigmoid.
        """
        if self.likelihood == "bernoulli":
            return Bernoulli(out)
        if self.likelihood == "gaussian":
            mean, log_var = out.chunk(2, -1)
            return DiagonalNormal(torch.sigmoid(mean), log_var)
        log_var = torch.log(torch.full_like(out, FIXED_VARIANCE))
        return DiagonalNormal(torch.sigmoid(out), log_var)

    def embed(self, labels: Tensor) -> Tensor:
        """Labels (B,) as the condition the networks take: one-hot (B, classes) or raw (B, 1)."""
        if self.condition == "onehot":
            return one_hot(labels.long(), self.classes).float()
        return labels.float().unsqueeze(-1)

    def draw(self, images: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Standard normal noise (B, d)."""
        shape = (images, self.latent_dim)
        return (torch.randn(shape, generator=generator, device=generator.device),)

    def loss(self, x: Tensor, c: Tensor | None, noise: Sequence[Tensor], beta: float) -> Tensor:
        """Mean of recon + beta kl, one draw of z an image."""
        (eps,) = noise
        return elbo_terms(self, x, c, eps).objective(beta).mean()

    def measure(
        self,
        x: Tensor,
        c: Tensor | None,
        noise: Sequence[Tensor],
        beta: float,
        q: DiagonalNormal | None = None,
    ) -> dict[str, float]:
        """Means of objective, recon, kl and neg_elbo, in nats per image."""
        (eps,) = noise
        elbo = elbo_terms(self, x, c, eps, q)
        columns = {
            "objective": elbo.objective(beta),
            "recon": elbo.recon,
            "kl": elbo.kl,
            "neg_elbo": elbo.neg_elbo(),
        }
        return {name: float(values.double().mean()) for name, values in columns.items()}


class VAE(LatentVariableModel):
    """Encoder and decoder are MLPs.

    The encoder is one MLP with 2 d outputs (`shared` trunks) or two MLPs with d outputs each
    (`separate`). The decoder mirrors the hidden widths. A condition is appended to the input
    of both.

    Args:
        pixels: P, pixels of an image.
        hidden: hidden widths in encoder order.
        latent_dim: latent dimensions d.
        trunks: "shared" or "separate".
        activation: hidden activation, "tanh" or "relu".
        likelihood: the decoder's distribution.
        condition: how a label enters: not at all, as one number, or one-hot.
        classes: number of labels.
    """

    def __init__(
        self,
        pixels: int,
        hidden: Sequence[int],
        latent_dim: int,
        *,
        trunks: Literal["shared", "separate"] = "separate",
        activation: Literal["tanh", "relu"] = "relu",
        likelihood: Likelihood = "bernoulli",
        condition: Condition = "none",
        classes: int = 0,
    ) -> None:
        super().__init__(latent_dim, likelihood, condition, classes)
        extra = self.condition_dim
        trunk = [pixels + extra, *hidden]
        if trunks == "shared":
            self.encoder = MLP([*trunk, 2 * latent_dim], activation)
        else:
            self.encoder_mean = MLP([*trunk, latent_dim], activation)
            self.encoder_log_var = MLP([*trunk, latent_dim], activation)
        self.decoder = MLP(
            [latent_dim + extra, *reversed(hidden), self.outputs(pixels)], activation
        )

    @property
    def trunks(self) -> list[str]:
        """Names of the encoder's MLPs: one, or those of mean and log-variance."""
        return [name for name, _ in self.named_children() if name != "decoder"]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """PyTorch's default initialisation, in the order of the submodules."""
        for mlp in self.children():
            assert isinstance(mlp, MLP)
            mlp.reset_parameters(generator)

    def start_output_at(self, mean: np.ndarray) -> None:
        """Make the mean image's logits the bias of the output mean.

        The mean is kept half a grey level away from 0 and 1, where logits are infinite.
        """
        mean = np.clip(mean, 0.5 / 255.0, 1.0 - 0.5 / 255.0)
        logits = torch.from_numpy(np.log(mean) - np.log1p(-mean)).float()
        with torch.no_grad():
            self.decoder.linear(-1).bias[: len(logits)] = logits

    def encode(self, x: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        """q(z|x, c) for images x (B, P) and conditions c (B, condition_dim)."""
        if c is not None:
            x = torch.cat([x, c.to(x.dtype)], -1)
        if hasattr(self, "encoder"):
            mean, log_var = _at_least_float32(self.encoder(x)).chunk(2, -1)
            return DiagonalNormal(mean, log_var)
        return DiagonalNormal(
            _at_least_float32(self.encoder_mean(x)), _at_least_float32(self.encoder_log_var(x))
        )

    def decode(self, z: Tensor, c: Tensor | None = None) -> Bernoulli | DiagonalNormal:
        """p(x|z, c) for latents z (..., d)."""
        if c is not None:
            z = torch.cat([z, c.to(z.dtype).expand(*z.shape[:-1], c.shape[-1])], -1)
        return self.observed(_at_least_float32(self.decoder(z)))


def _at_least_float32(x: Tensor) -> Tensor:
    """Densities are summed over hundreds of pixels, too many for bf16 products' own type."""
    return x.float() if x.dtype == torch.bfloat16 else x
