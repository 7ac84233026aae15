"""Everything that needs a trained model, once per run: numbers, images, codes, estimates.

What is written here is all that figures, tables, claims and the page read; none of them
imports torch. Noise is seeded apart from training, so an evaluation can be repeated alone.

MCEM trains no encoder. In its place stand Gaussians fitted to the true posterior of each image,
so the bound of its models has no amortisation gap; they cost too much for more than the first
1000 images of a split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaelab.data import Dataset
from vaelab.estimators import VAEAdapter, elbo, encoder_or_fit, importance, log_terms
from vaelab.models import VAE, VQVAE
from vaelab.models.code_prior import CodePrior
from vaelab.models.distributions import kl_to_standard_normal
from vaelab.models.objectives import vq_terms
from vaelab.settings.config import EvaluationSettings
from vaelab.settings.spec import DIGITS, RunSpec
from vaelab.training.device import Compute
from vaelab.util.rng import representative, stream_seed

# Streams of random numbers, disjoint from those of training.
POSTERIOR, PRIOR, RANDOM_IMAGES, LIKELIHOOD = range(100, 104)

BATCH = 1000
FITTED = 1000  # images of a split that get a posterior fitted where there is no encoder
GRID = 100  # images in a 10 x 10 grid
CONDITIONAL = 16  # images per label in a 4 x 4 grid
CODES = 1000  # training images whose codes are kept (the report's Figure 13)
MANIFOLD = 20
# Probabilities at the ends of the manifold's axes: the notebook's, z = +-4.265.
MANIFOLD_END = 1e-5
# A latent dimension is active when its posterior mean varies more than this over the test
# set (Burda et al., arXiv 1509.00519, section 5.2).
ACTIVE_VARIANCE = 0.01


def evaluate(
    spec: RunSpec,
    model: VAE | VQVAE,
    dataset: Dataset,
    settings: EvaluationSettings,
    compute: Compute,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers and arrays of a trained model.

    Returns:
        The metrics (nats per image; mean squared error per pixel) and the arrays, images as
        uint8 of shape (..., P).
    """
    model = model.to(compute.device).eval()
    evaluator = (_EvaluateVQVAE if isinstance(model, VQVAE) else _EvaluateVAE)(
        spec, model, dataset, settings, compute
    )
    with (
        torch.inference_mode(),
        torch.autocast(compute.device.type, compute.dtype, enabled=compute.precision == "bf16"),
    ):
        metrics, arrays = evaluator.run()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "image_shape": list(dataset.image_shape),
        **metrics,
    }, arrays


