"""The distributions that encoders and decoders return.

Log-densities are summed over the last axis (pixels or latent dimensions) and are in nats
per image. Decoders hand over logits and log-variances, never probabilities, so that no
logarithm of a rounded 0 or 1 is ever taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Bernoulli:
    """Independent Bernoulli pixels; targets may be grey values in [0, 1] (soft labels)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Pixel probabilities, shape (..., P)."""
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        """Sum over P of x log p + (1 - x) log(1 - p), shape (...): x l - softplus(l)."""
        return (x * self.logits - softplus(self.logits)).sum(-1)

    def cross_log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of each of x (B, P) under each of M distributions, shape (M, B)."""
        return self.logits @ x.mT - softplus(self.logits).sum(-1, keepdim=True)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Binary images, shape (..., P)."""
        # Four times as fast on a CPU as torch.bernoulli.
        uniform = torch.empty_like(self.logits).uniform_(generator=generator)
        return (uniform < self.mean).to(self.logits.dtype)


@dataclass(frozen=True)
class DiagonalNormal:
    """N(mean, diag(exp(log_var))), over pixels or latent dimensions.

    The report prints log(2 pi) times the latent dimension and the norm over the
    determinant (section 6.1.1); the density of an m-vector has m log(2 pi) and a sum of
    squares each over its own variance.
    """

    mean: Tensor
    log_var: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of x, summed over the last axis, shape (...)."""
        squares = (x - self.mean).square() * torch.exp(-self.log_var)
        return -0.5 * (LOG_2PI + self.log_var + squares).sum(-1)

    def cross_log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each of x (B, P) under each of M distributions, shape (M, B)."""
        precision = torch.exp(-self.log_var)
        constant = (LOG_2PI + self.log_var + self.mean.square() * precision).sum(-1, keepdim=True)
        products = precision @ x.square().mT - 2.0 * (self.mean * precision) @ x.mT
        return -0.5 * (constant + products)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Reparameterised draw mean + sd * eps, so that gradients reach both parameters."""
        eps = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + torch.exp(0.5 * self.log_var) * eps


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I), summed over the last axis."""
    return -0.5 * (LOG_2PI + z.square()).sum(-1)


def kl_to_standard_normal(q: DiagonalNormal) -> Tensor:
    """KL(q || N(0, I)) of each latent dimension, shape (..., d), in nats.

    -1/2 (1 + log var - mean^2 - var): Kingma & Welling, appendix B.
    """
    return -0.5 * (1.0 + q.log_var - q.mean.square() - q.log_var.exp())
