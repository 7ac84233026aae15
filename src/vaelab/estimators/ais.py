"""Annealed importance sampling, forward and reverse, with HMC transitions.

Forward (Neal 2001) anneals from a tractable density f0 to the posterior through
f0(z)^(1 - beta) p(x, z)^beta; its mean weight is p(x), so its logarithm is a lower bound of
log p(x) in expectation. Reverse starts from an exact posterior draw, which exists for images
that the model itself simulated; there the mean inverse weight is 1/p(x), which gives an upper
bound. Together they bracket log p(x): bidirectional Monte Carlo (Grosse et al. 2015; Wu et al.
2017 for decoders).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vaelab.estimators.estimate import Estimate
from vaelab.estimators.hmc import Point, transition, tuned, value_and_gradient
from vaelab.estimators.log_weights import blocks, default_rows, draw
from vaelab.estimators.model import LatentModel, log_joint
from vaelab.estimators.reductions import log_mean_estimate
from vaelab.models.distributions import DiagonalNormal
from vaelab.settings.config import LikelihoodSettings
from vaelab.util.errors import VaelabError

# Steepness of the sigmoid of Wu et al.: small steps of beta at both ends.
_SIGMOID = 4.0
# Constant gain of the step-size adaptation, which has to follow a moving target.
_PILOT_GAIN = 0.2


@dataclass(frozen=True)
class Annealing:
    """How to anneal.

    Attributes:
        start: Where the path begins: the prior, which reaches every mode of the posterior,
            or the encoder's q(z|x), which is closer but may be blind to some of them.
        temperatures: T, steps of the schedule.
        chains: Independent weights averaged for each image and direction.
        pilot_chains: Further chains that only tune the step sizes.
        leapfrog: Leapfrog steps of a transition; one transition a temperature.
        target_accept: Acceptance probability that the pilot tunes to.

    Raises:
        VaelabError: If a count is not positive or the start is unknown.
    """

    start: Literal["prior", "proposal"] = "prior"
    temperatures: int = 200
    chains: int = 10
    pilot_chains: int = 4
    leapfrog: int = 4
    target_accept: float = 0.8

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to anneal."""
        if min(self.temperatures, self.chains, self.pilot_chains, self.leapfrog) < 1:
            raise VaelabError(f"annealing needs counts of at least 1: got {self}")
        if self.start not in ("prior", "proposal"):
            raise VaelabError(f"annealing starts at 'prior' or 'proposal', not {self.start!r}")

    @property
    def betas(self) -> list[float]:
        """Inverse temperatures 0 = beta_0 < ... < beta_T = 1 on a sigmoid (Wu et al. 2017)."""

        def sigmoid(step: int) -> float:
            return 1.0 / (1.0 + math.exp(-_SIGMOID * (2.0 * step / self.temperatures - 1.0)))

        low, high = sigmoid(0), sigmoid(self.temperatures)
        return [(sigmoid(step) - low) / (high - low) for step in range(self.temperatures + 1)]


_DEFAULT = Annealing()


@dataclass(frozen=True)
class Bracket:
    """Bounds on log p(x) of simulated images.

    Attributes:
        x: The images, shape (B, P).
        lower: Forward AIS, at or below log p(x) in expectation.
        upper: Reverse AIS, at or above log p(x) in expectation.
    """

    x: Tensor
    lower: Estimate
    upper: Estimate

    @property
    def gap(self) -> Tensor:
        """Upper minus lower bound of each image, shape (B,): nats left undetermined."""
        return self.upper.nats - self.lower.nats


