"""Annealed importance sampling (Neal 2001) with HMC transitions.

Chains go from the prior to the posterior through p(z) p(x|z)^beta, beta from 0 to 1. The prior
reaches every mode of the posterior. The mean weight of the chains is p(x), so its logarithm is
a lower bound of log p(x) in expectation, tight for slow annealing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vaelab.estimators.estimate import Estimate
from vaelab.estimators.hmc import Point, transition, tuned, value_and_gradient
from vaelab.estimators.log_weights import blocks, default_rows, draw
from vaelab.estimators.model import LatentModel, log_joint
from vaelab.estimators.reductions import log_mean_estimate
from vaelab.models.distributions import DiagonalNormal, standard_normal_log_prob
from vaelab.settings.config import LikelihoodSettings

# Steepness of the sigmoid of Wu et al.: small steps of beta at both ends.
_SIGMOID = 4.0
# Constant gain of the step-size adaptation, which has to follow a moving target.
_PILOT_GAIN = 0.2
TARGET_ACCEPT = 0.8


@dataclass(frozen=True)
class Annealing:
    """How to anneal.

    Attributes:
        temperatures: T, steps of the schedule.
        chains: independent weights averaged for each image.
        pilot_chains: further chains that only tune the step sizes.
        leapfrog: leapfrog steps of a transition; one transition a temperature.
    """

    temperatures: int = 200
    chains: int = 10
    pilot_chains: int = 4
    leapfrog: int = 4

    @property
    def betas(self) -> list[float]:
        """Inverse temperatures 0 = beta_0 < ... < beta_T = 1 on a sigmoid (Wu et al. 2017)."""

        def sigmoid(step: int) -> float:
            return 1.0 / (1.0 + math.exp(-_SIGMOID * (2.0 * step / self.temperatures - 1.0)))

        low, high = sigmoid(0), sigmoid(self.temperatures)
        return [(sigmoid(step) - low) / (high - low) for step in range(self.temperatures + 1)]


_DEFAULT = Annealing()


@dataclass(frozen=True)
class AnnealedPoint(Point):
    """A point of the path with its two ends apart, so that a change of beta costs nothing.

    Attributes:
        log_prior: log p(z), shape (C, B).
        log_joint: log p(x, z), shape (C, B).
        gradient_joint: of log p(x, z), shape (C, B, d); that of log p(z) is -z.
    """

    log_prior: Tensor
    log_joint: Tensor
    gradient_joint: Tensor

    def at(self, beta: float) -> AnnealedPoint:
        """The same positions at another temperature."""
        return replace(
            self,
            log_density=torch.lerp(self.log_prior, self.log_joint, beta),
            gradient=torch.lerp(-self.z, self.gradient_joint, beta),
        )


@dataclass(frozen=True)
class _Path:
    """The densities p(z) p(x|z)^beta of B images.

    Attributes:
        log_joint: log p(x, z), shape (C, B), of z (C, B, d).
        q: rough posterior, parameters of shape (B, d), for the scale of the steps.
        settings: how to anneal.
        generator: source of randomness.
    """

    log_joint: Callable[[Tensor], Tensor]
    q: DiagonalNormal
    settings: Annealing
    generator: torch.Generator

    def start(self, chains: int) -> AnnealedPoint:
        """Draws from the prior."""
        prior = DiagonalNormal(torch.zeros_like(self.q.mean), torch.zeros_like(self.q.log_var))
        return self.evaluate(0.0)(draw(prior, chains, self.generator))

    def evaluate(self, beta: float) -> Callable[[Tensor], AnnealedPoint]:
        """Positions -> point at beta, at the cost of one gradient of log p(x, z)."""

        def at(z: Tensor) -> AnnealedPoint:
            value, gradient = value_and_gradient(self.log_joint, z)
            joint = AnnealedPoint(z, value, gradient, standard_normal_log_prob(z), value, gradient)
            return joint.at(beta)

        return at

    def move(self, point: AnnealedPoint, beta: float, step: Tensor) -> tuple[AnnealedPoint, Tensor]:
        """A transition at beta with step sizes (B,), and its acceptance probabilities (C, B)."""
        return transition(
            self.evaluate(beta),
            point.at(beta),
            step,
            self.generator,
            leapfrog=self.settings.leapfrog,
            scale=(1.0 - beta + beta * torch.exp(-self.q.log_var)).rsqrt(),
        )

    def pilot(self) -> list[Tensor]:
        """Step sizes (B,) of each temperature, found by annealing separate chains.

        The weights of the real chains are unbiased only if their transitions do not depend on
        their own past; steps that come from other chains keep them so.
        """
        point = self.start(self.settings.pilot_chains)
        step = torch.full_like(point.z[0, :, 0], point.z.shape[-1] ** -0.25)
        steps = []
        for beta in self.settings.betas[1:-1]:
            point, probability = self.move(point, beta, step)
            step = tuned(step, probability, TARGET_ACCEPT, _PILOT_GAIN)
            steps.append(step)
        return steps

    def anneal(self) -> Estimate:
        """Log of the mean weight of the chains."""
        steps, betas = self.pilot(), self.settings.betas
        point = self.start(self.settings.chains)
        log_w = torch.zeros_like(point.log_density)
        accepted = torch.zeros_like(log_w[0])
        for before, beta in zip(betas, betas[1:], strict=False):
            log_w += (beta - before) * (point.log_joint - point.log_prior)
            if beta < 1.0:
                point, probability = self.move(point, beta, steps.pop(0))
                accepted += probability.mean(0)
        estimate = log_mean_estimate(log_w)
        accept_rate = accepted / max(1, len(betas) - 2)
        return replace(estimate, diagnostics={**estimate.diagnostics, "accept_rate": accept_rate})


def annealed(
    model: LatentModel,
    x: Tensor,
    generator: torch.Generator,
    *,
    settings: Annealing = _DEFAULT,
    c: Tensor | None = None,
    max_rows: int | None = None,
) -> Estimate:
    """Annealed importance sampling from the prior.

    Costs (chains + pilot_chains) * ((temperatures - 1) * leapfrog + 1) gradient evaluations
    of the decoder per image.

    Args:
        model: the model.
        x: images, shape (B, P).
        generator: source of randomness, on the device of x.
        settings: how to anneal.
        c: condition, one row per image.
        max_rows: latents decoded at once, at least one image's chains; by default chosen for
            the device.
    """
    rows = max_rows or default_rows(x.device)
    parts = []
    for columns in blocks(len(x), max(1, rows // max(settings.chains, settings.pilot_chains))):
        images, labels = x[columns], None if c is None else c[columns]
        joint = partial(log_joint, model, images, c=labels)
        with torch.no_grad():
            q = model.proposal(images, labels)
        parts.append(_Path(joint, q, settings, generator).anneal())
    return Estimate.concatenate(parts)


def at_the_end(
    model: LatentModel, x: Tensor, generator: torch.Generator, settings: LikelihoodSettings
) -> Estimate:
    """Annealed importance sampling at the cost that the settings allow."""
    how = Annealing(temperatures=settings.temperatures, chains=settings.chains, pilot_chains=2)
    return annealed(model, x, generator, settings=how)
