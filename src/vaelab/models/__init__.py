"""Networks: a spec in, a module that returns distributions out."""

from __future__ import annotations

import torch

from vaelab.models.vae import VAE
from vaelab.models.vqvae import VQVAE
from vaelab.settings.spec import RunSpec


def build(spec: RunSpec, generator: torch.Generator | None = None) -> VAE | VQVAE:
    """The network of a spec, its weights drawn from `generator` as `spec.init` says."""
    model = VQVAE(spec.codebook_size, spec.latent_dim) if spec.model == "vqvae" else VAE(spec)
    if spec.init == "normal":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0, 0.01, generator=generator)
    else:
        model.reset_parameters(generator)
    return model


__all__ = ["VAE", "VQVAE", "build"]
