"""A latent-variable model whose log p(x) and posterior are known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaelab.models.distributions import DiagonalNormal


class LinearGaussian:
    """x = W z + b + sigma eps with z ~ N(0, I): a `LatentModel`, exact in float64.

    The proposal has the posterior's mean and marginal standard deviations, moved by `shift`
    and stretched by `stretch` (both in units of, or times, those standard deviations), so it
    is exact only for a W with orthogonal columns, shift 0 and stretch 1. An optional
    condition c (B, 1) is added to every pixel.
    """

    def __init__(
        self,
        weight: list[list[float]],
        sigma: float,
        shift: float = 0.0,
        stretch: float = 1.0,
    ) -> None:
        self.weight = torch.tensor(weight, dtype=torch.float64)
        self.pixels, self.latent_dim = self.weight.shape
        self.bias = torch.linspace(-0.5, 0.5, self.pixels, dtype=torch.float64)
        self.sigma = sigma
        self.shift = shift
        self.stretch = stretch
        precision = torch.eye(self.latent_dim).double() + self.weight.T @ self.weight / sigma**2
        self.posterior_covariance = torch.linalg.inv(precision)
        # Latents decoded by each call of `log_likelihood`.
        self.calls: list[int] = []

    def _offset(self, c: Tensor | None) -> Tensor:
        return self.bias if c is None else self.bias + c

    def posterior_mean(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Exact posterior mean, shape (B, d)."""
        residual = x - self._offset(c)
        return residual @ self.weight @ self.posterior_covariance / self.sigma**2

    def exact(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Exact log p(x), shape (B,)."""
        noise = self.sigma**2 * torch.eye(self.pixels, dtype=torch.float64)
        residual = x - self._offset(c)
        normal = torch.distributions.MultivariateNormal(
            torch.zeros(self.pixels, dtype=torch.float64), self.weight @ self.weight.T + noise
        )
        return normal.log_prob(residual)

    def proposal(self, x: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        scale = self.posterior_covariance.diagonal().sqrt()
        mean = self.posterior_mean(x, c) + self.shift * scale
        return DiagonalNormal(mean, 2.0 * torch.log(self.stretch * scale).expand_as(mean))

    def log_likelihood(self, x: Tensor, z: Tensor, c: Tensor | None = None) -> Tensor:
        self.calls.append(z.shape[0] * z.shape[1])
        mean = z @ self.weight.T + self._offset(c)
        log_var = torch.full_like(mean, 2.0 * math.log(self.sigma))
        return DiagonalNormal(mean, log_var).log_prob(x)

    def images(self, count: int, generator: torch.Generator, c: Tensor | None = None) -> Tensor:
        """Images drawn from the model, shape (count, P)."""
        z = torch.randn((count, self.latent_dim), generator=generator, dtype=torch.float64)
        noise = torch.randn((count, self.pixels), generator=generator, dtype=torch.float64)
        return z @ self.weight.T + self._offset(c) + self.sigma * noise
