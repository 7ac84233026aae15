"""The ELBO's terms, beta, and the VQ-VAE's losses, apart from the networks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from linear_gaussian import LinearGaussian
from toys import pixels_of, toy_spec, toy_vqvae_spec
from vaelab.models.distributions import DiagonalNormal
from vaelab.models.families import build
from vaelab.models.objectives import ElboTerms, elbo_terms, vq_terms


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Against torch.distributions ------------------------------------------------------------

VARIANTS = {
    "bernoulli": toy_spec(),
    "shared": toy_spec(trunks="shared", activation="tanh"),
    "one-hot": toy_spec(condition="onehot"),
    "raw label": toy_spec(condition="scalar"),
    "gaussian": toy_spec(dataset="frey", likelihood="gaussian"),
    "fixed variance": toy_spec(likelihood="gaussian_fixed"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_terms_are_torchs_with_the_same_noise(name: str) -> None:
    spec = VARIANTS[name]
    model = build(spec, generator()).double()
    x = torch.rand(9, pixels_of(spec), generator=generator(1), dtype=torch.float64)
    eps = torch.randn(9, spec.model.latent_dim, generator=generator(2), dtype=torch.float64)
    c = None if spec.model.condition == "none" else model.embed(torch.arange(9))
    terms = elbo_terms(model, x, c, eps)

    q = model.encode(x, c)
    posterior = Normal(q.mean, (0.5 * q.log_var).exp())
    p = model.decode(posterior.mean + posterior.stddev * eps, c)
    if spec.model.likelihood == "bernoulli":
        pixels = torch.distributions.Bernoulli(logits=p.logits, validate_args=False)
    else:
        pixels = Normal(p.mean, p.log_var.exp().sqrt())
    recon = -pixels.log_prob(x).sum(-1)
    kl = kl_divergence(Independent(posterior, 1), Independent(Normal(0 * q.mean, 1.0), 1))
    assert recon.std() > 1e-3  # one value per image, not a batch mean
    torch.testing.assert_close(terms.recon, recon, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(terms.kl, kl, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(terms.neg_elbo(), recon + kl, rtol=1e-10, atol=1e-9)


def test_beta_weighs_the_kl_term_alone() -> None:
    terms = ElboTerms(torch.tensor([100.0, 80.0]), torch.tensor([4.0, 6.0]))
    assert terms.objective(1.0).tolist() == terms.neg_elbo().tolist() == [104.0, 86.0]
    assert terms.objective(0.0).tolist() == [100.0, 80.0]
    assert terms.objective(5.0).tolist() == [120.0, 110.0]


# --- A model whose log p(x) is known --------------------------------------------------------

# Columns are orthogonal, so the exact posterior is diagonal and within the encoder's reach.
ORTHOGONAL = [[1.0, 0.5], [-1.0, 0.5], [0.3, 0.3], [0.3, -0.3]]
CORRELATED = [[1.0, 0.9], [-0.5, -0.6], [0.3, 0.3], [0.2, 0.4]]


class AsVAE:
    """The linear-Gaussian model with the interface of a VAE."""

    def __init__(self, model: LinearGaussian) -> None:
        self.model = model

    def encode(self, x: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        return self.model.proposal(x, c)

    def decode(self, z: Tensor, c: Tensor | None = None) -> DiagonalNormal:
        mean = z @ self.model.weight.T + self.model.bias
        return DiagonalNormal(mean, torch.full_like(mean, 2.0 * math.log(self.model.sigma)))


def expected_elbo(model: LinearGaussian, x: Tensor) -> Tensor:
    """E over eps of the ELBO, (B,): exact, as log p(x|z) is quadratic in eps.

    For a quadratic the mean over eps in {-1, +1}^d is that over standard normal eps.
    """
    terms = [
        elbo_terms(AsVAE(model), x, None, torch.tensor(signs).double().expand(len(x), -1))
        for signs in itertools.product((-1.0, 1.0), repeat=model.latent_dim)
    ]
    return -torch.stack([t.neg_elbo() for t in terms]).mean(0)


def gap(model: LinearGaussian, x: Tensor) -> Tensor:
    """KL(q(z|x) || p(z|x)) by torch, (B,)."""
    q = model.proposal(x)
    posterior = MultivariateNormal(model.posterior_mean(x), model.posterior_covariance)
    return kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.log_var.exp())), posterior)


def test_bound_is_exact_with_the_optimal_encoder() -> None:
    model = LinearGaussian(ORTHOGONAL, sigma=0.4)
    x = model.images(50, generator())
    torch.testing.assert_close(expected_elbo(model, x), model.exact(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("weight", "shift", "stretch"),
    [(ORTHOGONAL, 0.5, 1.7), (CORRELATED, 0.0, 1.0)],
)
def test_bound_falls_short_by_the_divergence_from_the_posterior(
    weight: list[list[float]], shift: float, stretch: float
) -> None:
    model = LinearGaussian(weight, sigma=0.4, shift=shift, stretch=stretch)
    x = model.images(50, generator())
    missing = model.exact(x) - expected_elbo(model, x)
    assert missing.min() > 0.01
    torch.testing.assert_close(missing, gap(model, x), rtol=1e-9, atol=1e-9)


# --- The VQ-VAE's losses --------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.25, 2.0])
def test_vq_terms_by_hand(beta: float) -> None:
    model = build(toy_vqvae_spec(), generator()).eval().double()
    x = torch.rand(3, 784, generator=generator(1), dtype=torch.float64)
    with torch.no_grad():
        terms, indices = vq_terms(model, x, beta)
        z_e = model.encode(x)
        vectors = z_e.permute(0, 2, 3, 1).reshape(-1, 1, 2)
        distances = (vectors - model.codebook.codes).square().sum(-1)
        chosen = distances.argmin(-1)
        z_q = model.codebook.codes[chosen].reshape(3, 7, 7, 2).permute(0, 3, 1, 2)
        mse = (model.decode(z_q) - x).square().sum() / (3 * 784)
        quantisation = (z_e - z_q).square().sum() / (3 * 49 * 2)
    assert torch.equal(indices.flatten(), chosen)
    assert terms.mse.item() == pytest.approx(mse.item(), rel=1e-4)
    assert terms.embedding.item() == pytest.approx((1 + beta) * quantisation.item(), rel=1e-5)
    assert terms.objective().item() == pytest.approx(
        mse.item() + (1 + beta) * quantisation.item(), rel=1e-4
    )
    usage = torch.bincount(chosen, minlength=10) / 147
    used = usage[usage > 0]
    assert terms.perplexity.item() == pytest.approx((-(used * used.log()).sum()).exp().item())


def test_vq_beta_weighs_the_commitment_alone() -> None:
    """Doubling beta doubles the encoder's pull to its codes and leaves the codes' gradient."""
    x = torch.rand(3, 784, generator=generator(1))

    def gradients(beta: float) -> tuple[Tensor, Tensor]:
        model = build(toy_vqvae_spec(), generator()).eval()
        terms, _ = vq_terms(model, x, beta)
        terms.embedding.backward()
        return model.codebook.codes.grad, model.encoder[-1].bias.grad

    (codes, encoder), (codes_2, encoder_2) = gradients(1.0), gradients(2.0)
    torch.testing.assert_close(codes_2, codes)
    torch.testing.assert_close(encoder_2, 2.0 * encoder)
    assert codes.abs().max() > 0
    assert encoder.abs().max() > 0
