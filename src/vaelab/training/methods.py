"""Which training algorithm a spec asks for, by the fastest correct way."""

from __future__ import annotations

import torch

from vaelab.models import VAE, VQVAE
from vaelab.settings.spec import RunSpec
from vaelab.training.baselines import McemGradients, WakeSleepGradients
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.fast.gradients import AutogradGradients, FusedGradients, Gradients


def product_type(spec: RunSpec, dtype: torch.dtype) -> torch.dtype:
    """Type of the weights in matrix products: autograd casts float32 itself, MCEM needs it."""
    return dtype if spec.model == "vae" and spec.method != "mcem" else torch.float32


def gradients_for(
    spec: RunSpec,
    model: VAE | VQVAE,
    flat: FlatParameters,
    dtype: torch.dtype,
    images: int,
    generator: torch.Generator,
) -> Gradients:
    """The training algorithm of a spec.

    Args:
        spec: what to train.
        model: its network.
        flat: the network's parameters, of `product_type`.
        dtype: type of matrix products.
        images: number of training images.
        generator: source of what the algorithm draws before the first batch.
    """
    if spec.method == "wake_sleep":
        return WakeSleepGradients(model, flat, dtype)
    if spec.method == "mcem":
        return McemGradients(model, flat, images, generator)
    fast = isinstance(model, VAE)
    return (FusedGradients if fast else AutogradGradients)(model, flat, spec.beta, dtype)
