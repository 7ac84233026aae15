"""Five reductions of one set of draws z_1..z_K ~ q(z|x): two valid bounds and three others.

With w = p(x, z) / q(z|x):

* `elbo`: mean log w, a lower bound.
* `importance`: log mean w, a lower bound that rises to log p(x) with K (Burda et al. 2016).
* `harmonic`: -log mean 1/w. The report's derivation (section 6.1.2) samples q(z|x) where the
  identity 1/p(x) = E[q(z) / p(x, z)] needs the true posterior, so this tends to
  log p(x) - log(1 + chi2(q || p(z|x))), and by Jensen's inequality is at or below the ELBO.
* `report`: the same with the printed exponent -1/2 sum (mu - z)^2 / (2 sigma^2), which counts
  the one half twice; lower by a further (d/2) log 2 where q is exact.
* `notebook`: the harmonic form with -||z||^2 / 2 in the exponent where the prior, being in
  the denominator, needs +||z||^2 / 2; higher by up to E ||z||^2. The report's Figure 3 shows
  this one.
"""

from __future__ import annotations

from pkgutil import resolve_name

import torch
from torch import Tensor

from vaelab.estimators.estimate import Estimate
from vaelab.estimators.log_weights import LogTerms, blocks, log_mean_exp, log_terms
from vaelab.estimators.model import LatentModel
from vaelab.estimators.registry import ESTIMATORS

# Entries of each (K, images) array held at once by `estimates_over_images`: 32 MB apiece.
_MAX_ENTRIES = 2**22


def effective_samples(log_weights: Tensor) -> Tensor:
    """Kish's effective sample size (sum w)^2 / sum w^2 along the first axis, shape (B,)."""
    return torch.exp(2.0 * torch.logsumexp(log_weights, 0) - torch.logsumexp(2.0 * log_weights, 0))


def log_mean_se(log_weights: Tensor) -> Tensor:
    """Standard error of log mean exp over independent rows, by the delta method, shape (B,).

    That is the relative standard error of the mean weight; NaN for a single row.
    """
    samples = log_weights.shape[0]
    if samples < 2:
        return torch.full_like(log_weights[0], float("nan"))
    excess = (samples / effective_samples(log_weights) - 1.0).clamp(min=0.0)
    return (excess / (samples - 1)).sqrt()


def log_mean_estimate(log_weights: Tensor, sign: int = 1) -> Estimate:
    """The sign times log mean exp(log_weights) over K independent rows, with its diagnostics."""
    return Estimate(
        nats=sign * log_mean_exp(log_weights),
        z_samples=log_weights.shape[0],
        mc_se=log_mean_se(log_weights),
        diagnostics={"ess": effective_samples(log_weights)},
    )


def elbo(terms: LogTerms) -> Estimate:
    """Mean of log w: the evidence lower bound, its KL term estimated by the same draws."""
    log_w = terms.log_w
    samples = log_w.shape[0]
    spread = log_w.std(0) if samples > 1 else torch.full_like(log_w[0], float("nan"))
    return Estimate(nats=log_w.mean(0), z_samples=samples, mc_se=spread / samples**0.5)


def importance(terms: LogTerms) -> Estimate:
    """Log mean w: importance sampling, in expectation below log p(x) and above the ELBO."""
    return log_mean_estimate(terms.log_w)


def harmonic(terms: LogTerms) -> Estimate:
    """-log mean 1/w: the report's second line of section 6.1.2, evaluated without slips."""
    return log_mean_estimate(-terms.log_w, sign=-1)


def report(terms: LogTerms) -> Estimate:
    """The last formula of the report's section 6.1.2, as printed."""
    return log_mean_estimate(0.25 * terms.squared_distance - terms.log_w, sign=-1)


def notebook(terms: LogTerms) -> Estimate:
    """What the report's notebooks compute, hence what its Figure 3 shows."""
    return log_mean_estimate(-terms.squared_norm - terms.log_w, sign=-1)


def estimates_over_images(
    model: LatentModel,
    x: Tensor,
    samples: int,
    generator: torch.Generator,
    *,
    c: Tensor | None = None,
    max_rows: int | None = None,
) -> dict[str, Estimate]:
    """Every reduction of the registry from one set of draws: K decoder evaluations per image.

    Memory is bounded for any number of images: they are worked through in blocks.

    Args:
        model: The model.
        x: Images, shape (B, P).
        samples: K, latent draws per image.
        generator: Source of the draws, on the device of x.
        c: Condition, one row per image.
        max_rows: Latents decoded at once; by default chosen for the device.
    """
    reductions = {
        name: resolve_name(entry.function)
        for name, entry in ESTIMATORS.items()
        if entry.draws != "own"
    }
    parts: dict[str, list[Estimate]] = {name: [] for name in reductions}
    for columns in blocks(x.shape[0], max(1, _MAX_ENTRIES // samples)):
        terms = log_terms(
            model,
            x[columns],
            samples,
            generator,
            c=None if c is None else c[columns],
            max_rows=max_rows,
        )
        for name, reduce in reductions.items():
            parts[name].append(reduce(terms))
    return {name: Estimate.concatenate(part) for name, part in parts.items()}
