"""Networks: parameter counts, initial weights, wiring, the vector quantiser, the code prior."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from toys import FP32, pixels_of, toy_images, toy_spec, toy_vqvae_spec
from vaelab.models.code_prior import SMOOTHING, CodePrior
from vaelab.models.distributions import Bernoulli, DiagonalNormal
from vaelab.models.families import build
from vaelab.models.vae import FIXED_VARIANCE, VAE
from vaelab.models.vqvae import VQVAE, Codebook
from vaelab.settings.spec import RunSpec
from vaelab.training.trainer import Trainer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_of(spec: RunSpec, seed: int = 0) -> VAE:
    return build(spec, generator(seed))


def images(spec: RunSpec, count: int = 5) -> Tensor:
    return torch.rand(count, pixels_of(spec), generator=generator(1))


# --- Parameter counts -----------------------------------------------------------------------

FAMILY_A = {"trunks": "shared", "activation": "tanh"}
FREY = FAMILY_A | {"dataset": "frey", "hidden": (200,), "likelihood": "gaussian"}

COUNTS = {
    # The report's ReLU family with two encoders, h = [h1, ..., latent dimension].
    "500-500-3": ({"hidden": (500, 500), "latent_dim": 3}, 1_934_290),
    "500-284-3": ({"hidden": (500, 284), "latent_dim": 3}, 1_607_698),
    "500-3": ({"hidden": (500,), "latent_dim": 3}, 1_182_790),
    "500-20": ({"hidden": (500,), "latent_dim": 20}, 1_208_324),
    "500-100-5": ({"hidden": (500, 100), "latent_dim": 5}, 1_330_094),
    "500-100-50-10-5": ({"hidden": (500, 100, 50, 10), "latent_dim": 5}, 1_345_424),
    "one-hot": ({"hidden": (500, 500), "latent_dim": 3, "condition": "onehot"}, 1_949_290),
    "raw label": ({"hidden": (500, 500), "latent_dim": 3, "condition": "scalar"}, 1_935_790),
    # Kingma and Welling's tanh family with a shared trunk.
    "tanh 2": (FAMILY_A | {"hidden": (500,), "latent_dim": 2}, 788_788),
    "tanh 20": (FAMILY_A | {"hidden": (500,), "latent_dim": 20}, 815_824),
    "tanh 200": (FAMILY_A | {"hidden": (500,), "latent_dim": 200}, 1_086_184),
    "figure 3": (FAMILY_A | {"hidden": (100,), "latent_dim": 3}, 158_690),
    "frey 2": (FREY | {"latent_dim": 2}, 338_724),
    "frey 20": (FREY | {"latent_dim": 20}, 349_560),
}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count_is_the_reports(name: str) -> None:
    changes, expected = COUNTS[name]
    with torch.device("meta"):
        assert count(build(toy_spec(init="normal", **changes))) == expected


def test_parameter_counts_of_encoder_decoder_and_vqvae_are_the_reports() -> None:
    with torch.device("meta"):
        model = VAE(784, (500, 500), 3)
        assert count(model.encoder_mean) + count(model.encoder_log_var) == 1_289_006
        assert count(model.decoder) == 645_284
        assert count(VQVAE(10, 2)) == 307_225


# --- Initial weights ------------------------------------------------------------------------


@pytest.mark.parametrize("trunks", ["shared", "separate"])
def test_normal_init_draws_every_weight_and_bias_with_sd_001(trunks: str) -> None:
    model = model_of(toy_spec(init="normal", trunks=trunks, hidden=(300, 200)))
    for kind in ("weight", "bias"):
        values = torch.cat(
            [p.detach().flatten() for name, p in model.named_parameters() if name.endswith(kind)]
        )
        n = len(values)
        assert abs(values.mean().item()) < 5 * 0.01 / math.sqrt(n)
        assert values.std().item() == pytest.approx(0.01, rel=5 / math.sqrt(2 * n))
        beyond = (values.abs() > 0.0196).float().mean().item()
        assert beyond == pytest.approx(0.05, abs=5 * math.sqrt(0.05 * 0.95 / n))
    assert all((p.detach() != 0).all() for p in model.parameters())


def test_default_init_has_pytorchs_bound_and_spread() -> None:
    model = model_of(toy_spec(hidden=(300, 200)))
    for mlp in (model.encoder_mean, model.encoder_log_var, model.decoder):
        for layer in mlp.layers:
            theirs = nn.Linear(layer.in_features, layer.out_features).weight
            bound = 1.0 / math.sqrt(layer.in_features)
            n = theirs.numel()
            assert max(layer.weight.abs().max(), layer.bias.abs().max()) <= bound
            assert layer.weight.abs().max() > 0.9 * theirs.abs().max()
            assert abs(layer.weight.mean().item()) < 5 * bound / math.sqrt(3 * n)
            spread = 10 / math.sqrt(n)
            assert layer.weight.std().item() == pytest.approx(theirs.std().item(), rel=spread)


def test_default_init_of_the_vqvae_is_pytorchs() -> None:
    torch.manual_seed(0)
    model, theirs = build(toy_vqvae_spec(), generator()), VQVAE(10, 2)
    convolutions = [
        n for n, m in model.named_modules() if isinstance(getattr(m, "stride", 0), tuple)
    ]
    assert len(convolutions) == 6
    for name in convolutions:
        ours, torchs = model.get_submodule(name), theirs.get_submodule(name)
        bound = torchs.weight.abs().max().item()
        n = ours.weight.numel()
        assert ours.weight.abs().max().item() == pytest.approx(bound, rel=10 / n)
        assert ours.weight.std().item() == pytest.approx(
            torchs.weight.std().item(), rel=6 / math.sqrt(n)
        )
        assert 0.0 < ours.bias.abs().max() <= bound * (1 + 10 / n)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 5
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)
    assert model.codebook.codes.abs().max() <= 0.1
    assert model.codebook.codes.abs().max() > 0.08
    assert model.codebook.codes.min() < -0.05 < 0.05 < model.codebook.codes.max()


@pytest.mark.parametrize("spec", [toy_spec(), toy_spec(init="normal"), toy_vqvae_spec()])
def test_weights_depend_on_the_generator_alone(spec: RunSpec) -> None:
    torch.manual_seed(1)
    first = build(spec, generator(7)).state_dict()
    torch.manual_seed(2)
    again = build(spec, generator(7)).state_dict()
    other = build(spec, generator(8)).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    drawn = [name for name, tensor in first.items() if tensor.dim() > 1]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


# --- VAE and CVAE ---------------------------------------------------------------------------


def by_hand(layers: nn.ModuleList, x: np.ndarray, activate: object) -> np.ndarray:
    """An MLP in numpy, in float64: linear, activation between layers, none after the last."""
    for i, layer in enumerate(layers):
        weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
        x = x @ weight.T + bias
        if i < len(layers) - 1:
            x = activate(x)
    return x


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def test_separate_relu_encoders_by_hand() -> None:
    spec = toy_spec(hidden=(12, 8), activation="relu")
    model, x = model_of(spec), images(spec)
    q = model.encode(x)
    mean = by_hand(model.encoder_mean.layers, x.numpy(), relu)
    log_var = by_hand(model.encoder_log_var.layers, x.numpy(), relu)
    assert q.mean.detach().numpy() == pytest.approx(mean, abs=1e-5)
    assert q.log_var.detach().numpy() == pytest.approx(log_var, abs=1e-5)
    assert np.abs(mean - log_var).max() > 0.01
    assert (mean < 0).any()
    assert (mean > 0).any()


def test_shared_tanh_encoder_by_hand() -> None:
    """One trunk; the first d outputs are the mean, the others the log-variance."""
    spec = toy_spec(hidden=(12, 8), activation="tanh", trunks="shared")
    model, x = model_of(spec), images(spec)
    q = model.encode(x)
    heads = by_hand(model.encoder.layers, x.numpy(), np.tanh)
    assert q.mean.detach().numpy() == pytest.approx(heads[:, :3], abs=1e-5)
    assert q.log_var.detach().numpy() == pytest.approx(heads[:, 3:], abs=1e-5)


def test_decoder_mirrors_the_encoder_by_hand() -> None:
    spec = toy_spec(hidden=(12, 8), activation="relu")
    model, z = model_of(spec), torch.randn(5, 3, generator=generator())
    widths = [(layer.in_features, layer.out_features) for layer in model.decoder.layers]
    assert widths == [(3, 8), (8, 12), (12, 784)]
    p = model.decode(z)
    logits = by_hand(model.decoder.layers, z.numpy(), relu)
    assert isinstance(p, Bernoulli)
    assert p.logits.detach().numpy() == pytest.approx(logits, abs=1e-5)
    assert p.mean.detach().numpy() == pytest.approx(1.0 / (1.0 + np.exp(-logits)), abs=1e-6)


def test_gaussian_decoder_bounds_the_mean_and_frees_the_log_variance() -> None:
    spec = toy_spec(**(FREY | {"hidden": (12,)}))
    model = model_of(spec)
    with torch.no_grad():
        model.decoder.layers[-1].weight.mul_(8.0)
    z = torch.randn(50, 3, generator=generator())
    p = model.decode(z)
    out = by_hand(model.decoder.layers, z.numpy(), np.tanh)
    assert isinstance(p, DiagonalNormal)
    assert p.mean.min() > 0.0
    assert p.mean.max() < 1.0
    assert p.mean.detach().numpy() == pytest.approx(1 / (1 + np.exp(-out[:, :560])), abs=1e-4)
    assert p.log_var.detach().numpy() == pytest.approx(out[:, 560:], abs=1e-4)
    assert p.log_var.min() < -1.0
    assert p.log_var.max() > 1.0


def test_gaussian_decoder_with_a_fixed_variance_has_it_everywhere() -> None:
    model = model_of(toy_spec(likelihood="gaussian_fixed"))
    z = torch.randn(4, 3, generator=generator())
    p = model.decode(z)
    x = torch.rand(4, 784, generator=generator())
    squares = (x - p.mean).square().sum(-1) / FIXED_VARIANCE
    by_formula = -0.5 * (784 * math.log(2 * math.pi) + 784 * math.log(FIXED_VARIANCE) + squares)
    torch.testing.assert_close(p.log_prob(x), by_formula, rtol=1e-5, atol=1e-3)
    logits = by_hand(model.decoder.layers, z.numpy(), relu)
    assert p.mean.detach().numpy() == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)


def test_labels_enter_one_hot_or_as_the_digit_itself() -> None:
    labels = torch.tensor([0, 3, 9], dtype=torch.uint8)
    one_hot = model_of(toy_spec(condition="onehot")).embed(labels)
    assert torch.equal(one_hot, torch.eye(10)[[0, 3, 9]])
    raw = model_of(toy_spec(condition="scalar")).embed(labels)
    assert raw.tolist() == [[0.0], [3.0], [9.0]]


@pytest.mark.parametrize("condition", ["onehot", "scalar"])
@pytest.mark.parametrize("trunks", ["shared", "separate"])
def test_condition_is_appended_to_the_image_and_to_the_latents(condition: str, trunks: str) -> None:
    spec = toy_spec(condition=condition, trunks=trunks, hidden=(12,))
    model, x = model_of(spec), images(spec, 3)
    c = model.embed(torch.tensor([1, 4, 4]))
    joined = np.concatenate([x.numpy(), c.numpy()], -1)
    mlp = model.encoder if trunks == "shared" else model.encoder_mean
    expected = by_hand(mlp.layers, joined, relu)[:, :3]
    assert model.encode(x, c).mean.detach().numpy() == pytest.approx(expected, abs=1e-5)

    z = torch.randn(6, 3, 3, generator=generator())  # 6 draws for each of the 3 images
    logits = model.decode(z, c).logits
    for draw in range(6):
        joined = np.concatenate([z[draw].numpy(), c.numpy()], -1)
        expected = by_hand(model.decoder.layers, joined, relu)
        assert logits[draw].detach().numpy() == pytest.approx(expected, abs=1e-5)


def test_densities_are_float32_at_least_under_autocast() -> None:
    spec = toy_spec()
    model = model_of(spec)
    with torch.autocast("cpu", torch.bfloat16):
        q = model.encode(images(spec))
        p = model.decode(q.mean)
    assert {q.mean.dtype, q.log_var.dtype, p.logits.dtype} == {torch.float32}


# --- Vector quantiser -----------------------------------------------------------------------


def random_codebook() -> Codebook:
    book = Codebook(10, 2)
    with torch.no_grad():
        book.codes.normal_(generator=generator())
    return book


def test_lookup_puts_each_code_at_its_place() -> None:
    book = Codebook(3, 2)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]]))
    grid = book.lookup(torch.tensor([[[0, 1], [2, 0]]]))
    assert grid.tolist() == [[[[1, 2], [3, 1]], [[-1, -2], [-3, -1]]]]


def test_straight_through_gradient_reaches_the_encoder_unchanged() -> None:
    book = random_codebook()
    z_e = torch.randn(3, 2, 4, 4, generator=generator(1)).requires_grad_()
    quantised = book(z_e)
    weights = torch.randn(3, 2, 4, 4, generator=generator(2))
    loss = (weights * quantised.straight_through.square()).sum()
    at_codes = book.lookup(quantised.indices).detach()
    d_z_e, d_codes = torch.autograd.grad(loss, (z_e, book.codes), allow_unused=True)
    torch.testing.assert_close(d_z_e, 2.0 * weights * at_codes, rtol=1e-5, atol=1e-5)
    assert d_codes is None


def test_codebook_loss_moves_the_codes_alone_and_commitment_the_encoder() -> None:
    """d/d code_k = 2/N times the sum over its vectors of (code_k - z_e); N counts numbers."""
    book = random_codebook()
    z_e = torch.randn(3, 2, 4, 4, generator=generator(1)).requires_grad_()
    quantised = book(z_e)
    d_codes, none = torch.autograd.grad(
        quantised.codebook_loss, (book.codes, z_e), allow_unused=True, retain_graph=True
    )
    assert none is None
    vectors = z_e.detach().movedim(1, -1).reshape(-1, 2)
    chosen = quantised.indices.flatten()
    codes = book.codes.detach()
    pulls = [(code - vectors[chosen == k]).sum(0) for k, code in enumerate(codes)]
    expected = 2.0 / z_e.numel() * torch.stack(pulls)
    torch.testing.assert_close(d_codes, expected, rtol=1e-5, atol=1e-7)
    d_z_e, none = torch.autograd.grad(
        quantised.commitment_loss, (z_e, book.codes), allow_unused=True
    )
    assert none is None
    expected = 2.0 / z_e.numel() * (z_e.detach() - book.lookup(quantised.indices).detach())
    torch.testing.assert_close(d_z_e, expected, rtol=1e-5, atol=1e-7)
    value = (vectors - codes[chosen]).square().mean().item()
    assert quantised.commitment_loss.item() == quantised.codebook_loss.item()
    assert quantised.codebook_loss.item() == pytest.approx(value)


def test_vqvae_decodes_to_non_negative_unbounded_images() -> None:
    model = build(toy_vqvae_spec(), generator())
    codes = torch.randint(10, (2, 7, 7), generator=generator())
    with torch.no_grad():
        model.decoder[-2].weight.fill_(50.0)
        out = model.decode(model.codebook.lookup(codes))
    assert out.min() == 0.0
    assert out.max() > 1.0


def running_statistics(model: VQVAE) -> list[Tensor]:
    return [buffer.clone() for name, buffer in model.named_buffers() if "running" in name]


def test_batch_statistics_keep_following_the_data_after_an_evaluation() -> None:
    """The report's code evaluates after an epoch and trains on with frozen statistics."""
    spec = toy_vqvae_spec(batch_size=10, history_images=6)
    training = Trainer("vq", spec, 0, toy_images(), FP32)
    training.advance()
    before = running_statistics(training.model)
    training.record()
    evaluated = running_statistics(training.model)
    assert all(torch.equal(a, b) for a, b in zip(before, evaluated, strict=True))
    training.advance()
    after = running_statistics(training.model)
    assert len(after) == 10
    assert not any(torch.equal(a, b) for a, b in zip(evaluated, after, strict=True))


