"""Log-densities, KL terms and draws, against torch.distributions and closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from vaelab.models.distributions import (
    Bernoulli,
    DiagonalNormal,
    kl_to_standard_normal,
    standard_normal_log_prob,
)

M, D = 7, 3  # pixels and latent dimensions; different, so that one cannot stand for the other


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def some_normal(dim: int = M) -> DiagonalNormal:
    return DiagonalNormal(normal(4, dim, seed=1), 0.7 * normal(4, dim, seed=2))


@pytest.mark.parametrize("kind", ["binary", "grey"])
def test_bernoulli_log_prob_is_torchs(kind: str) -> None:
    logits = 3.0 * normal(5, 4, M)
    x = torch.rand(4, M, generator=generator(), dtype=torch.float64)
    if kind == "binary":
        x = x.round()
    expected = torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(x)
    found = Bernoulli(logits).log_prob(x)
    torch.testing.assert_close(found, expected.sum(-1), rtol=1e-12, atol=1e-12)
    p = torch.sigmoid(logits)
    by_hand = (x * p.log() + (1.0 - x) * (1.0 - p).log()).sum(-1)
    torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-10)


def test_bernoulli_with_certain_logits_stays_finite() -> None:
    logits = torch.tensor([[1000.0], [1000.0], [-1000.0], [-1000.0]])
    x = torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    assert Bernoulli(logits).log_prob(x).tolist() == [0.0, -1000.0, 0.0, -1000.0]


def test_bernoulli_mean_and_draws_have_the_probabilities() -> None:
    probabilities = torch.tensor([0.02, 0.3, 0.5, 0.97], dtype=torch.float64)
    p = Bernoulli(torch.logit(probabilities).expand(100_000, 4))
    torch.testing.assert_close(p.mean[0], probabilities, rtol=1e-12, atol=0)
    draws = p.sample(generator())
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    error = (draws.mean(0) - probabilities).abs()
    assert (error < 5.0 * (probabilities * (1.0 - probabilities) / 100_000).sqrt()).all()
    assert torch.equal(draws, p.sample(generator()))
    assert not torch.equal(draws, p.sample(generator(1)))


def test_normal_log_prob_is_torchs_with_a_diagonal_covariance() -> None:
    """The report (section 6.1.1) counts latent dimensions for x and takes one variance for all."""
    p, x = some_normal(), normal(4, M)
    covariance = torch.diag_embed(p.log_var.exp())
    expected = torch.distributions.MultivariateNormal(p.mean, covariance).log_prob(x)
    torch.testing.assert_close(p.log_prob(x), expected, rtol=1e-12, atol=1e-12)


def test_normal_log_prob_rises_without_bound_as_a_constant_pixel_is_learned() -> None:
    """Variance to 0 sends the likelihood up and the loss down (report, 6.1.1, has it reversed)."""
    x = torch.zeros(1, dtype=torch.float64)
    log_vars = torch.tensor([0.0, -10.0, -100.0], dtype=torch.float64)
    values = [DiagonalNormal(x, v.reshape(1)).log_prob(x).item() for v in log_vars]
    assert values == pytest.approx([-0.5 * (math.log(2 * math.pi) + v) for v in log_vars.tolist()])


def test_normal_draws_are_reparameterised() -> None:
    mean, log_var = normal(M, seed=1).requires_grad_(), normal(M, seed=2).requires_grad_()
    draw = DiagonalNormal(mean, log_var).sample(generator())
    eps = normal(M)
    expected = mean + log_var.exp().sqrt() * eps
    torch.testing.assert_close(draw, expected, rtol=1e-12, atol=1e-12)
    weights = normal(M, seed=5)
    d_mean, d_log_var = torch.autograd.grad((weights * draw).sum(), (mean, log_var))
    torch.testing.assert_close(d_mean, weights, rtol=1e-12, atol=0)
    by_hand = weights * 0.5 * (0.5 * log_var).exp() * eps
    torch.testing.assert_close(d_log_var, by_hand.detach(), rtol=1e-12, atol=1e-14)


def test_normal_draws_have_the_mean_and_the_variance() -> None:
    n = 100_000
    mean = torch.tensor([-2.0, 0.0, 5.0], dtype=torch.float64)
    variance = torch.tensor([0.04, 1.0, 9.0], dtype=torch.float64)
    draws = DiagonalNormal(mean.expand(n, 3), variance.log().expand(n, 3)).sample(generator())
    assert ((draws.mean(0) - mean).abs() < 5.0 * (variance / n).sqrt()).all()
    assert ((draws.var(0) / variance - 1.0).abs() < 5.0 * math.sqrt(2.0 / n)).all()
    correlation = torch.corrcoef(draws.T) - torch.eye(3, dtype=torch.float64)
    assert correlation.abs().max() < 5.0 / math.sqrt(n)


def test_standard_normal_log_prob_is_torchs() -> None:
    z = 2.0 * normal(6, 4, D)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(standard_normal_log_prob(z), expected, rtol=1e-13, atol=0)
    origin = standard_normal_log_prob(torch.zeros(D, dtype=torch.float64))
    assert origin.item() == pytest.approx(-0.5 * D * math.log(2 * math.pi), rel=1e-15)


def test_kl_is_torchs_in_each_dimension() -> None:
    q = some_normal(D)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, (0.5 * q.log_var).exp()),
        torch.distributions.Normal(torch.zeros(4, D).double(), torch.ones(4, D).double()),
    )
    torch.testing.assert_close(kl_to_standard_normal(q), expected, rtol=1e-12, atol=1e-14)


def test_everything_stays_in_float64_when_given_float64() -> None:
    """1e8 apart, float32 would lose the differences that estimators average."""
    x = torch.tensor([1.0 + 1e-9], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    difference = Bernoulli(one).log_prob(x) - Bernoulli(one).log_prob(one)
    assert difference.item() == pytest.approx(1e-9, rel=1e-6)
    tight = DiagonalNormal(one, torch.zeros(1, dtype=torch.float64))
    assert tight.log_prob(one).item() == pytest.approx(-0.5 * math.log(2 * math.pi), rel=1e-15)
    assert tight.sample(generator()).dtype == torch.float64
    shifted = kl_to_standard_normal(DiagonalNormal(x, torch.zeros(1, dtype=torch.float64)))
    assert (shifted - 0.5).item() == pytest.approx(1e-9, rel=1e-6)
