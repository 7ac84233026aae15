"""Wake-sleep and MCEM: gradients, chains, closed-form optima, fitted posteriors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reports import heard
from toys import BF16, FP32, VARIANTS, toy_batch, toy_images, toy_spec, train
from vaelab.estimators.fitted import FittedAdapter, adapter_of
from vaelab.estimators.kw_appendix_d import kw_appendix_d
from vaelab.estimators.log_weights import log_terms
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import importance
from vaelab.evaluation.evaluator import FITTED, evaluate
from vaelab.evaluation.likelihood import likelihood_tables
from vaelab.models.distributions import Bernoulli, DiagonalNormal
from vaelab.models.families import build
from vaelab.models.mlp import MLP
from vaelab.models.vae import VAE
from vaelab.settings.config import EvaluationSettings, LikelihoodSettings
from vaelab.settings.spec import RunSpec
from vaelab.training.baselines import McemGradients, WakeSleepGradients
from vaelab.training.device import Compute
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.fast.optimizer import fastest_optimizer
from vaelab.training.history import FITTED_IMAGES
from vaelab.training.trainer import Trainer, TrainingResult

UNCONDITIONAL = [name for name, run in VARIANTS.items() if run.model.condition == "none"]
DATA = toy_images()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def toy_train(
    run: RunSpec, folder: Path, *, seed: int = 0, compute: Compute = FP32
) -> TrainingResult:
    return train("toy", run, seed, DATA, compute, resume=folder / "r")


# --- Wake-sleep -------------------------------------------------------------------------------


def wake_sleep(name: str) -> tuple[WakeSleepGradients, Tensor, Tensor]:
    """Fresh wake-sleep gradients of a variant, with its images and the numbers of these."""
    run = VARIANTS[name]
    model = build(run, generator())
    x, _, _ = toy_batch(run, model)
    flat = FlatParameters(model, torch.float32)
    return WakeSleepGradients(model, flat, 1.0, torch.float32), x, torch.arange(len(x))


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_wake_sleep_gradients_are_those_of_the_two_phases(name: str) -> None:
    gradients, x, index = wake_sleep(name)
    eps, dreamt_z, dreamt_x = drawn = gradients.draw(x, index, generator(5))
    gradients(x, None, *drawn)
    ours = gradients.flat.gradient.clone()
    gradients.flat.gradient.zero_()
    model = gradients.model
    with torch.no_grad():
        q = model.encode(x)
        z = q.mean + torch.exp(0.5 * q.log_var) * eps
    wake = -model.decode(z).log_prob(x).mean()
    sleep = -model.encode(dreamt_x).log_prob(dreamt_z).mean()
    (wake + sleep).backward()
    theirs = gradients.flat.gradient
    assert theirs.abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6 * theirs.abs().max().item())


@pytest.mark.parametrize("name", ["shared_tanh", "gaussian"])
def test_dreams_are_samples_of_the_model(name: str) -> None:
    gradients, x, _ = wake_sleep(name)
    eps, z, dreamt = gradients.draw(x.expand(1, *x.shape).repeat(300, 1, 1).flatten(0, 1),
                                    torch.zeros(0), generator(1))  # fmt: skip
    assert abs((eps * z).mean().item()) < 0.05, "the phases have noise of their own"
    assert abs(z.mean().item()) < 0.05
    assert z.std().item() == pytest.approx(1.0, abs=0.03)
    with torch.no_grad():
        p = gradients.model.decode(z)
    if isinstance(p, Bernoulli):
        assert set(dreamt.unique().tolist()) == {0.0, 1.0}
        variance = p.mean * (1.0 - p.mean)
    else:
        variance = p.log_var.exp()
    scores = (dreamt - p.mean) / variance.sqrt()
    assert abs(scores.mean().item()) < 5 / scores.numel() ** 0.5
    assert scores.square().mean().item() == pytest.approx(1.0, abs=0.01)


def test_wake_sleep_in_bf16_learns_and_repeats_bit_for_bit(tmp_path: Path) -> None:
    run = toy_spec(method="wake_sleep", samples=3000, batch_size=50, learning_rate=5e-3)
    one, two = (toy_train(run, tmp_path, compute=BF16) for _ in range(2))
    assert one.history[-1]["train_neg_elbo"] < 0.75 * one.history[0]["train_neg_elbo"]
    assert all(torch.equal(tensor, two.state[name]) for name, tensor in one.state.items())


# --- A linear model, whose maximum likelihood is known ------------------------------------------


class LinearModel(nn.Module):
    """x = W z + b + sigma eps and q(z|x) = N(V x + a, diag(exp(U x + c))): what VAE offers."""

    def __init__(self, pixels: int, latent_dim: int, sigma: float) -> None:
        super().__init__()
        self.latent_dim, self.likelihood, self.sigma = latent_dim, "linear", sigma
        self.trunks = ["encoder"]
        self.encoder = MLP([pixels, 2 * latent_dim], "tanh")
        self.decoder = MLP([latent_dim, pixels], "tanh")

    def encode(self, x: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        return DiagonalNormal(*self.encoder(x).chunk(2, -1))

    def observed(self, out: Tensor) -> DiagonalNormal:
        return DiagonalNormal(out, torch.full_like(out, 2.0 * math.log(self.sigma)))

    def decode(self, z: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        return self.observed(self.decoder(z))

    @property
    def weight(self) -> Tensor:
        return self.decoder.layers[0].weight.detach().double()

    def exact(self, x: Tensor) -> Tensor:
        """Log p(x), shape (B,)."""
        noise = self.sigma**2 * torch.eye(x.shape[1], dtype=torch.float64)
        mean = self.decoder.layers[0].bias.detach().double()
        covariance = self.weight @ self.weight.T + noise
        return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x.double())

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, d) and covariance (d, d) of p(z|x)."""
        eye = torch.eye(self.latent_dim, dtype=torch.float64)
        covariance = torch.linalg.inv(eye + self.weight.T @ self.weight / self.sigma**2)
        residual = x.double() - self.decoder.layers[0].bias.detach()
        return residual @ self.weight @ covariance / self.sigma**2, covariance


