"""Kingma & Welling's estimator of the marginal likelihood (appendix D), in three stages.

1. HMC draws two independent sets of samples from the true posterior p(z|x).
2. A density f is fitted to the first set.
3. 1/p(x) is the mean of f(z) / p(x, z) over the second set: an identity for any normalised
   density f, as long as z comes from the true posterior.

f is a Gaussian with full covariance. A kernel density is as valid, but on VAEs with 3 latent
dimensions it came out twice as far from a long reference run: its roughness adds noise.
Suited to fewer than 5 latent dimensions, as Kingma & Welling say. Where the posterior has
modes that no chain visits, the estimate lacks their share.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vaelab.estimators import hmc
from vaelab.estimators.estimate import Estimate
from vaelab.estimators.log_weights import blocks, default_rows, draw, log_mean_exp
from vaelab.estimators.model import LatentModel, log_joint
from vaelab.estimators.reductions import effective_samples
from vaelab.models.distributions import LOG_2PI
from vaelab.settings.config import LikelihoodSettings

# Burn-in where chains start from fitted posteriors.
SHORT_BURN_IN = 40


def gaussian_fit_log_prob(fit: Tensor, z: Tensor) -> Tensor:
    """Log-density at z (K, B, d) of the Gaussian fitted to samples fit (N, B, d), (K, B)."""
    mean = fit.mean(0)
    centred = fit - mean
    covariance = torch.einsum("nbi,nbj->bij", centred, centred) / (fit.shape[0] - 1)
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, (z - mean).unsqueeze(-1), upper=False)
    log_det: Tensor = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_probs: Tensor = -0.5 * (white.squeeze(-1).square() + LOG_2PI).sum(-1) - log_det
    return log_probs


def kw_appendix_d(
    model: LatentModel,
    x: Tensor,
    generator: torch.Generator,
    *,
    c: Tensor | None = None,
    draws: int = 50,
    chains: int = 8,
    burn_in: int = 100,
    leapfrog: int = 4,
    max_rows: int | None = None,
) -> Estimate:
    """Estimate log p(x) from posterior samples, in expectation at or above its value.

    Chains start from the encoder's q(z|x), whose standard deviations also scale the steps.
    Costs 2 * chains * ((burn_in + draws) * leapfrog + 1) gradient evaluations of the
    decoder per image.

    Args:
        model: The model.
        x: Images, shape (B, P).
        generator: Source of randomness, on the device of x.
        c: Condition, one row per image.
        draws: Samples of each chain, in either set.
        chains: Chains behind each of the two sets.
        burn_in: Transitions before the first sample, in which step sizes adapt.
        leapfrog: Leapfrog steps of a transition; 4 in appendix D.
        max_rows: Latents decoded at once, at least one image's chains; by default chosen for
            the device.

    Returns:
        The estimate; its Monte-Carlo error comes from the spread between chains, whose
        samples are correlated.
    """
    rows = default_rows(x.device) if max_rows is None else max_rows
    parts = []
    for columns in blocks(x.shape[0], max(1, rows // (2 * chains))):
        x_part, c_part = x[columns], None if c is None else c[columns]
        with torch.no_grad():
            q = model.proposal(x_part, c_part)
        run = hmc.sample(
            partial(log_joint, model, x_part, c=c_part),
            draw(q, 2 * chains, generator),
            draws=draws,
            burn_in=burn_in,
            generator=generator,
            leapfrog=leapfrog,
            scale=torch.exp(0.5 * q.log_var),
        )
        parts.append(_inverse_mean(run, chains))
    return Estimate.concatenate(parts)


def at_the_end(
    model: LatentModel, x: Tensor, generator: torch.Generator, settings: LikelihoodSettings
) -> Estimate:
    """Estimate log p(x) with a model whose proposals are fitted, so that a short burn-in does."""
    return kw_appendix_d(model, x, generator, burn_in=SHORT_BURN_IN)


def _inverse_mean(run: hmc.Chains, chains: int) -> Estimate:
    """Stages 2 and 3: fit to the first `chains` chains, evaluate on the others."""
    fit, evaluation = (half.flatten(0, 1) for half in run.samples.chunk(2, dim=1))
    log_joints = run.log_density[:, chains:].flatten(0, 1)
    log_terms = gaussian_fit_log_prob(fit, evaluation) - log_joints
    nats = -log_mean_exp(log_terms)
    chain_means = torch.exp(log_terms + nats).unflatten(0, (-1, chains)).mean(0)
    return Estimate(
        nats=nats,
        z_samples=evaluation.shape[0],
        mc_se=chain_means.std(0) / chains**0.5,
        diagnostics={
            "ess": effective_samples(log_terms),
            "accept_rate": run.accept_rate,
            "r_hat": hmc.r_hat(run.samples),
        },
    )
