"""Hamiltonian Monte Carlo over latents, vectorised over chains and images.

Shapes: z (C, B, d) for C chains and B images; step sizes (B,), one per image. Follows Neal,
"MCMC using Hamiltonian dynamics" (2011); Kingma & Welling use 4 leapfrog steps for the
marginal likelihood (appendix D) and 10 for MCEM with 90 % acceptance (appendix E).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

# Each transition scales its steps by a factor from [1 - JITTER, 1 + JITTER], because a fixed
# trajectory length can be a multiple of a Gaussian's half period, and then never mixes.
JITTER = 0.2


@dataclass(frozen=True)
class Point:
    """Positions with the log-density and its gradient there.

    Attributes:
        z: Positions, shape (C, B, d), float64.
        log_density: Unnormalised log-density, shape (C, B), float64.
        gradient: Its gradient in z, shape (C, B, d), float64.
    """

    z: Tensor
    log_density: Tensor
    gradient: Tensor


# A point that may carry more than `Point`.
AnyPoint = TypeVar("AnyPoint", bound=Point)


@dataclass(frozen=True)
class Chains:
    """Draws of C chains for B images.

    Attributes:
        samples: shape (S, C, B, d).
        log_density: At the samples, shape (S, C, B).
        accept_rate: Mean acceptance probability after the burn-in, shape (B,).
        step_size: Adapted step sizes, shape (B,), to start a further run from.
    """

    samples: Tensor
    log_density: Tensor
    accept_rate: Tensor
    step_size: Tensor


def value_and_gradient(log_density: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate log_density (C, B) at z (C, B, d) and differentiate it by autograd."""
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        value = log_density(z)
        (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), gradient


def evaluator(log_density: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Point]:
    """A function from positions to `Point`, for a log-density differentiable by autograd."""
    return lambda z: Point(z, *value_and_gradient(log_density, z))


def _choose(accept: Tensor, new: AnyPoint, old: AnyPoint) -> AnyPoint:
    """New where accept (C, B) is true, old elsewhere, in every field."""
    chosen = {}
    for item in fields(old):
        ours, theirs = getattr(new, item.name), getattr(old, item.name)
        mask = accept if ours.dim() == accept.dim() else accept.unsqueeze(-1)
        chosen[item.name] = torch.where(mask, ours, theirs)
    return replace(old, **chosen)


@torch.no_grad()
def transition(
    evaluate: Callable[[Tensor], AnyPoint],
    point: AnyPoint,
    step_size: Tensor,
    generator: torch.Generator,
    *,
    leapfrog: int = 4,
    scale: Tensor | None = None,
) -> tuple[AnyPoint, Tensor]:
    """One HMC transition of every chain, at the cost of `leapfrog` gradient evaluations.

    Args:
        evaluate: Positions -> `Point` (see `evaluator`).
        point: Where the chains are; any subclass of `Point` that `evaluate` returns.
        step_size: shape (B,), in units of `scale`.
        generator: Source of momenta, step-size jitter and acceptance.
        leapfrog: Leapfrog steps.
        scale: Rough standard deviations of the target, shape (B, d): the square root of
            the inverse mass matrix. They change how well the chains mix, not their target.

    Returns:
        The new point and the acceptance probabilities, shape (C, B); a trajectory that
        diverges to infinite or undefined energy counts as 0.
    """
    z = point.z
    chains, images, _ = z.shape

    def uniform() -> Tensor:
        return torch.rand((chains, images), generator=generator, dtype=z.dtype, device=z.device)

    step = (step_size * (1.0 + JITTER * (2.0 * uniform() - 1.0))).unsqueeze(-1)
    if scale is not None:
        step = step * scale
    momentum = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
    start_energy = 0.5 * momentum.square().sum(-1) - point.log_density
    momentum = momentum + 0.5 * step * point.gradient
    new = point
    for number in range(1, leapfrog + 1):
        new = evaluate(new.z + step * momentum)
        momentum = momentum + (1.0 if number < leapfrog else 0.5) * step * new.gradient
    end_energy = 0.5 * momentum.square().sum(-1) - new.log_density
    probability = torch.exp((start_energy - end_energy).clamp(max=0.0)).nan_to_num(nan=0.0)
    return _choose(uniform() < probability, new, point), probability


def tuned(step_size: Tensor, probability: Tensor, target: float, gain: float) -> Tensor:
    """Step sizes (B,) moved towards the target acceptance (Robbins-Monro on the log scale).

    Args:
        step_size: shape (B,).
        probability: Acceptance probabilities of the last transition, shape (C, B).
        target: Wanted mean acceptance probability.
        gain: How far to move; a decreasing sequence makes the step sizes converge.
    """
    return step_size * torch.exp(gain * (probability.mean(0) - target))


def sample(
    log_density: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    draws: int,
    burn_in: int,
    generator: torch.Generator,
    leapfrog: int = 4,
    target_accept: float = 0.9,
    scale: Tensor | None = None,
    step_size: Tensor | None = None,
) -> Chains:
    """Run HMC; step sizes adapt during the burn-in only, so the draws keep their target.

    Costs (burn_in + draws) * leapfrog + 1 gradient evaluations per chain and image.

    Args:
        log_density: Unnormalised log-density (C, B) of z (C, B, d), differentiable.
        start: Initial positions, shape (C, B, d), float64.
        draws: S, samples kept of each chain.
        burn_in: Transitions before the first sample.
        generator: Source of randomness, on the device of start.
        leapfrog: Leapfrog steps of a transition.
        target_accept: Acceptance probability that the step sizes are tuned to, per image.
        scale: Rough standard deviations of the target, shape (B, d); ones by default.
        step_size: Initial step sizes (B,) in units of scale; by default 1, half of what is
            stable for a Gaussian of that scale.
    """
    chains, images, latent_dim = start.shape
    steps = torch.ones_like(start[0, :, 0]) if step_size is None else step_size
    evaluate = evaluator(log_density)
    point = evaluate(start)
    for number in range(1, burn_in + 1):
        point, probability = transition(
            evaluate, point, steps, generator, leapfrog=leapfrog, scale=scale
        )
        steps = tuned(steps, probability, target_accept, gain=number**-0.6)
    samples = start.new_empty((draws, chains, images, latent_dim))
    log_densities = start.new_empty((draws, chains, images))
    accepted = torch.zeros_like(steps)
    for number in range(draws):
        point, probability = transition(
            evaluate, point, steps, generator, leapfrog=leapfrog, scale=scale
        )
        accepted += probability.mean(0)
        samples[number], log_densities[number] = point.z, point.log_density
    return Chains(samples, log_densities, accepted / draws, steps)


def r_hat(samples: Tensor) -> Tensor:
    """Potential scale reduction of split chains, the worst latent dimension, shape (B,).

    Near 1 when the halves of all chains (S, C, B, d) agree (Gelman et al., Bayesian Data
    Analysis, section 11.4); NaN for fewer than 4 draws a chain.
    """
    half = samples.shape[0] // 2
    if half < 2:
        return samples.new_full((samples.shape[2],), float("nan"))
    split = torch.cat([samples[:half], samples[-half:]], dim=1)
    within = split.var(0).mean(0)
    between = split.mean(0).var(0)
    return ((within * (half - 1) / half + between) / within).sqrt().amax(-1)
