"""Estimators of log p(x) against a linear-Gaussian model, where everything is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from linear_gaussian import LinearGaussian
from vaelab.estimators.ais import Annealing, annealed
from vaelab.estimators.estimate import Estimate
from vaelab.estimators.hmc import Point, evaluator, r_hat, sample, transition
from vaelab.estimators.kw_appendix_d import gaussian_fit_log_prob, kw_appendix_d
from vaelab.estimators.log_weights import LogTerms, draw, log_mean_exp, log_terms
from vaelab.estimators.model import VAEAdapter, log_joint
from vaelab.estimators.reductions import (
    elbo,
    estimates_over_images,
    harmonic,
    importance,
    notebook,
    report,
)
from vaelab.models.distributions import Bernoulli, DiagonalNormal
from vaelab.util.errors import VaelabError

# Two latents that the pixels mix: the posterior is correlated, so no diagonal q is exact.
CORRELATED = [[1.0, 0.3], [0.4, 0.9], [0.2, -0.5], [0.7, 0.6]]
# Orthogonal columns: the posterior is diagonal and q is exact.
ORTHOGONAL = [[1.0, 0.0], [0.0, 0.8], [0.0, 0.6], [0.5, 0.0]]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20_230_530)


def assert_mean_is(values: Tensor, expected: float, label: str) -> None:
    """The mean of independent values agrees with the expectation within 4 standard errors."""
    se = values.std().item() / values.numel() ** 0.5
    assert abs(values.mean().item() - expected) < 4.0 * se, f"{label}: {values.mean()} +- {se}"


def inverse_weight_mean_factor(model: LinearGaussian) -> float:
    """1 + chi2(q || posterior) of a proposal without shift, both Gaussian: closed form."""
    q_precision = torch.diag(1.0 / (model.stretch**2 * model.posterior_covariance.diagonal()))
    posterior_precision = torch.linalg.inv(model.posterior_covariance)
    root = torch.linalg.det(q_precision) / torch.sqrt(
        torch.linalg.det(posterior_precision)
        * torch.linalg.det(2.0 * q_precision - posterior_precision)
    )
    return root.item()


class TestLogMeanExp:
    """The reduction under every estimator."""

    def test_value(self):
        values = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float32).log()
        expected = torch.tensor([2.0, 3.0], dtype=torch.float64).log()
        assert log_mean_exp(values).dtype == torch.float64
        torch.testing.assert_close(log_mean_exp(values), expected, rtol=1e-6, atol=1e-6)
        assert log_mean_exp(values, 1)[1].item() == pytest.approx(math.log(3.5), abs=1e-6)

    def test_survives_values_that_underflow(self):
        values = torch.tensor([-2000.0, -2000.0 + math.log(3.0)])
        assert log_mean_exp(values).item() == pytest.approx(-2000.0 + math.log(2.0), abs=1e-3)

    def test_accumulates_in_float64(self):
        """A float32 sum of 1e8 and many ones would lose the ones."""
        values = torch.zeros(1001, dtype=torch.float32)
        values[0] = math.log(1e8)
        exact = math.log((math.exp(values[0].item()) + 1000.0) / 1001.0)
        assert log_mean_exp(values).item() == pytest.approx(exact, abs=1e-12)


class TestLogTerms:
    """Draws from q, in chunks."""

    @pytest.mark.parametrize(
        ("samples", "images", "max_rows"), [(1, 1, 1), (7, 5, 10), (10, 3, 1), (50, 9, 4096)]
    )
    def test_exactly_k_samples_in_bounded_chunks(self, generator, samples, images, max_rows):
        model = LinearGaussian(CORRELATED, 0.7)
        x = model.images(images, generator)
        terms = log_terms(model, x, samples, generator, max_rows=max_rows)
        assert terms.log_w.shape == (samples, images)
        assert sum(model.calls) == samples * images
        assert max(model.calls) <= max_rows
        assert torch.isfinite(terms.log_w).all()

    def test_every_draw_is_fresh(self, generator):
        model = LinearGaussian(CORRELATED, 0.7)
        terms = log_terms(model, model.images(4, generator), 25, generator, max_rows=6)
        assert terms.log_q.unique().numel() == 100

    def test_same_generator_state_same_result(self):
        model = LinearGaussian(CORRELATED, 0.7)
        x = model.images(4, torch.Generator().manual_seed(0))
        first, second = (
            log_terms(model, x, 20, torch.Generator().manual_seed(3), max_rows=7).log_w
            for _ in range(2)
        )
        assert torch.equal(first, second)

    def test_chunks_do_not_change_the_distribution(self, generator):
        """Mean and variance of log w agree, per image, between extremes of chunking."""
        model = LinearGaussian(CORRELATED, 0.7, shift=0.5, stretch=1.3)
        x = model.images(3, generator)
        small, large = (
            log_terms(model, x, 3000, generator, max_rows=rows).log_w for rows in (2, 9000)
        )
        se = torch.sqrt(small.var(0) / 3000 + large.var(0) / 3000)
        assert ((small.mean(0) - large.mean(0)).abs() < 4.0 * se).all()
        torch.testing.assert_close(small.std(0), large.std(0), rtol=0.15, atol=0.0)

    def test_terms_are_the_densities(self, generator):
        """Exact q: w is p(x) at every draw, and both recovered squares match the draws."""
        model = LinearGaussian(ORTHOGONAL, 0.5)
        x = model.images(6, generator)
        terms = log_terms(model, x, 30, generator)
        torch.testing.assert_close(terms.log_w, model.exact(x).expand(30, -1))
        z = draw(model.proposal(x), 8000, generator)
        torch.testing.assert_close(
            log_terms(model, x, 8000, generator).squared_norm.mean(0),
            z.square().sum(-1).mean(0),
            rtol=0.1,
            atol=0.02,
        )
        assert_mean_is(terms.squared_distance, model.latent_dim, "chi-squared")

    def test_refuses_nothing(self, generator):
        model = LinearGaussian(CORRELATED, 0.7)
        x = model.images(2, generator)
        with pytest.raises(VaelabError, match="samples=0"):
            log_terms(model, x, 0, generator)
        with pytest.raises(VaelabError, match="images=0"):
            log_terms(model, x[:0], 5, generator)


class TestReductions:
    """The five estimators that share one set of draws."""

    def test_importance_agrees_with_a_mismatched_q(self, generator):
        model = LinearGaussian(CORRELATED, 0.6, shift=0.4, stretch=1.4)
        x = model.images(200, generator)
        estimate = importance(log_terms(model, x, 4000, generator))
        assert_mean_is(estimate.nats - model.exact(x), 0.0, "importance sampling")
        scores = (estimate.nats - model.exact(x)) / estimate.mc_se
        assert 0.85 < scores.std().item() < 1.15

    def test_bound_rises_with_k_between_elbo_and_truth(self, generator):
        """Over 4000 replicates, with nested samples: elbo < K=1..32 in order < exact."""
        model = LinearGaussian(CORRELATED, 0.6, shift=0.3)
        x = model.images(1, generator).expand(4000, -1)
        log_w = log_terms(model, x, 32, generator).log_w
        bounds = [
            torch.logsumexp(log_w.unflatten(0, (-1, k)), 1).sub(math.log(k)).mean(0)
            for k in (1, 2, 4, 8, 16, 32)
        ]
        for lower, upper in zip(bounds, bounds[1:], strict=False):
            gain = upper - lower
            assert (gain > -1e-9).all(), "disjoint groups average to less than the whole"
            assert gain.mean() > 4.0 * gain.std() / gain.numel() ** 0.5
        assert bounds[-1].mean() < model.exact(x)[0]
        kl = model.exact(x)[0] - bounds[0].mean()
        assert kl > 0.05, "the mismatch has to be visible for the order to mean anything"

    def test_elbo_gap_is_the_kl_divergence(self, generator):
        model = LinearGaussian(CORRELATED, 0.6, stretch=1.2)
        x = model.images(300, generator)
        q = DiagonalNormal(*(t[0] for t in vars(model.proposal(x)).values()))
        mean = torch.zeros(2, dtype=torch.float64)
        kl = torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(mean, torch.diag(q.log_var.exp())),
            torch.distributions.MultivariateNormal(mean, model.posterior_covariance),
        )
        estimate = elbo(log_terms(model, x, 200, generator))
        assert_mean_is(estimate.nats - model.exact(x), -kl.item(), "ELBO")

    def test_one_sample_makes_three_estimators_equal(self, generator):
        model = LinearGaussian(CORRELATED, 0.6)
        terms = log_terms(model, model.images(5, generator), 1, generator)
        for estimator in (importance, harmonic):
            torch.testing.assert_close(estimator(terms).nats, elbo(terms).nats)

    def test_exact_q_leaves_only_the_formula_errors(self, generator):
        """With q exact, ELBO, IS and harmonic are exact, and the slips are left alone.

        The printed exponent multiplies 1/w by exp(|eps|^2 / 4), of mean 2^(d/2); the flipped
        sign by exp(-|z|^2), a Gaussian integral.
        """
        model = LinearGaussian(ORTHOGONAL, 0.5)
        x = model.images(4, generator)
        exact = model.exact(x)
        terms = log_terms(model, x, 400_000, generator)
        for estimator in (elbo, importance, harmonic):
            torch.testing.assert_close(estimator(terms).nats, exact)
        expected = exact - 0.5 * model.latent_dim * math.log(2.0)
        torch.testing.assert_close(report(terms).nats, expected, rtol=0.0, atol=0.02)
        q = model.proposal(x)
        spread = 1.0 + 2.0 * q.log_var.exp()
        inflation = (0.5 * spread.log() + q.mean.square() / spread).sum(-1)
        torch.testing.assert_close(notebook(terms).nats, exact + inflation, rtol=0.0, atol=0.02)
        assert (inflation < (q.mean.square() + q.log_var.exp()).sum(-1)).all()

    def test_report_derivation_tends_to_the_chi_squared_bias(self, generator):
        """Sampling q instead of the posterior: limit log p(x) - log(1 + chi2), below the ELBO."""
        model = LinearGaussian([[1.0, 0.25], [0.3, 0.9]], 0.8)
        correlation = model.posterior_covariance[0, 1] / model.posterior_covariance.diagonal()[0]
        assert 0.2 < abs(correlation) < 0.45, "chosen so that 1/w has a finite variance"
        x = model.images(8, generator)
        terms = log_terms(model, x, 200_000, generator)
        bias = harmonic(terms).nats - model.exact(x)
        factor = inverse_weight_mean_factor(model)
        assert factor > 1.05
        assert_mean_is(bias, -math.log(factor), "limit of the harmonic form")
        assert (harmonic(terms).nats < elbo(terms).nats).all()
        assert (report(terms).nats < harmonic(terms).nats).all()

    def test_fifty_samples_order_as_in_the_figure(self, generator):
        """L = 50 as in the report: report < harmonic < ELBO < IS for each image, IS < exact."""
        model = LinearGaussian(CORRELATED, 0.5, shift=1.0, stretch=1.1)
        x = model.images(8000, generator)
        estimates = estimates_over_images(model, x, 50, generator)
        order = ["report", "harmonic", "elbo", "importance"]
        for lower, upper in zip(order, order[1:], strict=False):
            assert (estimates[upper].nats > estimates[lower].nats).all(), (lower, upper)
        assert (estimates["notebook"].nats > estimates["harmonic"].nats).all()
        loss = model.exact(x) - estimates["importance"].nats
        assert loss.mean() > 4.0 * loss.std() / loss.numel() ** 0.5

    def test_printed_formulas_by_hand(self):
        """One draw of a 2-dimensional model, every factor of the printed formulas written out."""
        mu, sigma, z = (torch.tensor(v).double() for v in ([0.3, -1.0], [0.5, 2.0], [0.8, 0.4]))
        log_lik = -7.25
        quadratic = ((mu - z) ** 2 / sigma**2).sum()
        norm = (z**2).sum()
        log_2pi = math.log(2.0 * math.pi)
        terms = LogTerms(
            log_lik=torch.tensor([[log_lik]]).double(),
            log_prior=(-0.5 * norm - log_2pi).reshape(1, 1),
            log_q=(-0.5 * quadratic - sigma.log().sum() - log_2pi).reshape(1, 1),
            log_scale=sigma.log().sum().reshape(1),
            latent_dim=2,
        )
        printed = torch.exp(-0.5 * quadratic / 2 + 0.5 * norm - log_lik) / sigma.prod()
        coded = torch.exp(-0.5 * quadratic - 0.5 * norm - log_lik) / sigma.prod()
        assert report(terms).nats.item() == pytest.approx(-math.log(printed), abs=1e-12)
        assert notebook(terms).nats.item() == pytest.approx(-math.log(coded), abs=1e-12)

    def test_over_images_equals_the_single_reductions(self, monkeypatch):
        """One set of K samples serves all five, in blocks of images that fit the memory."""
        model = LinearGaussian(CORRELATED, 0.6)
        x = model.images(10, torch.Generator().manual_seed(1))
        monkeypatch.setattr("vaelab.estimators.reductions._MAX_ENTRIES", 12)
        model.calls.clear()
        estimates = estimates_over_images(model, x, 4, torch.Generator().manual_seed(2))
        assert sum(model.calls) == 40
        assert max(model.calls) == 12
        rng = torch.Generator().manual_seed(2)
        terms = [log_terms(model, x[i : i + 3], 4, rng) for i in range(0, 10, 3)]
        for name, reduce in zip(
            ("elbo", "importance", "report", "notebook", "harmonic"),
            (elbo, importance, report, notebook, harmonic),
            strict=True,
        ):
            expected = torch.cat([reduce(part).nats for part in terms])
            assert torch.equal(estimates[name].nats, expected)
            assert estimates[name].z_samples == 4

    def test_effective_sample_size(self):
        values = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]).double().log()
        zero = torch.zeros(4, 2).double()
        terms = LogTerms(values, zero, zero, zero[0], 1)
        assert importance(terms).diagnostics["ess"].tolist() == pytest.approx([4.0, 1.0])
        assert importance(terms).note() == "ESS 2.5 of 4"


class TestEstimate:
    """The common result."""

    def test_mean_and_errors(self):
        estimate = Estimate(
            torch.tensor([-1.0, -3.0, -5.0]).double(), 10, torch.tensor([0.3, 0.0, 0.4]).double()
        )
        assert estimate.mean == pytest.approx(-3.0)
        assert estimate.se == pytest.approx(2.0 / 3**0.5)
        assert estimate.mean_mc_se == pytest.approx(0.5 / 3)
        assert estimate.images == 3
        assert math.isnan(Estimate(torch.zeros(1), 1, torch.zeros(1)).se)

    def test_note_and_concatenate(self):
        one = torch.ones(2).double()
        estimate = Estimate(one, 100, one, {"ess": 12 * one, "accept_rate": 0.894 * one})
        assert estimate.note() == "ESS 12 of 100, accept 0.89"
        assert Estimate(one, 5000, one, {"ess": 1890.4 * one}).note() == "ESS 1890 of 5000"
        joined = Estimate.concatenate([estimate, estimate])
        assert joined.images == 4
        assert joined.diagnostics["ess"].tolist() == [12.0] * 4


class TestHMC:
    """Hamiltonian Monte Carlo on Gaussian and other targets."""

    def test_recovers_posterior_mean_and_covariance(self, generator):
        """Within 4 standard errors, from a bad start, for images with different posteriors."""
        model = LinearGaussian(CORRELATED, 0.4)
        x = model.images(3, generator)
        run = sample(
            lambda z: log_joint(model, x, z),
            torch.full((200, 3, 2), 3.0, dtype=torch.float64),
            draws=100,
            burn_in=100,
            generator=generator,
        )
        mean = model.posterior_mean(x)
        for image in range(3):
            centred = run.samples[:, :, image] - mean[image]
            per_chain = centred.mean(0)
            products = (centred.unsqueeze(-1) * centred.unsqueeze(-2)).mean(0)
            for i in range(2):
                assert_mean_is(per_chain[:, i], 0.0, f"mean {i}")
                for j in range(2):
                    expected = model.posterior_covariance[i, j].item()
                    assert_mean_is(products[:, i, j], expected, f"covariance {i} {j}")
        assert ((run.accept_rate - 0.9).abs() < 0.03).all()
        assert (r_hat(run.samples) < 1.02).all()
        expected = log_joint(model, x, run.samples.flatten(0, 1)).unflatten(0, (100, 200))
        torch.testing.assert_close(run.log_density, expected)

    def test_step_size_adapts_to_each_image(self, generator):
        """Targets N(0, s^2) with s = 0.01, 1 and 100: the step follows the scale."""
        sd = torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64)
        start = sd.unsqueeze(-1) * torch.randn((50, 3, 1), generator=generator).double()
        run = sample(
            lambda z: -0.5 * (z.squeeze(-1) / sd).square(),
            start,
            draws=100,
            burn_in=200,
            generator=generator,
            step_size=torch.tensor([1.0, 1.0, 50.0], dtype=torch.float64),
        )
        assert ((run.accept_rate - 0.9).abs() < 0.04).all()
        torch.testing.assert_close(run.step_size / sd, torch.ones(3).double(), rtol=0.5, atol=0.0)

    def test_scale_replaces_the_adaptation_of_each_dimension(self, generator):
        sd = torch.tensor([[0.01, 10.0]], dtype=torch.float64)
        run = sample(
            lambda z: -0.5 * (z / sd).square().sum(-1),
            torch.zeros((100, 1, 2), dtype=torch.float64),
            draws=50,
            burn_in=50,
            generator=generator,
            scale=sd,
        )
        variance = (run.samples / sd).square().mean((0, 2))
        for dimension in range(2):
            assert_mean_is(variance[:, dimension], 1.0, f"variance {dimension}")

    def test_leapfrog_is_of_second_order(self, generator):
        """Halving the step cuts the energy error fourfold, and the rejections with it."""
        evaluate = evaluator(lambda z: -0.25 * z.pow(4).sum(-1))
        z = torch.randn((20_000, 1, 1), generator=generator).double()
        losses = []
        for step in (0.1, 0.05):
            _, probability = transition(
                evaluate,
                evaluate(z),
                torch.full((1,), step, dtype=torch.float64),
                generator,
                leapfrog=round(1.6 / step),
            )
            losses.append(1.0 - probability.mean().item())
        assert losses[0] / losses[1] == pytest.approx(4.0, abs=0.4)

    def test_divergence_is_a_rejection(self, generator):
        """Outside the support the density is -inf or NaN; the chain stays where it was."""

        def evaluate(z: Tensor) -> Point:
            bad = torch.where(z.squeeze(-1) > 0, math.nan, -math.inf)
            return Point(z, bad, torch.zeros_like(z))

        start = torch.zeros((10, 2, 1), dtype=torch.float64)
        point = Point(start, torch.zeros((10, 2)).double(), torch.zeros_like(start))
        after, probability = transition(evaluate, point, torch.ones(2).double(), generator)
        assert torch.equal(after.z, start)
        assert (probability == 0).all()

    def test_costs_what_it_says(self, generator):
        model = LinearGaussian(CORRELATED, 0.6)
        x = model.images(2, generator)
        model.calls.clear()
        sample(
            lambda z: log_joint(model, x, z),
            torch.zeros((3, 2, 2), dtype=torch.float64),
            draws=5,
            burn_in=7,
            leapfrog=3,
            generator=generator,
        )
        assert model.calls == [6] * ((7 + 5) * 3 + 1)

    def test_r_hat_sees_chains_that_disagree(self, generator):
        samples = torch.randn((100, 4, 2, 3), generator=generator).double()
        samples[:, 0, 1, 2] += 5.0
        assert r_hat(samples)[0] < 1.05
        assert r_hat(samples)[1] > 1.5


class TestAppendixD:
    """Kingma & Welling's estimator."""

    def test_agrees_with_exact(self, generator):
        model = LinearGaussian(CORRELATED, 0.5, shift=1.0, stretch=0.5)
        x = model.images(100, generator)
        estimate = kw_appendix_d(model, x, generator)
        errors = estimate.nats - model.exact(x)
        assert_mean_is(errors, 0.0, "appendix D")
        assert errors.std() < 0.1
        scores = errors / estimate.mc_se
        assert 0.7 < scores.std().item() < 1.6
        assert estimate.z_samples == 400
        assert estimate.diagnostics["ess"].mean() > 350
        assert ((estimate.diagnostics["accept_rate"] - 0.9).abs() < 0.06).all()

    def test_costs_what_it_says_in_bounded_blocks(self, generator):
        model = LinearGaussian(CORRELATED, 0.5)
        x = model.images(5, generator)
        model.calls.clear()
        kw_appendix_d(model, x, generator, draws=4, chains=3, burn_in=2, leapfrog=5, max_rows=12)
        assert sum(model.calls) == 5 * 2 * 3 * ((2 + 4) * 5 + 1)
        assert max(model.calls) == 12

    def test_fitted_gaussian_is_the_multivariate_normal(self, generator):
        fit = torch.randn((50, 2, 3), generator=generator).double() * 0.3 + 1.0
        z = torch.randn((7, 2, 3), generator=generator).double()
        for image in range(2):
            normal = torch.distributions.MultivariateNormal(
                fit[:, image].mean(0), torch.cov(fit[:, image].T)
            )
            torch.testing.assert_close(
                gaussian_fit_log_prob(fit, z)[:, image], normal.log_prob(z[:, image])
            )