@dataclass(frozen=True)
class AnnealedPoint(Point):
    """A point with the two ends of the path apart, so that a change of beta costs nothing.

    Attributes:
        log_start: log f0(z), shape (C, B).
        log_end: log p(x, z), shape (C, B).
        gradient_start: shape (C, B, d).
        gradient_end: shape (C, B, d).
    """

    log_start: Tensor
    log_end: Tensor
    gradient_start: Tensor
    gradient_end: Tensor

    @classmethod
    def between(
        cls,
        beta: float,
        z: Tensor,
        start: tuple[Tensor, Tensor],
        end: tuple[Tensor, Tensor],
    ) -> AnnealedPoint:
        """The point at beta, from value and gradient of both ends."""
        return cls(
            z=z,
            log_density=torch.lerp(start[0], end[0], beta),
            gradient=torch.lerp(start[1], end[1], beta),
            log_start=start[0],
            log_end=end[0],
            gradient_start=start[1],
            gradient_end=end[1],
        )

    def at(self, beta: float) -> AnnealedPoint:
        """The same positions at another temperature."""
        return self.between(
            beta,
            self.z,
            (self.log_start, self.gradient_start),
            (self.log_end, self.gradient_end),
        )


@dataclass(frozen=True)
class AnnealingPath:
    """The densities f0^(1 - beta) p(x, .)^beta of B images, and rough scales along it.

    Attributes:
        start: f0, parameters of shape (B, d).
        log_end: log p(x, z), shape (C, B), of z (C, B, d).
        end_log_var: Rough log-variances of the posterior, shape (B, d).
    """

    start: DiagonalNormal
    log_end: Callable[[Tensor], Tensor]
    end_log_var: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: LatentModel, x: Tensor, c: Tensor | None, start: str) -> AnnealingPath:
        """From the prior or from the encoder's q(z|x) to the posterior of images x (B, P)."""
        q = model.proposal(x, c)
        prior = DiagonalNormal(torch.zeros_like(q.mean), torch.zeros_like(q.log_var))
        return cls(
            start=prior if start == "prior" else q,
            log_end=lambda z: log_joint(model, x, z, c),
            end_log_var=q.log_var,
        )

    def scale(self, beta: float) -> Tensor:
        """Standard deviations, shape (B, d), of a Gaussian path with interpolated precision."""
        precision = (1.0 - beta) * torch.exp(-self.start.log_var)
        return (precision + beta * torch.exp(-self.end_log_var)).rsqrt()

    def evaluate(self, beta: float) -> Callable[[Tensor], AnnealedPoint]:
        """Positions -> point at beta, at the cost of one gradient of log p(x, z)."""

        def evaluate(z: Tensor) -> AnnealedPoint:
            slope = (self.start.mean - z) * torch.exp(-self.start.log_var)
            start = (self.start.log_prob(z), slope)
            return AnnealedPoint.between(beta, z, start, value_and_gradient(self.log_end, z))

        return evaluate


def _pilot(path: AnnealingPath, settings: Annealing, generator: torch.Generator) -> Tensor:
    """Step sizes (T + 1, B) for each temperature, found by annealing separate chains.

    The weights of the real chains are unbiased only if their transitions do not depend on
    their own past; steps that come from other chains keep them so.
    """
    betas = settings.betas
    z = draw(path.start, settings.pilot_chains, generator)
    point = path.evaluate(betas[0])(z)
    step = torch.full_like(z[0, :, 0], z.shape[-1] ** -0.25)
    steps = step.repeat(len(betas), 1)
    for number, beta in enumerate(betas[1:-1], start=1):
        point, probability = transition(
            path.evaluate(beta),
            point.at(beta),
            step,
            generator,
            leapfrog=settings.leapfrog,
            scale=path.scale(beta),
        )
        step = tuned(step, probability, settings.target_accept, _PILOT_GAIN)
        steps[number] = step
    return steps


