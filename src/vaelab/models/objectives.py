"""Training objectives, apart from the networks. All in nats per image, except the VQ-VAE's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from vaelab.models.distributions import DiagonalNormal, kl_to_standard_normal

if TYPE_CHECKING:
    from vaelab.models.vae import LatentVariableModel
    from vaelab.models.vqvae import VQVAE


class ElboTerms(NamedTuple):
    """The two terms of the negative ELBO, each (B,): recon = -log p(x|z), kl = KL(q||p)."""

    recon: Tensor
    kl: Tensor

    def neg_elbo(self) -> Tensor:
        """recon + kl: a bound on -log p(x) whatever beta the model was trained with."""
        return self.recon + self.kl

    def objective(self, beta: float) -> Tensor:
        """recon + beta kl: what a beta-VAE minimises; a negative ELBO only at beta = 1."""
        return self.recon + beta * self.kl


def elbo_terms(
    model: LatentVariableModel,
    x: Tensor,
    c: Tensor | None,
    eps: Tensor,
    q: DiagonalNormal | None = None,
) -> ElboTerms:
    """One-sample ELBO terms with z = mean + sd eps (report, section 1; L = 1).

    Args:
        model: encoder and decoder.
        x: images (B, P) in [0, 1].
        c: conditions (B, condition_dim) or None.
        eps: standard normal noise (B, d).
        q: approximate posterior in place of the encoder's.
    """
    q = model.encode(x, c) if q is None else q
    z = q.mean + torch.exp(0.5 * q.log_var) * eps
    return ElboTerms(-model.decode(z, c).log_prob(x), kl_to_standard_normal(q).sum(-1))


class VqTerms(NamedTuple):
    """The VQ-VAE's losses, scalars: mean squared errors per number, not nats."""

    mse: Tensor
    embedding: Tensor
    perplexity: Tensor

    def objective(self) -> Tensor:
        """mse + embedding (report, section 3.3, with alpha = 1)."""
        return self.mse + self.embedding


def vq_terms(model: VQVAE, x: Tensor, beta: float) -> tuple[VqTerms, Tensor]:
    """Losses of a batch, embedding = codebook loss + beta commitment loss; codes (B, 7, 7)."""
    reconstruction, quantised = model(x)
    mse = (reconstruction.float() - x).square().mean()
    embedding = quantised.codebook_loss + beta * quantised.commitment_loss
    return VqTerms(mse, embedding, quantised.perplexity), quantised.indices