def test_vqvae_history_is_evaluated_with_running_statistics() -> None:
    """In eval mode an image's reconstruction does not depend on its batch."""
    spec = toy_vqvae_spec(batch_size=10, history_images=6)
    training = Trainer("vq", spec, 0, toy_images(), FP32)
    training.advance()
    x = training.history.splits["test"][0]
    row = training.record()
    training.model.eval()
    with torch.no_grad():
        alone = [(training.model(image[None])[0] - image).square().mean() for image in x]
    assert row["test_mse"] == pytest.approx(torch.stack(alone).mean().item(), rel=1e-4)


# --- Code prior -----------------------------------------------------------------------------


def test_code_prior_counts_and_smooths_as_documented() -> None:
    """Two grids of one row: left neighbour 0 was followed by 1 twice."""
    prior = CodePrior.fit(np.array([[[0, 1]], [[0, 1]]]), 2)
    outside = 2
    frequency = np.array([0.5, 2.5]) / 3.0
    seen = (np.array([0.0, 2.0]) + SMOOTHING * frequency) / (2.0 + SMOOTHING)
    assert prior.probabilities[0, 1, outside, 0] == pytest.approx(seen, rel=1e-12)
    assert prior.probabilities[0, 1, outside, 1] == pytest.approx(frequency, rel=1e-12)


@pytest.mark.parametrize("axis", [1, 2], ids=["above", "left"])
def test_code_prior_follows_the_neighbour(axis: int) -> None:
    """Grids that are constant along one axis and random along the other."""
    rng = np.random.default_rng(1)
    codes = np.repeat(rng.integers(3, size=(20_000, 4)), 4).reshape(-1, 4, 4)
    if axis == 1:
        codes = codes.swapaxes(1, 2)
    drawn = CodePrior.fit(codes, 3).sample(2000, rng)
    assert (np.diff(drawn, axis=axis) == 0).mean() > 0.99
    assert (np.diff(drawn, axis=3 - axis) == 0).mean() == pytest.approx(1 / 3, abs=0.05)


def test_code_prior_draws_repeat_with_the_seed() -> None:
    prior = CodePrior.fit(np.random.default_rng(0).integers(4, size=(30, 7, 7)), 4)
    draws = [prior.sample(20, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()
