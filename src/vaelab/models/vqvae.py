"""The report's VQ-VAE (its Figure 11; van den Oord et al., arXiv 1711.00937)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vaelab.models.base import Model
from vaelab.models.distributions import DiagonalNormal
from vaelab.models.objectives import vq_terms

# Standard deviation of the output before training, where it starts at the mean grey.
OUTPUT_SPREAD = 0.1


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
        # On a GPU bincount would wait for the largest index.
        numbers = torch.arange(len(self.codes), device=indices.device)
        usage = (indices.flatten().unsqueeze(-1) == numbers).float().mean(0)
        return Quantised(
            straight_through=z_e + (z_q - z_e).detach(),
            codebook_loss=(z_e.detach() - z_q).square().mean(),
            commitment_loss=(z_q.detach() - z_e).square().mean(),
            indices=indices,
            perplexity=torch.exp(-torch.special.xlogy(usage, usage).sum()),
        )


class VQVAE(Model):
    """Images to a grid of codes, a quarter of the image's height and width, and back.

    Encoder and decoder are the report's, batch normalisation and ReLU on the output included.
    The report's run froze the batch statistics after one epoch by accident; here they follow
    `train()` and `eval()` as they should.

    Args:
        codes: K, size of the codebook.
        dim: C, length of a code.
        shape: height and width of an image, multiples of 4.
    """

    def __init__(self, codes: int = 10, dim: int = 2, shape: tuple[int, int] = (28, 28)) -> None:
        super().__init__()
        self.shape = shape
        self.grid = (shape[0] // 4, shape[1] // 4)
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
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start_output_at(self, mean: np.ndarray) -> None:
        """Give the last normalisation the mean grey and a small spread.

        Its ReLU is then open for nearly all pixels. From N(0, 1) it closes for good for one of
        the 16 phases of the transposed convolutions, which leaves black dots in every image.
        """
        last = self.decoder[-2]
        assert isinstance(last, nn.BatchNorm2d)
        with torch.no_grad():
            last.weight.fill_(OUTPUT_SPREAD)
            last.bias.fill_(mean.mean())

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """PyTorch's default for convolutions, U(-1/sqrt(fan-in), 1/sqrt(fan-in)), reproducibly."""
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    # Both kinds measure fan-in on dimension 1, as nn.init does.
                    bound = 1.0 / (layer.weight.shape[1] * 9) ** 0.5
                    assert layer.bias is not None
                    layer.weight.uniform_(-bound, bound, generator=generator)
                    layer.bias.uniform_(-bound, bound, generator=generator)
        self.codebook.reset_parameters(generator)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, P) in [0, 1] -> z_e (B, C, H / 4, W / 4)."""
        images = x.reshape(-1, 1, *self.shape).contiguous(memory_format=torch.channels_last)
        z_e: Tensor = self.encoder(images)
        return z_e

    def decode(self, z_q: Tensor) -> Tensor:
        """(B, C, H / 4, W / 4) -> images (B, P), at least 0, unbounded above."""
        images: Tensor = self.decoder(z_q)
        return images.flatten(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Quantised]:
        """Reconstructions (B, P) and the quantiser's result."""
        quantised: Quantised = self.codebook(self.encode(x))
        return self.decode(quantised.straight_through), quantised

    def draw(self, images: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Nothing: the encoder is deterministic."""
        return ()

    def loss(self, x: Tensor, c: Tensor | None, noise: Sequence[Tensor], beta: float) -> Tensor:
        """Mse + codebook loss + beta commitment loss."""
        return vq_terms(self, x, beta)[0].objective()

    def measure(
        self,
        x: Tensor,
        c: Tensor | None,
        noise: Sequence[Tensor],
        beta: float,
        q: DiagonalNormal | None = None,
    ) -> dict[str, float]:
        """Objective, mse, embedding loss and perplexity of the images as one batch."""
        terms, _ = vq_terms(self, x, beta)
        columns = {"objective": terms.objective(), **terms._asdict()}
        return {name: float(value) for name, value in columns.items()}
