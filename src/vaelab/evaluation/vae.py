"""Measures of a model with a Gaussian latent space."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vaelab.estimators.fitted import FittedAdapter, adapter_of
from vaelab.estimators.log_weights import LogTerms, log_terms
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import elbo, importance
from vaelab.evaluation.evaluator import (
    GRID,
    LIKELIHOOD,
    POSTERIOR,
    PRIOR,
    Arrays,
    Evaluation,
    standard_error,
    to_uint8,
)
from vaelab.models.distributions import kl_to_standard_normal
from vaelab.models.vae import LatentVariableModel
from vaelab.results.records import FittedLikelihood, Losses, Measured

CONDITIONAL = 16  # images per label in a 4 x 4 grid
CODES = 1000  # training images whose codes are kept (the report's Figure 13)
MANIFOLD = 20
# Probabilities at the ends of the manifold's axes: the notebook's, z = +-4.265.
MANIFOLD_END = 1e-5
# A latent dimension is active when its posterior mean varies more than this over the test
# set (Burda et al., arXiv 1509.00519, section 5.2).
ACTIVE_VARIANCE = 0.01


class VaeEvaluation(Evaluation[LatentVariableModel]):
    """Bound, likelihood, reconstructions, generated images, codes."""

    def run(self) -> tuple[Measured, Arrays]:
        """See `Evaluation`."""
        train, _ = self.bound("train", self.settings.z_train)
        test, posterior = self.bound("test", self.settings.z_test)
        measured = self.measured(train, test | self.likelihood(test))
        measured["kl_per_dim"] = posterior["kl_per_dim"].tolist()
        measured["active_units"] = int((posterior["mean"].var(0) > ACTIVE_VARIANCE).sum())
        random = self.random_images()
        arrays: Arrays = {
            "originals": self.splits["test"][0][:GRID],
            "reconstructions": self.reconstruct(slice(GRID)),
            "random_originals": self.splits["test"][0][random],
            "random_reconstructions": self.reconstruct(random),
            "train_codes": self.codes(slice(CODES)),
        }
        prior = self.generator(PRIOR)
        arrays["prior_samples"], _ = self.generate(GRID, prior)
        if self.model.latent_dim == 2 and not self.model.conditional:
            arrays["manifold"] = self.manifold()
        if self.model.conditional:
            arrays["conditional_samples"] = self.conditional(prior)
        if self.dataset.train_labels is not None:
            generated, conditions = self.generate(self.settings.generated, prior)
            arrays |= {"generated": generated}
            if conditions is not None:
                arrays["generated_labels"] = conditions
            arrays |= {
                "train_labels": self.labels("train")[:CODES],
                "test_mean": posterior["mean"].astype(np.float32),
                "test_log_var": posterior["log_var"].astype(np.float32),
                "test_labels": self.labels("test"),
            }
        return measured, arrays

    def test_losses(self) -> Losses:
        """See `Evaluation`."""
        return self.bound("test", 1)[0]

    @property
    def adapter(self) -> VAEAdapter:
        """The encoder, or what stands in its place."""
        return adapter_of(self.model, encoder=self.encoder)

    def condition(self, split: str, index: slice | np.ndarray) -> Tensor | None:
        """Conditions of images of a split."""
        return self.embed(self.labels(split)[index]) if self.model.conditional else None

    def embed(self, labels: np.ndarray) -> Tensor:
        """Labels as conditions on the device."""
        return self.model.embed(torch.from_numpy(labels.copy())).to(self.compute.device)

    def bound(self, split: str, z_samples: int) -> tuple[Losses, Arrays]:
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
        numbers: Losses = {
            "recon": recon_all.mean().item(),
            "recon_se": standard_error(recon_all),
            "kl": total_kl.mean().item(),
            "neg_elbo": (recon_all + total_kl).mean().item(),
            "neg_elbo_se": standard_error(recon_all + total_kl),
            "objective": (recon_all + self.spec.objective.beta * total_kl).mean().item(),
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

    def likelihood(self, bound: Losses) -> Losses:
        """Importance-sampling estimate of -log p(x) over the test images.

        A stratified subset says how far the bound is off. That gap varies far less between images
        than -log p(x) does. The bound over all images less the mean gap is therefore several times
        as precise as the mean of -log p(x) over the subset.

        Args:
            bound: what `bound` says of the test split.
        """
        terms = self.terms(self.adapter)
        gap = importance(terms).nats - elbo(terms).nats
        return {
            "nll": bound["neg_elbo"] - gap.mean().item(),
            "nll_se": math.hypot(bound["neg_elbo_se"], standard_error(gap)),
            "nll_images": len(gap),
            "nll_z_samples": self.settings.nll_samples,
        }

    def fitted_likelihood(self, bound: Losses) -> FittedLikelihood:
        """The same from Gaussians fitted to each posterior, and how much higher it is from q.

        An encoder that is too sure of an image hides a part of log p(x) from importance sampling.
        """
        own, fitted = self.terms(self.adapter), self.terms(FittedAdapter(self.model, encoder=True))
        gap = importance(fitted).nats - elbo(own).nats
        excess, excess_se = importance(fitted).over(importance(own))
        return {
            "nll": bound["neg_elbo"] - gap.mean().item(),
            "nll_se": math.hypot(bound["neg_elbo_se"], standard_error(gap)),
            "encoder_excess": excess,
            "encoder_excess_se": excess_se,
            "images": len(gap),
            "z_samples": self.settings.nll_samples,
        }

    def terms(self, adapter: VAEAdapter) -> LogTerms:
        """Log-densities at draws from a proposal, for a stratified subset of the test images."""
        index = self.representative("test", self.settings.nll_images, LIKELIHOOD)
        return log_terms(
            adapter,
            self.images("test", index),
            self.settings.nll_samples,
            self.generator(LIKELIHOOD),
            c=self.condition("test", index),
        )

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
        z = torch.randn(n, self.model.latent_dim, generator=generator, device=device)
        if not self.model.conditional:
            return to_uint8(self.model.decode(z).mean), None
        drawn = torch.randint(self.model.classes, (n,), generator=generator, device=device)
        labels = drawn.to(torch.uint8).cpu().numpy()
        return to_uint8(self.model.decode(z, self.embed(labels)).mean), labels

    def conditional(self, generator: torch.Generator) -> np.ndarray:
        """(classes, 16, P): prior samples for each label."""
        labels = np.repeat(np.arange(self.model.classes, dtype=np.uint8), CONDITIONAL)
        z = torch.randn(
            len(labels), self.model.latent_dim, generator=generator, device=self.compute.device
        )
        images = to_uint8(self.model.decode(z, self.embed(labels)).mean)
        return images.reshape(self.model.classes, CONDITIONAL, -1)

    def manifold(self) -> np.ndarray:
        """(20, 20, P) decoded on the prior's quantiles: z1 rises rightwards, z2 upwards."""
        ends = np.linspace(MANIFOLD_END, 1.0 - MANIFOLD_END, MANIFOLD)
        quantiles = torch.special.ndtri(torch.from_numpy(ends))
        z1, z2 = torch.meshgrid(quantiles, quantiles.flip(0), indexing="xy")
        z = torch.stack([z1, z2], -1).float().to(self.compute.device)
        return to_uint8(self.model.decode(z).mean)