def _anneal(
    path: AnnealingPath,
    settings: Annealing,
    steps: Tensor,
    z: Tensor,
    generator: torch.Generator,
    *,
    reverse: bool,
) -> Estimate:
    """Anneal chains z (C, B, d) up from f0, or down from exact posterior draws."""
    betas = settings.betas
    last = len(betas) - 1
    point = path.evaluate(betas[last if reverse else 0])(z)
    log_w = torch.zeros_like(point.log_density)
    accepted = torch.zeros_like(steps[0])
    for number in range(last, 0, -1) if reverse else range(1, last + 1):
        log_w += (betas[number] - betas[number - 1]) * (point.log_end - point.log_start)
        following = number - 1 if reverse else number
        if 0 < following < last:
            point, probability = transition(
                path.evaluate(betas[following]),
                point.at(betas[following]),
                steps[following],
                generator,
                leapfrog=settings.leapfrog,
                scale=path.scale(betas[following]),
            )
            accepted += probability.mean(0)
    estimate = log_mean_estimate(-log_w, sign=-1) if reverse else log_mean_estimate(log_w)
    accept_rate = accepted / max(1, last - 1)
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
    """Forward AIS: in expectation a lower bound of log p(x), tight for slow annealing.

    Costs (chains + pilot_chains) * ((temperatures - 1) * leapfrog + 1) gradient evaluations
    of the decoder per image.

    Args:
        model: The model.
        x: Images, shape (B, P).
        generator: Source of randomness, on the device of x.
        settings: How to anneal.
        c: Condition, one row per image.
        max_rows: Latents decoded at once, at least one image's chains; by default chosen for
            the device.

    Raises:
        VaelabError: If there is no image.
    """
    lower = []
    for columns in _image_blocks(x.shape[0], settings, max_rows or default_rows(x.device)):
        c_part = None if c is None else c[columns]
        path = AnnealingPath.of(model, x[columns], c_part, settings.start)
        steps = _pilot(path, settings, generator)
        z = draw(path.start, settings.chains, generator)
        lower.append(_anneal(path, settings, steps, z, generator, reverse=False))
    return Estimate.concatenate(lower)


def at_the_end(
    model: LatentModel, x: Tensor, generator: torch.Generator, settings: LikelihoodSettings
) -> Estimate:
    """Forward AIS from the prior, which misses no mode, at the cost that the settings allow."""
    how = Annealing(
        start="prior",
        temperatures=settings.temperatures,
        chains=settings.chains,
        pilot_chains=2,
    )
    return annealed(model, x, generator, settings=how)


def bidirectional(
    model: LatentModel,
    z: Tensor,
    generator: torch.Generator,
    *,
    settings: Annealing = _DEFAULT,
    c: Tensor | None = None,
    max_rows: int | None = None,
) -> Bracket:
    """Simulate one image for each latent z ~ N(0, I) and bracket its log p(x).

    Each z is an exact draw from the posterior of its own image, from which reverse AIS
    starts; all reverse chains of an image share it, so the `mc_se` and `ess` of the upper
    bound, which take chains as independent, are optimistic. Costs
    (2 * chains + pilot_chains) * ((temperatures - 1) * leapfrog + 1) gradient evaluations
    of the decoder per image.

    Args:
        model: The model.
        z: Draws from the prior, shape (B, d), float64.
        generator: Source of randomness, on the device of z.
        settings: How to anneal.
        c: Condition, one row per image.
        max_rows: Latents decoded at once, at least one image's chains; by default chosen for
            the device.

    Raises:
        VaelabError: If there is no image.
    """
    x = model.simulate(z, generator, c)
    lower, upper = [], []
    for columns in _image_blocks(x.shape[0], settings, max_rows or default_rows(x.device)):
        c_part = None if c is None else c[columns]
        path = AnnealingPath.of(model, x[columns], c_part, settings.start)
        steps = _pilot(path, settings, generator)
        first = draw(path.start, settings.chains, generator)
        exact = z[columns].expand(settings.chains, -1, -1)
        lower.append(_anneal(path, settings, steps, first, generator, reverse=False))
        upper.append(_anneal(path, settings, steps, exact, generator, reverse=True))
    return Bracket(x, Estimate.concatenate(lower), Estimate.concatenate(upper))


def _image_blocks(images: int, settings: Annealing, rows: int) -> Iterator[slice]:
    if images < 1:
        raise VaelabError("annealing needs at least one image")
    return blocks(images, max(1, rows // max(settings.chains, settings.pilot_chains)))