def to_uint8(means: Tensor) -> np.ndarray:
    """Pixel means in [0, 1] (values outside are clipped) as grey values, round(255 mean)."""
    return (means.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()


class _Evaluation:
    """Data access shared by the model families."""

    def __init__(
        self,
        spec: RunSpec,
        model: Any,
        dataset: Dataset,
        settings: EvaluationSettings,
        compute: Compute,
    ) -> None:
        if spec.binarize == "dynamic":
            dataset = dataset.binarized()
        self.spec, self.model, self.dataset = spec, model, dataset
        self.settings, self.compute = settings, compute
        whole = {
            "train": (dataset.train_images, dataset.train_labels, spec.train_subset),
            "test": (dataset.test_images, dataset.test_labels, None),
        }
        limit = FITTED if spec.method == "mcem" else settings.images
        self.splits = {
            split: (x[:n][:limit], None if y is None else y[:n][:limit])
            for split, (x, y, n) in whole.items()
        }

    def generator(self, stream: int) -> torch.Generator:
        return torch.Generator(self.compute.device).manual_seed(stream_seed(0, stream))

    def images(self, split: str, index: slice | np.ndarray) -> Tensor:
        """float32 images in [0, 1]."""
        pixels = self.splits[split][0][index].astype(np.float32) / 255.0
        return torch.from_numpy(pixels).to(self.compute.device)

    def batches(self, split: str) -> Iterator[slice]:
        for start in range(0, len(self.splits[split][0]), BATCH):
            yield slice(start, start + BATCH)

    def representative(self, split: str, n: int, stream: int) -> np.ndarray:
        return representative(self.splits[split][0], self.dataset.image_shape, n, stream)

    def random_images(self) -> np.ndarray:
        """100 random test images, the same for every run (the report's Figure 4)."""
        return self.representative("test", GRID, RANDOM_IMAGES)


class _EvaluateVAE(_Evaluation):
    model: VAE

    def run(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        mnist = self.dataset.name == "mnist"
        train, _ = self.bound("train", self.settings.z_train)
        test, posterior = self.bound("test", self.settings.z_test)
        metrics: dict[str, Any] = {
            "train": train,
            "test": test | self.likelihood(test),
            "kl_per_dim": posterior["kl_per_dim"].tolist(),
            "active_units": int((posterior["mean"].var(0) > ACTIVE_VARIANCE).sum()),
        }
        random = self.random_images()
        labels = self.splits["train"][1]
        arrays = {
            "originals": self.splits["test"][0][:GRID],
            "reconstructions": self.reconstruct(slice(GRID)),
            "random_originals": self.splits["test"][0][random],
            "random_reconstructions": self.reconstruct(random),
            "train_codes": self.codes(slice(CODES)),
        }
        prior = self.generator(PRIOR)
        arrays["prior_samples"], _ = self.generate(GRID, prior)
        if self.spec.latent_dim == 2 and self.spec.condition == "none":
            arrays["manifold"] = self.manifold()
        if self.spec.condition != "none":
            arrays["conditional_samples"] = self.conditional(prior)
        if mnist:
            generated, conditions = self.generate(self.settings.generated, prior)
            arrays |= {"generated": generated}
            if conditions is not None:
                arrays["generated_labels"] = conditions
            arrays |= {
                "train_labels": labels[:CODES],
                "test_mean": posterior["mean"].astype(np.float32),
                "test_log_var": posterior["log_var"].astype(np.float32),
                "test_labels": self.splits["test"][1],
            }
        return metrics, arrays

    @property
    def adapter(self) -> VAEAdapter:
        return encoder_or_fit(self.model, self.spec.method)

    def condition(self, split: str, index: slice | np.ndarray) -> Tensor | None:
        if self.spec.condition == "none":
            return None
        return self.embed(self.splits[split][1][index])

    def embed(self, labels: np.ndarray) -> Tensor:
        return self.model.embed(torch.from_numpy(labels.copy())).to(self.compute.device)

    def bound(self, split: str, z_samples: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The bound over a whole split, and the posteriors' parameters."""
        generator = self.generator(POSTERIOR)
        recon, kl, mse, means, log_vars = [], [], [], [], []
        for batch in self.batches(split):
            x, c = self.images(split, batch), self.condition(split, batch)
            q = self.adapter.encode(x, c)
            total, squares = torch.zeros(2, len(x), dtype=torch.float64, device=x.device)
            for _ in range(z_samples):
                p = self.model.decode(q.sample(generator), c)
                total -= p.log_prob(x)
                squares += (p.mean - x).square().mean(-1)
            recon.append(total / z_samples)
            mse.append(squares / z_samples)
            kl.append(kl_to_standard_normal(q).double())
            means.append(q.mean)
            log_vars.append(q.log_var)
        recon_all, kl_all = torch.cat(recon), torch.cat(kl)
        total_kl = kl_all.sum(-1)
        numbers = {
            "recon": recon_all.mean().item(),
            "recon_se": _standard_error(recon_all),
            "kl": total_kl.mean().item(),
            "neg_elbo": (recon_all + total_kl).mean().item(),
            "neg_elbo_se": _standard_error(recon_all + total_kl),
            "objective": (recon_all + self.spec.beta * total_kl).mean().item(),
            "mse": torch.cat(mse).mean().item(),
            "images": len(recon_all),
            "z_samples": z_samples,
        }
        posterior = {
            "kl_per_dim": kl_all.mean(0).cpu().numpy(),
            "mean": torch.cat(means).cpu().numpy(),
            "log_var": torch.cat(log_vars).cpu().numpy(),
        }
        return numbers, posterior

    def likelihood(self, bound: dict[str, Any]) -> dict[str, Any]:
        """Importance-sampling estimate of -log p(x) over the test images.

        Images that stand for all say how far the bound is off. That gap varies far less between
        images than -log p(x) does, so taken from the bound over all images it gives a mean that
        is several times as sure as that of the few images' own -log p(x).

        Args:
            bound: what `bound` says of the test split.
        """
        index = self.representative("test", self.settings.nll_images, LIKELIHOOD)
        terms = log_terms(
            self.adapter,
            self.images("test", index),
            self.settings.nll_samples,
            self.generator(LIKELIHOOD),
            c=self.condition("test", index),
        )
        gap = importance(terms).nats - elbo(terms).nats
        return {
            "nll": bound["neg_elbo"] - gap.mean().item(),
            "nll_se": math.hypot(bound["neg_elbo_se"], _standard_error(gap)),
            "nll_images": len(gap),
            "nll_z_samples": self.settings.nll_samples,
        }

    def reconstruct(self, index: slice | np.ndarray) -> np.ndarray:
        """Means decoded from one sampled z per test image, as the report shows them."""
        x, c = self.images("test", index), self.condition("test", index)
        z = self.adapter.encode(x, c).sample(self.generator(POSTERIOR))
        return to_uint8(self.model.decode(z, c).mean)

    def codes(self, index: slice) -> np.ndarray:
        """One sampled z per training image."""
        x, c = self.images("train", index), self.condition("train", index)
        return self.adapter.encode(x, c).sample(self.generator(POSTERIOR)).cpu().numpy()

    def generate(self, n: int, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Means decoded from the prior; labels, where the model takes them, uniform."""
        device = self.compute.device
        z = torch.randn(n, self.spec.latent_dim, generator=generator, device=device)
        if self.spec.condition == "none":
            return to_uint8(self.model.decode(z).mean), None
        drawn = torch.randint(DIGITS, (n,), generator=generator, device=device)
        labels = drawn.to(torch.uint8).cpu().numpy()
        return to_uint8(self.model.decode(z, self.embed(labels)).mean), labels

    def conditional(self, generator: torch.Generator) -> np.ndarray:
        """(10, 16, P): prior samples for each digit."""
        labels = np.repeat(np.arange(DIGITS, dtype=np.uint8), CONDITIONAL)
        z = torch.randn(
            len(labels), self.spec.latent_dim, generator=generator, device=self.compute.device
        )
        images = to_uint8(self.model.decode(z, self.embed(labels)).mean)
        return images.reshape(DIGITS, CONDITIONAL, -1)

    def manifold(self) -> np.ndarray:
        """(20, 20, P) decoded on the prior's quantiles: z1 rises rightwards, z2 upwards."""
        # Imported here because it takes half a second and few runs have a manifold.
        from scipy.special import ndtri

        quantiles = ndtri(np.linspace(MANIFOLD_END, 1.0 - MANIFOLD_END, MANIFOLD))
        z1, z2 = np.meshgrid(quantiles, quantiles[::-1])
        z = torch.from_numpy(np.stack([z1, z2], -1)).float().to(self.compute.device)
        return to_uint8(self.model.decode(z).mean)


class _EvaluateVQVAE(_Evaluation):
    model: VQVAE

    def run(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        splits, codes = {}, {}
        for split in self.splits:
            splits[split], codes[split] = self.losses(split)
        test = self.splits["test"][0]
        random = self.random_images()
        rng = np.random.default_rng(stream_seed(0, PRIOR))
        prior = CodePrior.fit(codes["train"], self.spec.codebook_size)
        learned = self.decode_codes(prior.sample(self.settings.generated, rng))
        uniform = self.decode_codes(
            rng.integers(self.spec.codebook_size, size=(self.settings.generated, 7, 7))
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
        """Mean losses of a split, and its code grids (N, 7, 7)."""
        sums = {"mse": 0.0, "embedding": 0.0}
        grids, count = [], 0
        for batch in self.batches(split):
            x = self.images(split, batch)
            terms, indices = vq_terms(self.model, x, self.spec.beta)
            for key in sums:
                sums[key] += getattr(terms, key).item() * len(x)
            grids.append(indices)
            count += len(x)
        codes = torch.cat(grids).cpu().numpy()
        usage = np.bincount(codes.ravel(), minlength=self.spec.codebook_size) / codes.size
        used = usage[usage > 0]
        numbers = {key: value / count for key, value in sums.items()}
        return {
            **numbers,
            "objective": sum(numbers.values()),
            "perplexity": float(np.exp(-(used * np.log(used)).sum())),
            "images": count,
        }, codes

    def decode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Images (n, P) of code grids (n, 7, 7)."""
        grids = torch.from_numpy(codes).to(self.compute.device)
        parts = [self.model.decode(self.model.codebook.lookup(g)) for g in grids.split(BATCH)]
        return to_uint8(torch.cat(parts))


def _standard_error(values: Tensor) -> float:
    return (values.std() / len(values) ** 0.5).item()
