"""Measures of a VQ-VAE."""

from __future__ import annotations

import numpy as np
import torch

from vaelab.evaluation.evaluator import BATCH, GRID, PRIOR, Arrays, Evaluation, to_uint8
from vaelab.models.code_prior import CodePrior
from vaelab.models.objectives import vq_terms
from vaelab.models.vqvae import VQVAE
from vaelab.results.records import Losses, Measured
from vaelab.util.rng import stream_seed


class VqVaeEvaluation(Evaluation[VQVAE]):
    """Losses, use of the codes, reconstructions, images from a prior over the codes."""

    def run(self) -> tuple[Measured, Arrays]:
        """See `Evaluation`."""
        size = len(self.model.codebook.codes)
        train, train_codes = self.losses("train")
        losses, codes = self.losses("test")
        test = self.splits["test"][0]
        random = self.random_images()
        rng = np.random.default_rng(stream_seed(0, PRIOR))
        prior = CodePrior.fit(train_codes, size)
        learned = self.decode_codes(prior.sample(self.settings.generated, rng))
        uniform = self.decode_codes(
            rng.integers(size, size=(self.settings.generated, *self.model.grid))
        )
        arrays = {
            "originals": test[:GRID],
            "reconstructions": self.decode_codes(codes[:GRID]),
            "random_originals": test[random],
            "random_reconstructions": self.decode_codes(codes[random]),
            "prior_samples": learned[:GRID],
            "uniform_samples": uniform[:GRID],
            "generated": learned,
            "generated_uniform": uniform,
            "codebook": self.model.codebook.codes.float().cpu().numpy(),
        }
        return self.measured(train, losses), arrays

    def test_losses(self) -> Losses:
        """See `Evaluation`."""
        return self.losses("test")[0]

    def losses(self, split: str) -> tuple[Losses, np.ndarray]:
        """Mean losses of a split, and its code grids (N, H / 4, W / 4)."""
        mse = embedding = 0.0
        grids, count = [], 0
        for batch in self.batches(split):
            x = self.images(split, batch)
            terms, indices = vq_terms(self.model, x, self.spec.objective.beta)
            mse += terms.mse.item() * len(x)
            embedding += terms.embedding.item() * len(x)
            grids.append(indices)
            count += len(x)
        codes = torch.cat(grids).cpu().numpy()
        usage = np.bincount(codes.ravel(), minlength=len(self.model.codebook.codes)) / codes.size
        used = usage[usage > 0]
        return {
            "mse": mse / count,
            "embedding": embedding / count,
            "objective": mse / count + embedding / count,
            "perplexity": float(np.exp(-(used * np.log(used)).sum())),
            "images": count,
        }, codes

    def decode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Images (n, P) of code grids (n, H / 4, W / 4)."""
        grids = torch.from_numpy(codes).to(self.compute.device)
        parts = [self.model.decode(self.model.codebook.lookup(g)) for g in grids.split(BATCH)]
        return to_uint8(torch.cat(parts))
