"""VAE, beta-VAE and CVAE: MLP encoder and decoder (Kingma & Welling, appendix C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from vaelab.models.distributions import Bernoulli, DiagonalNormal
from vaelab.models.mlp import MLP
from vaelab.settings.spec import DIGITS, RunSpec

# Variance of the decoder with a fixed variance: about the pixel variance that a mean squared
# error plus 2.5e-4 KL implies, the scale of the report's first convolutional models.
FIXED_VARIANCE = 0.1


class VAE(nn.Module):
    """Encoder q(z|x, c) and decoder p(x|z, c) of a spec; beta belongs to the objective.

    The encoder is one MLP with 2 d outputs (`shared` trunks) or two MLPs with d outputs each
    (`separate`). The decoder mirrors the hidden widths. A condition is appended to the input
    of both, as one number or one-hot.
    """

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        self.latent_dim = spec.latent_dim
        self.condition = spec.condition
        self.likelihood = spec.likelihood
        pixels, extra = spec.pixels, spec.condition_dim
        trunk = [pixels + extra, *spec.hidden]
        if spec.trunks == "shared":
            self.encoder = MLP([*trunk, 2 * self.latent_dim], spec.activation)
        else:
            self.encoder_mean = MLP([*trunk, self.latent_dim], spec.activation)
            self.encoder_log_var = MLP([*trunk, self.latent_dim], spec.activation)
        outputs = 2 * pixels if spec.likelihood == "gaussian" else pixels
        self.decoder = MLP(
            [self.latent_dim + extra, *reversed(spec.hidden), outputs], spec.activation
        )

    @property
    def trunks(self) -> list[str]:
        """Names of the encoder's MLPs: one, or those of mean and log-variance."""
        return [name for name, _ in self.named_children() if name != "decoder"]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """PyTorch's default initialisation, in the order of the submodules."""
        for mlp in self.children():
            mlp.reset_parameters(generator)

    def embed(self, labels: Tensor) -> Tensor:
        """Labels (B,) as the condition the networks take: (B, 10) one-hot or (B, 1) raw."""
        if self.condition == "onehot":
            return one_hot(labels.long(), DIGITS).float()
        return labels.float().unsqueeze(-1)

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
        """p(x|z, c) for latents z (..., d); the Gaussian's mean is sigmoid-bounded to (0, 1)."""
        if c is not None:
            z = torch.cat([z, c.to(z.dtype).expand(*z.shape[:-1], c.shape[-1])], -1)
        return self.observed(_at_least_float32(self.decoder(z)))

    def observed(self, out: Tensor) -> Bernoulli | DiagonalNormal:
        """The distribution of images that the decoder's outputs (..., outputs) stand for."""
        if self.likelihood == "bernoulli":
            return Bernoulli(out)
        if self.likelihood == "gaussian":
            mean, log_var = out.chunk(2, -1)
            return DiagonalNormal(torch.sigmoid(mean), log_var)
        log_var = torch.log(torch.full_like(out, FIXED_VARIANCE))
        return DiagonalNormal(torch.sigmoid(out), log_var)


def _at_least_float32(x: Tensor) -> Tensor:
    """Densities are summed over hundreds of pixels, too many for bf16 products' own type."""
    return x.float() if x.dtype == torch.bfloat16 else x
