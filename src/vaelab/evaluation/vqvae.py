"""Measures of a VQ-VAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vaelab.evaluation.evaluator import BATCH, GRID, PRIOR, Arrays, Evaluation, Metrics, to_uint8
from vaelab.models.code_prior import CodePrior
from vaelab.models.objectives import vq_terms
from vaelab.models.vqvae import VQVAE
from vaelab.util.rng import stream_seed


class VqVaeEvaluation(Evaluation[VQVAE]):
    """Losses, use of the codes, reconstructions, images from a prior over the codes."""

    def run(self) -> tuple[Metrics, Arrays]:
        """See `Evaluation`."""
        splits: Metrics = {}
        codes: Arrays = {}
        size = len(self.model.codebook.codes)
        for split in self.splits:
            splits[split], codes[split] = self.losses(split)
        test = self.splits["test"][0]
        random = self.random_images()
        rng = np.random.default_rng(stream_seed(0, PRIOR))
        prior = CodePrior.fit(codes["train"], size)
        learned = self.decode_codes(prior.sample(self.settings.generated, rng))
        uniform = self.decode_codes(
            rng.integers(size, size=(self.settings.generated, *self.model.grid))
        )
        arrays = {
            "originals": test[:GRID],
            "reconstructions": self.decode_codes(codes["test"][:GRID]),
            "random_originals": test[random],
            "random_reconstructions": self.decode_codes(codes["test"][random]),
            "prior_samples": learned[:GRID],
            "uniform_samples": uniform[:GRID],
            "generated": learned,
            "generated_uniform": uniform,
            "codebook": self.model.codebook.codes.float().cpu().numpy(),
        }
        return splits, arrays

    def losses(self, split: str) -> tuple[dict[str, Any], np.ndarray]:
        """Mean losses of a split, and its code grids (N, H / 4, W / 4)."""
        sums = {"mse": 0.0, "embedding": 0.0}
        grids, count = [], 0
        for batch in self.batches(split):
            x = self.images(split, batch)
            terms, indices = vq_terms(self.model, x, self.spec.objective.beta)
            for key in sums:
                sums[key] += getattr(terms, key).item() * len(x)
            grids.append(indices)
            count += len(x)
        codes = torch.cat(grids).cpu().numpy()
        usage = np.bincount(codes.ravel(), minlength=len(self.model.codebook.codes)) / codes.size
        used = usage[usage > 0]
        numbers = {key: value / count for key, value in sums.items()}
        return {
            **numbers,
            "objective": sum(numbers.values()),
            "perplexity": float(np.exp(-(used * np.log(used)).sum())),
            "images": count,
        }, codes

    def decode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Images (n, P) of code grids (n, H / 4, W / 4)."""
        grids = torch.from_numpy(codes).to(self.compute.device)
        parts = [self.model.decode(self.model.codebook.lookup(g)) for g in grids.split(BATCH)]
        return to_uint8(torch.cat(parts))
