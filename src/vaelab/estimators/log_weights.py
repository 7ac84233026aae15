"""Draws from the encoder and the log-densities that every cheap estimator reduces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.estimators.model import LatentModel
from vaelab.models.distributions import LOG_2PI, DiagonalNormal, standard_normal_log_prob
from vaelab.util.errors import VaelabError


@dataclass(frozen=True)
class LogTerms:
    """Log-densities at K draws z ~ q(z|x) for each of B images, float64, in nats.

    Attributes:
        log_lik: log p(x|z), shape (K, B).
        log_prior: log p(z), shape (K, B).
        log_q: log q(z|x), shape (K, B).
        log_scale: Sum over the latent dimensions of log sigma of q(z|x), shape (B,).
        latent_dim: d.
    """

    log_lik: Tensor
    log_prior: Tensor
    log_q: Tensor
    log_scale: Tensor
    latent_dim: int

    @property
    def log_w(self) -> Tensor:
        """Log of the importance weight w = p(x, z) / q(z|x), shape (K, B)."""
        return self.log_lik + self.log_prior - self.log_q

    @property
    def squared_norm(self) -> Tensor:
        """||z||^2, shape (K, B), recovered from the standard-normal prior."""
        return -2.0 * self.log_prior - self.latent_dim * LOG_2PI

    @property
    def squared_distance(self) -> Tensor:
        """Sum of (z - mu)^2 / sigma^2 over the latent dimensions, shape (K, B)."""
        return -2.0 * (self.log_q + self.log_scale) - self.latent_dim * LOG_2PI


def log_mean_exp(values: Tensor, dim: int = 0) -> Tensor:
    """Log of the mean of exp(values) along `dim`, accumulated in float64."""
    return torch.logsumexp(values.double(), dim) - math.log(values.shape[dim])


def default_rows(device: torch.device) -> int:
    """Decoder rows evaluated at once: as many as stay in a CPU's cache, more on a GPU.

    Their tensors take some 0.6 GB there, and up to 32 runs may share a GPU.
    """
    return 32_768 if device.type == "cuda" else 4096


def blocks(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover range(total)."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def draw(distribution: DiagonalNormal, samples: int, generator: torch.Generator) -> Tensor:
    """Independent draws, shape (samples, B, d), from parameters of shape (B, d)."""
    shape = (samples, *distribution.mean.shape)
    return DiagonalNormal(
        distribution.mean.expand(shape), distribution.log_var.expand(shape)
    ).sample(generator)


@torch.no_grad()
def log_terms(
    model: LatentModel,
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    *,
    c: Tensor | None = None,
    max_rows: int | None = None,
) -> LogTerms:
    """Draw exactly `samples` latents per image and evaluate the model at them.

    The decoder sees at most `max_rows` latents at a time, whatever K and B are; only the
    three (K, B) results are kept. The draws depend on `max_rows` through the order in which
    random numbers are consumed, their distribution does not.

    Args:
        model: The model.
        x: Images, shape (B, P).
        samples: K, latent draws per image.
        generator: Source of the draws, on the device of x.
        c: Condition, one row per image.
        max_rows: Latents decoded at once; by default chosen for the device.

    Raises:
        VaelabError: If samples, max_rows or the number of images is not positive.
    """
    rows = default_rows(x.device) if max_rows is None else max_rows
    images = x.shape[0]
    if samples < 1 or rows < 1 or images < 1:
        raise VaelabError(
            "an estimate needs at least one image, one latent sample and one decoder row: "
            f"got images={images}, samples={samples}, max_rows={rows}"
        )
    log_lik, log_prior, log_q = torch.empty(
        (3, samples, images), dtype=torch.float64, device=x.device
    )
    log_scale = torch.empty(images, dtype=torch.float64, device=x.device)
    for columns in blocks(images, rows):
        x_part = x[columns]
        c_part = None if c is None else c[columns]
        q = model.proposal(x_part, c_part)
        log_scale[columns] = 0.5 * q.log_var.sum(-1)
        for draws in blocks(samples, max(1, rows // x_part.shape[0])):
            z = draw(q, draws.stop - draws.start, generator)
            log_lik[draws, columns] = model.log_likelihood(x_part, z, c_part)
            log_prior[draws, columns] = standard_normal_log_prob(z)
            log_q[draws, columns] = q.log_prob(z)
    return LogTerms(log_lik, log_prior, log_q, log_scale, model.latent_dim)
