"""The report's VQ-VAE (its Figure 11; van den Oord et al., arXiv 1711.00937)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Quantised(NamedTuple):
    """What the codebook returns.

    Attributes:
        straight_through: z_q in value, z_e in gradient, shape (B, C, H, W).
        codebook_loss: mean of (sg(z_e) - z_q)^2, moves the codes.
        commitment_loss: mean of (sg(z_q) - z_e)^2, moves the encoder.
        indices: chosen codes (B, H, W).
        perplexity: exp of the entropy of the codes' usage in the batch, 1 to K.
    """

    straight_through: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    indices: Tensor
    perplexity: Tensor


class Codebook(nn.Module):
    """K codes of dimension C, learned by gradient (no moving averages), U(-1/K, 1/K) at first."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.empty(codes, dim))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """U(-1/K, 1/K), as in the VQ-VAE paper's code."""
        bound = 1.0 / len(self.codes)
        with torch.no_grad():
            self.codes.uniform_(-bound, bound, generator=generator)

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes of indices (B, H, W) as a decoder input (B, C, H, W)."""
        return self.codes[indices].movedim(-1, 1)

    def forward(self, z_e: Tensor) -> Quantised:
        """Quantise encoder outputs (B, C, H, W) to the nearest codes."""
        vectors = z_e.movedim(1, -1).float()
        distances = (vectors.unsqueeze(-2) - self.codes).square().sum(-1)
        indices = distances.argmin(-1)
        z_q = self.lookup(indices)
        # On a card bincount would wait for the largest index.
        numbers = torch.arange(len(self.codes), device=indices.device)
        usage = (indices.flatten().unsqueeze(-1) == numbers).float().mean(0)
        return Quantised(
            straight_through=z_e + (z_q - z_e).detach(),
            codebook_loss=(z_e.detach() - z_q).square().mean(),
            commitment_loss=(z_q.detach() - z_e).square().mean(),
            indices=indices,
            perplexity=torch.exp(-torch.special.xlogy(usage, usage).sum()),
        )


class VQVAE(nn.Module):
    """28x28 images to a 7x7 grid of codes and back.

    Encoder and decoder are the report's, batch normalisation and ReLU on the output included.
    The report's run froze the batch statistics after one epoch by accident; here they follow
    `train()` and `eval()` as they should.
    """

    def __init__(self, codes: int = 10, dim: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 64, 3, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 256, 3, stride=2, padding=1),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.Conv2d(256, dim, 3, padding=1),
        )
        self.codebook = Codebook(codes, dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, 256, 3, padding=1),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 64, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 1, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(1),
            nn.ReLU(),
        )
        self.to(memory_format=torch.channels_last)

    @property
    def output_norm(self) -> nn.BatchNorm2d:
        """The normalisation in front of the output's ReLU."""
        return self.decoder[-2]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """PyTorch's default for convolutions, U(-1/sqrt(fan-in), 1/sqrt(fan-in)), reproducibly."""
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    # Both kinds measure fan-in on dimension 1, as nn.init does.
                    bound = 1.0 / (layer.weight.shape[1] * 9) ** 0.5
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.uniform_(-bound, bound, generator=generator)
        self.codebook.reset_parameters(generator)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, 784) in [0, 1] -> z_e (B, C, 7, 7)."""
        images = x.unflatten(-1, (1, 28, 28)).contiguous(memory_format=torch.channels_last)
        return self.encoder(images)

    def decode(self, z_q: Tensor) -> Tensor:
        """(B, C, 7, 7) -> images (B, 784), at least 0, unbounded above."""
        return self.decoder(z_q).flatten(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Quantised]:
        """Reconstructions (B, 784) and the quantiser's result."""
        quantised = self.codebook(self.encode(x))
        return self.decode(quantised.straight_through), quantised