class TestAIS:
    """Annealed importance sampling."""

    def test_agrees_with_exact(self, generator):
        model = LinearGaussian(CORRELATED, 0.5, shift=0.7, stretch=0.6)
        x = model.images(120, generator)
        settings = Annealing(temperatures=60, chains=30)
        estimate = annealed(model, x, generator, settings=settings)
        errors = estimate.nats - model.exact(x)
        assert_mean_is(errors, 0.0, "AIS")
        assert errors.std() < 0.15
        assert (estimate.diagnostics["accept_rate"] > 0.6).all()

    def test_weights_are_unbiased_however_short_the_schedule(self, generator):
        """E[w] = p(x) with 5 temperatures, where the bound itself is visibly loose."""
        model = LinearGaussian(CORRELATED, 0.5)
        x = model.images(1, generator).expand(4000, -1)
        settings = Annealing(temperatures=5, chains=1)
        estimate = annealed(model, x, generator, settings=settings)
        ratio = torch.exp(estimate.nats - model.exact(x))
        assert_mean_is(ratio, 1.0, "mean weight")
        assert estimate.mean < model.exact(x)[0].item() - 0.1

    def test_one_temperature_is_importance_sampling_from_the_start(self, generator):
        """No transition at all: the mean weight is the likelihood averaged over the prior."""
        model = LinearGaussian(CORRELATED, 1.5)
        x = model.images(50, generator)
        settings = Annealing(temperatures=1, chains=2000)
        estimate = annealed(model, x, generator, settings=settings)
        assert_mean_is(estimate.nats - model.exact(x), 0.0, "prior sampling")

    def test_costs_what_it_says_in_bounded_blocks(self, generator):
        model = LinearGaussian(CORRELATED, 0.5)
        x = model.images(5, generator)
        settings = Annealing(temperatures=7, chains=4, pilot_chains=2, leapfrog=3)
        model.calls.clear()
        annealed(model, x, generator, settings=settings, max_rows=8)
        assert sum(model.calls) == 5 * (4 + 2) * (6 * 3 + 1)
        assert max(model.calls) == 8

    def test_schedule(self):
        betas = Annealing(temperatures=10).betas
        assert betas[0] == 0.0
        assert betas[-1] == 1.0
        assert betas[5] == pytest.approx(0.5)
        steps = [b - a for a, b in zip(betas, betas[1:], strict=False)]
        assert min(steps) == pytest.approx(steps[0])
        assert steps[0] > 0


