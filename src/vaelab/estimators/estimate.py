"""What every estimator returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

# The chains of an image agree up to this R-hat (Gelman and Rubin).
MIXED = 1.1


@dataclass(frozen=True)
class Estimate:
    """Estimated log p(x) of B images, in nats per image.

    Attributes:
        nats: One value per image, float64, shape (B,); negative for discrete data.
        z_samples: Latent samples behind each value.
        mc_se: Monte-Carlo standard error of each value, shape (B,), by the delta method. It
            covers the noise of the draws, not the bias that Jensen's inequality leaves, and
            means little where `ess` is a few samples.
        diagnostics: Per-image diagnostics, each of shape (B,): `ess` (effective number of
            samples in the average), `accept_rate` and `r_hat` (of the Markov chains).
    """

    nats: Tensor
    z_samples: int
    mc_se: Tensor
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Number of images, B."""
        return self.nats.shape[0]

    @property
    def mean(self) -> float:
        """Mean over the images."""
        return self.nats.mean().item()

    @property
    def se(self) -> float:
        """Standard error of the mean over the images (NaN for a single image).

        The images are taken as a random sample, so the Monte-Carlo noise, which is
        independent from image to image, is included.
        """
        if self.images < 2:
            return float("nan")
        return float(self.nats.std() / self.images**0.5)

    def over(self, other: Estimate) -> tuple[float, float]:
        """Mean difference to an estimate for the same images, and its paired standard error."""
        difference = replace(self, nats=self.nats - other.nats)
        return difference.mean, difference.se

    @property
    def mean_mc_se(self) -> float:
        """Monte-Carlo standard error of the mean, for these very images."""
        return (self.mc_se.square().sum().sqrt() / self.images).item()

    def note(self) -> str:
        """Diagnostics over the images in words: 'ESS 12 of 100, accept 0.89'."""
        parts = []
        if "ess" in self.diagnostics:
            ess = float(self.diagnostics["ess"].mean())
            digits = f"{ess:.3g}" if ess < 100 else f"{ess:.0f}"
            parts.append(f"ESS {digits} of {self.z_samples}")
        if "accept_rate" in self.diagnostics:
            parts.append(f"accept {self.diagnostics['accept_rate'].mean():.2f}")
        if "r_hat" in self.diagnostics:
            unmixed = float((self.diagnostics["r_hat"] > MIXED).double().mean())
            parts.append(f"R-hat above {MIXED:g} in {unmixed:.0%}")
        return ", ".join(parts)

    @classmethod
    def concatenate(cls, parts: Sequence[Estimate]) -> Estimate:
        """Join estimates of consecutive image blocks, made with the same settings."""
        return cls(
            nats=torch.cat([part.nats for part in parts]),
            z_samples=parts[0].z_samples,
            mc_se=torch.cat([part.mc_se for part in parts]),
            diagnostics={
                name: torch.cat([part.diagnostics[name] for part in parts])
                for name in parts[0].diagnostics
            },
        )