class _LinearError:
    """The output error of `LinearModel`, which no run can ask for."""

    model: LinearModel

    def output_error(self, out: Tensor, x: Tensor) -> Tensor:
        return (out - x) / self.model.sigma**2


class LinearMcem(_LinearError, McemGradients):
    """MCEM for `LinearModel`."""


class LinearWakeSleep(_LinearError, WakeSleepGradients):
    """Wake-sleep for `LinearModel`."""


def linear_model(
    pixels: int = 6, latent_dim: int = 2, sigma: float = 0.5
) -> tuple[LinearModel, Tensor]:
    """A model with random weights and 200 images drawn from another one."""
    model, truth = (LinearModel(pixels, latent_dim, sigma) for _ in range(2))
    rng = generator(1)
    with torch.no_grad():
        for parameter in (*truth.decoder.parameters(), *model.decoder.parameters()):
            parameter.normal_(generator=rng)
        for parameter in model.encoder.parameters():
            parameter.normal_(0.0, 0.1, generator=rng)
        z = torch.randn((200, latent_dim), generator=rng)
        x = truth.decode(z).sample(rng)
    return model, x


def best_log_likelihood(x: Tensor, latent_dim: int, sigma: float) -> float:
    """Of probabilistic PCA with known noise: Tipping & Bishop (1999), equations 3 and 7."""
    x = x.double()
    values, vectors = torch.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    excess = (values[-latent_dim:] - sigma**2).clamp(min=0.0)
    weight = vectors[:, -latent_dim:] * excess.sqrt()
    covariance = weight @ weight.T + sigma**2 * torch.eye(x.shape[1], dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    return normal.log_prob(x).mean().item()


def climb(gradients: McemGradients | WakeSleepGradients, x: Tensor, steps: int) -> float:
    """Mean log p(x) after training a linear model on all of x in each step."""
    run = toy_spec(method="mcem", learning_rate=0.03)
    optimizer, rng = fastest_optimizer(run.recipe.optimizer, gradients.flat, 0.999), generator(2)
    for step in range(steps):
        drawn = gradients.draw(x, torch.arange(len(x)), rng)
        for _ in range(gradients.updates):
            gradients(x, None, *drawn)
            optimizer.step(run.recipe.learning_rate * (1.0 - step / steps))
    return gradients.model.exact(x).mean().item()


def test_mcem_reaches_the_maximum_likelihood_of_a_linear_model() -> None:
    model, x = linear_model()
    best = best_log_likelihood(x, model.latent_dim, model.sigma)
    assert model.exact(x).mean().item() < best - 5.0
    gradients = LinearMcem(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
    gradients.start(len(x), generator())
    assert best - 0.02 < climb(gradients, x, 400) <= best + 1e-6


def test_wake_sleep_reaches_the_maximum_likelihood_of_a_linear_model() -> None:
    """With one latent dimension the encoder can be exact, and wake-sleep has no bias."""
    model, x = linear_model(latent_dim=1)
    best = best_log_likelihood(x, model.latent_dim, model.sigma)
    assert model.exact(x).mean().item() < best - 2.0
    gradients = LinearWakeSleep(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
    assert best - 0.03 < climb(gradients, x, 2500) <= best + 1e-6
    mean, covariance = model.posterior(x)
    with torch.no_grad():
        q = model.encode(x)
    error = (q.mean - mean) / covariance.sqrt()
    assert error.square().mean().sqrt() < 0.15
    assert q.log_var.exp().mean().item() == pytest.approx(covariance.item(), rel=0.15)


# --- MCEM -------------------------------------------------------------------------------------


def test_mcem_learns_and_leaves_the_encoder_alone(
    mcem: tuple[RunSpec, VAE, TrainingResult], tmp_path: Path
) -> None:
    run, _, result = mcem
    assert result.history[-1]["samples"] == 2000
    assert result.history[-1]["train_neg_elbo"] < 0.65 * result.history[0]["train_neg_elbo"]
    short = toy_train(run.changed(samples=100), tmp_path)
    for name, tensor in short.state.items():
        moved = not torch.equal(tensor, result.state[name])
        assert moved == name.startswith("decoder"), name


def test_mcem_makes_five_weight_updates_a_batch() -> None:
    training = Trainer("a", toy_spec(method="mcem"), 0, DATA, FP32)
    training.advance()
    assert training.optimizer.state["step"].item() == 5
    assert training.progress.seen == 100


def test_mcem_in_bf16_keeps_its_products_in_float32(tmp_path: Path) -> None:
    run = toy_spec(method="mcem", samples=200, batch_size=50)
    one, two = (toy_train(run, tmp_path, compute=compute).state for compute in (FP32, BF16))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_history_of_mcem_is_of_few_images() -> None:
    run = toy_spec(method="mcem", history_images=120)
    training = Trainer("a", run, 0, toy_images(train=150), FP32)
    assert [len(training.history.splits[split][0]) for split in ("train", "test")] == [
        FITTED_IMAGES
    ] * 2


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_mcem_gradients_are_those_of_the_joint_density(name: str) -> None:
    run = VARIANTS[name]
    model = build(run, generator())
    flat = FlatParameters(model, torch.float32)
    x, _, z = toy_batch(run, model)
    gradients = McemGradients(model, flat, 1.0, torch.float32)
    gradients.start(len(x), generator())
    gradients(x, None, z)
    ours = flat.gradient.clone()
    point = gradients.evaluate(x, z.unsqueeze(0))
    assert torch.equal(flat.gradient, ours), "moving the chains leaves the gradient alone"
    flat.gradient.zero_()
    at = z.clone().requires_grad_(True)
    log_lik = model.decode(at).log_prob(x)
    (-log_lik.mean()).backward()
    tolerance = 1e-6 * flat.gradient.abs().max().item()
    torch.testing.assert_close(ours, flat.gradient, rtol=1e-4, atol=tolerance)
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(point.log_density[0], log_lik.detach() + log_prior)
    expected = -at.grad * len(x) - z
    torch.testing.assert_close(
        point.gradient[0], expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
    )


def test_mcem_chains_sample_the_posterior_and_tune_themselves() -> None:
    model, x = linear_model()
    gradients = LinearMcem(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
    gradients.start(len(x), generator())
    index, rng = torch.arange(len(x)), generator(4)
    for _ in range(150):
        gradients.draw(x, index, rng)
    draws = torch.stack([gradients.draw(x, index, rng)[0] for _ in range(400)]).double()
    mean, covariance = model.posterior(x)
    scores = (draws - mean) @ torch.linalg.inv(torch.linalg.cholesky(covariance)).T
    assert scores.mean((0, 1)).abs().max() < 0.03
    torch.testing.assert_close(
        torch.einsum("sbi,sbj->ij", scores, scores) / scores.shape[0] / scores.shape[1],
        torch.eye(2, dtype=torch.float64),
        rtol=0,
        atol=0.05,
    )
    assert torch.equal(gradients.state["positions"].double(), draws[-1])
    moved = (draws[1:] != draws[:-1]).any(-1).double().mean().item()
    assert moved == pytest.approx(0.9, abs=0.04)
    # The same step size suits all images of a linear model.
    assert gradients.state["step_size"].log().std() < 0.5


def test_mcem_visit_is_ten_leapfrog_steps_and_five_updates() -> None:
    """Kingma & Welling, appendix E."""
    model, x = linear_model()
    gradients = LinearMcem(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
    gradients.start(len(x), generator())
    evaluated = []
    evaluate = gradients.evaluate
    gradients.evaluate = lambda x, z: evaluated.append(z) or evaluate(x, z)  # type: ignore[method-assign]
    gradients.draw(x, torch.arange(len(x)), generator(4))
    # Once where the chains are, then at the end of each leapfrog step.
    assert len(evaluated) == 1 + 10
    assert gradients.updates == 5


def test_mcem_moves_only_the_chains_of_the_batch() -> None:
    model, x = linear_model()
    gradients = LinearMcem(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
    gradients.start(len(x), generator())
    before = {name: tensor.clone() for name, tensor in gradients.state.items()}
    index, rng = torch.tensor([7, 3, 150]), generator(4)
    for _ in range(10):
        (z,) = gradients.draw(x[index], index, rng)
    others = torch.ones(len(x), dtype=torch.bool)
    others[index] = False
    for name, tensor in gradients.state.items():
        assert torch.equal(tensor[others], before[name][others]), name
        assert (tensor[index] != before[name][index]).all(), name
    assert torch.equal(gradients.state["positions"][index], z)


# --- Resume -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["wake_sleep", "mcem"])
def test_resumed_at_any_step_a_training_ends_the_same(method: str, tmp_path: Path) -> None:
    """Every step of the rest is the same: in the middle of an epoch, at its end, at the last."""
    run = toy_spec(method=method, batch_size=30, samples=300)
    whole = Trainer("a", run, 3, DATA, FP32)
    for step in range(1, 11):
        whole.advance()
        if step in (1, 4, 9):
            whole.save(tmp_path / f"{step}")
    for stopped_after in (1, 4, 9):
        rest = Trainer("a", run, 3, DATA, FP32)
        assert rest.load(tmp_path / f"{stopped_after}")
        for _ in range(10 - stopped_after):
            rest.advance()
        assert torch.equal(rest.flat.master, whole.flat.master)
        assert rest.gradients.state.keys() == whole.gradients.state.keys()
        for name, tensor in whole.gradients.state.items():
            assert torch.equal(rest.gradients.state[name], tensor)


# --- Fitted posteriors --------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 0.1])
@pytest.mark.parametrize("encoder", [False, True])
def test_posteriors_are_fitted_where_they_are(sigma: float, encoder: bool) -> None:
    """Within the noise of 20 correlated draws, with a useless encoder and without one."""
    model, x = linear_model(sigma=sigma)
    adapter = FittedAdapter(model, encoder=encoder)
    q = adapter.encode(x)
    mean, covariance = model.posterior(x)
    sd = covariance.diagonal().sqrt()
    assert ((q.mean - mean) / sd).square().mean().sqrt() < 0.5
    assert (q.log_var.exp() / sd.square()).mean().item() == pytest.approx(1.0, rel=0.2)
    wider = adapter.proposal(x).log_var - q.log_var
    torch.testing.assert_close(wider, torch.full_like(wider, 2 * math.log(1.1)))


def test_importance_sampling_from_fitted_posteriors_finds_the_exact_value() -> None:
    model, x = linear_model(sigma=0.2)
    estimate = importance(log_terms(FittedAdapter(model, encoder=True), x, 200, generator(3)))
    error = estimate.nats - model.exact(x)
    assert (error.abs() < 6.0 * estimate.mc_se + 0.02).all()
    assert abs(error.mean().item()) < 0.01
    assert estimate.diagnostics["ess"].median() > 80


def test_a_good_encoder_leads_where_the_prior_does_not_reach() -> None:
    """A mode far out in the prior: its draws miss it, the encoder's do not."""
    model = LinearModel(3, 1, 0.02)
    z = torch.full((20, 1), 4.8)
    with torch.no_grad():
        model.decoder.layers[0].weight.fill_(1.0)
        model.decoder.layers[0].bias.zero_()
        x = model.decode(z).sample(generator(1))
        mean, covariance = model.posterior(x)
        model.encoder.layers[0].weight.zero_()
        model.encoder.layers[0].weight[0] = 1 / 3
        model.encoder.layers[0].bias.copy_(torch.tensor([0.0, covariance.log().item()]))
    q = FittedAdapter(model, encoder=True).encode(x)
    assert ((q.mean - mean) / covariance.sqrt()).abs().max() < 2.0


@pytest.mark.parametrize("name", ["shared_tanh", "gaussian"])
def test_fitted_posteriors_repeat_and_know_no_mode(name: str) -> None:
    """The same under inference mode and bf16 autocast, where HMC could not differentiate."""
    model = build(VARIANTS[name], generator()).requires_grad_(False)
    x, _, _ = toy_batch(VARIANTS[name], model)
    adapter = FittedAdapter(model, encoder=True)
    expected = adapter.encode(x)
    assert expected.mean.dtype == torch.float32
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = adapter.encode(x * 1.0)
    torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=0)
    torch.testing.assert_close(found.log_var, expected.log_var, rtol=0, atol=0)


def test_cross_log_prob_pairs_every_distribution_with_every_image() -> None:
    x = torch.rand((4, 9), generator=generator())
    for p in (
        Bernoulli(torch.randn((3, 9), generator=generator(1))),
        DiagonalNormal(*torch.randn((2, 3, 9), generator=generator(1))),
    ):
        pairs = p.cross_log_prob(x)
        assert pairs.shape == (3, 4)
        for i in range(3):
            one = type(p)(*(tensor[i] for tensor in vars(p).values()))
            torch.testing.assert_close(pairs[i], one.log_prob(x))


def test_only_mcem_does_without_the_encoder() -> None:
    model = build(toy_spec(), generator())
    assert type(adapter_of(model, encoder=True)) is VAEAdapter
    fitted = adapter_of(model, encoder=False)
    assert isinstance(fitted, FittedAdapter)
    assert not fitted.encoder


@pytest.fixture(scope="module")
def mcem(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, VAE, TrainingResult]:
    run = toy_spec(method="mcem", samples=2000, batch_size=50, learning_rate=3e-3, snapshots=2)
    result = toy_train(run, tmp_path_factory.mktemp("mcem"))
    model = build(run)
    model.load_state_dict(result.state)
    return run, model, result


def test_mcem_is_evaluated_by_fitted_posteriors(
    mcem: tuple[RunSpec, VAE, TrainingResult],
) -> None:
    run, model, _ = mcem
    images = len(DATA.test_images)
    settings = EvaluationSettings(z_test=200, nll_images=images, nll_samples=50, generated=100)
    metrics, arrays = evaluate(run, model, DATA, settings, FP32)
    with torch.no_grad():
        x = torch.from_numpy(DATA.test_images / 255.0).float()
        elbo = log_terms(VAEAdapter(model), x, 5, generator()).log_w.mean().item()
    assert metrics["test"]["neg_elbo"] < -elbo - 10.0
    fitted = FittedAdapter(model, encoder=False)
    nll = -importance(log_terms(fitted, x, 500, generator(9))).mean
    # 50 samples an image against 500: the fewer, the higher.
    assert nll - 0.3 < metrics["test"]["nll"] < nll + 0.7
    assert 0.0 < metrics["test"]["neg_elbo"] - nll < 5.0
    assert len(arrays["test_mean"]) == len(DATA.test_images) < FITTED


def test_curves_and_final_estimates_of_mcem_agree(
    mcem: tuple[RunSpec, VAE, TrainingResult],
) -> None:
    run, model, result = mcem
    small = LikelihoodSettings(
        images=20, curve_samples=50, final_images=10, final_samples=100, temperatures=20, chains=2
    )
    assert result.snapshots is not None
    lines: list[str] = []
    seen = result.snapshot_samples
    with heard(lines.append):
        curve, final = likelihood_tables(
            "toy", run, model, result.snapshots, seen, DATA, small, FP32
        )
    assert lines == [f"toy: log p(x) after {n} samples, of {seen[-1]}" for n in seen]
    early, late = (
        row["nats"] for row in curve if (row["split"], row["estimator"]) == ("train", "importance")
    )
    assert late > early + 1.0
    ends = {(row["split"], row["estimator"]): row["nats"] for row in final}
    for split in ("train", "test"):
        assert ends[split, "importance"] == pytest.approx(ends[split, "kw_d"], abs=0.5)


def test_importance_sampling_does_not_depend_on_a_bad_encoder(tmp_path: Path) -> None:
    """The same decoder behind an encoder that points elsewhere has the same log p(x)."""
    run = toy_spec(samples=3000, batch_size=50, learning_rate=5e-3, snapshots=2)
    result = toy_train(run, tmp_path)
    model = build(run)
    model.load_state_dict(result.state)
    settings = LikelihoodSettings(
        images=20, importance_samples=200, final_images=4, final_samples=10, temperatures=4,
        chains=1,
    )  # fmt: skip
    found = []
    for shift in (0.0, 5.0):
        with torch.no_grad():
            model.load_state_dict(result.state)
            model.encoder_mean.layers[-1].bias += shift
            weights = torch.cat([p.flatten() for p in model.parameters()])[None]
        curve, _ = likelihood_tables("toy", run, model, weights, [3000], DATA, settings, FP32)
        found.append({r["estimator"]: r["nats"] for r in curve if r["split"] == "test"})
    assert found[1]["importance"] == pytest.approx(found[0]["importance"], abs=0.2)
    assert found[1]["elbo"] < found[0]["elbo"] - 5.0


def test_appendix_d_starts_from_the_adapter_it_is_given() -> None:
    model, x = linear_model()
    estimate = kw_appendix_d(FittedAdapter(model, encoder=False), x[:20], generator(), burn_in=20)
    assert (estimate.nats - model.exact(x[:20])).abs().mean() < 0.05