class TestConditions:
    """Conditional models."""

    def test_every_estimator_passes_the_condition_on(self, generator, monkeypatch):
        """Conditions that move all pixels by many sigma, images in several blocks."""
        monkeypatch.setattr("vaelab.estimators.reductions._MAX_ENTRIES", 500 * 5)
        model = LinearGaussian(CORRELATED, 0.5)
        c = 5.0 * torch.randn((12, 1), generator=generator, dtype=torch.float64)
        x = model.images(12, generator, c)
        exact = model.exact(x, c)
        settings = Annealing(temperatures=100)
        cheap = estimates_over_images(model, x, 500, generator, c=c, max_rows=5)
        results = {
            "importance": cheap["importance"].nats,
            "kw_d": kw_appendix_d(model, x, generator, c=c, max_rows=80).nats,
            "ais": annealed(model, x, generator, c=c, settings=settings, max_rows=80).nats,
        }
        for name, nats in results.items():
            assert (nats - exact).abs().max() < 0.6, name


class ToyVAE(nn.Module):
    """A float32 VAE with one tanh layer; the decoder takes the condition, if any."""

    latent_dim = 2

    def __init__(self, pixels: int = 12, condition: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(pixels + condition, 4)
        self.decoder = nn.Sequential(nn.Linear(2 + condition, 8), nn.Tanh(), nn.Linear(8, pixels))

    def encode(self, x: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        inputs = x if c is None else torch.cat([x, c], -1)
        return DiagonalNormal(*self.encoder(inputs).chunk(2, -1))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Bernoulli:
        return Bernoulli(self.decoder(z if c is None else torch.cat([z, c], -1)))


class TestVAEAdapter:
    """Networks behind the estimators."""

    def test_log_likelihood_is_the_decoders(self, generator):
        vae = ToyVAE(condition=3)
        x = torch.rand((5, 12), generator=generator)
        c = torch.eye(5, 3)
        z = torch.randn((4, 5, 2), generator=generator).double()
        got = VAEAdapter(vae).log_likelihood(x, z, c)
        assert got.dtype == torch.float64
        for k in range(4):
            for b in range(5):
                expected = vae.decode(z[k, b].float(), c[b]).log_prob(x[b])
                assert got[k, b].item() == pytest.approx(expected.item(), abs=1e-5)
        assert VAEAdapter(vae).proposal(x, c).mean.dtype == torch.float64

    def test_all_estimators_agree_on_a_nonlinear_decoder(self, generator):
        """No closed form here: two latents are integrated on a grid instead."""
        model = VAEAdapter(ToyVAE())
        z = torch.randn((30, 2), generator=generator, dtype=torch.float64)
        with torch.no_grad():
            x = model.vae.decode(z.float()).sample(generator)
        axis = torch.linspace(-7.0, 7.0, 141, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 30, -1)
        with torch.no_grad():
            exact = torch.logsumexp(log_joint(model, x, grid), 0) + 2.0 * math.log(0.1)
        cheap = estimates_over_images(model, x, 5000, generator)
        assert_mean_is(cheap["importance"].nats - exact, 0.0, "importance sampling")
        torch.testing.assert_close(cheap["importance"].nats, exact, rtol=0.0, atol=0.5)
        kw = kw_appendix_d(model, x, generator)
        torch.testing.assert_close(kw.nats, exact, rtol=0.0, atol=0.3)
        assert_mean_is(kw.nats - exact, 0.0, "appendix D")
        settings = Annealing(temperatures=60, chains=20)
        ais = annealed(model, x, generator, settings=settings)
        torch.testing.assert_close(ais.nats, exact, rtol=0.0, atol=0.3)

    def test_stretch_rescues_an_encoder_that_is_too_sure(self, generator):
        """q of a tenth of the right width far from the posterior's mean: IS needs it wider."""
        vae = ToyVAE()
        with torch.no_grad():
            vae.encoder.bias.copy_(torch.tensor([1.0, 1.0, math.log(0.01), math.log(0.01)]))
        x = torch.rand((50, 12), generator=generator).round()
        narrow, wide = VAEAdapter(vae), VAEAdapter(vae, stretch=10.0)
        ratio = wide.proposal(x).log_var - narrow.proposal(x).log_var
        torch.testing.assert_close(ratio, torch.full_like(ratio, math.log(100.0)))
        exact = importance(log_terms(wide, x, 20_000, generator))
        near = importance(log_terms(wide, x, 2000, generator))
        far = importance(log_terms(narrow, x, 2000, generator))
        assert_mean_is(near.nats - exact.nats, 0.0, "wide proposal")
        assert far.mean < exact.mean - 0.2

    def test_leaves_no_gradients_behind(self, generator):
        vae = ToyVAE()
        model = VAEAdapter(vae)
        x = torch.rand((3, 12), generator=generator)
        results = [
            *estimates_over_images(model, x, 4, generator).values(),
            kw_appendix_d(model, x, generator, draws=4, burn_in=2),
            annealed(model, x, generator, settings=Annealing(temperatures=3)),
        ]
        assert not any(result.nats.requires_grad for result in results)
        assert all(parameter.grad is None for parameter in vae.parameters())
