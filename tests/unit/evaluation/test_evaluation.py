"""What is measured of a trained model, against hand-made models with known answers."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from toys import FP32, toy_images, toy_spec, toy_vqvae_spec
from vaelab.estimators.log_weights import log_terms
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import elbo, importance
from vaelab.evaluation import evaluator
from vaelab.evaluation.evaluator import LIKELIHOOD, evaluate, to_uint8
from vaelab.evaluation.vae import VaeEvaluation
from vaelab.models.families import build
from vaelab.models.vae import VAE
from vaelab.models.vqvae import VQVAE
from vaelab.settings.config import EvaluationSettings
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.util.rng import representative

DATA = toy_images()
FACES = toy_images("frey")
SETTINGS = EvaluationSettings(z_train=1, z_test=2, nll_images=20, nll_samples=5, generated=100)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """130 and 120 images in batches of 50: the last one of each split is partial."""
    monkeypatch.setattr(evaluator, "BATCH", 50)


def run(
    spec: RunSpec, model: VAE | VQVAE, **changes: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data = FACES if spec.data.dataset == "frey" else DATA
    return evaluate(spec, model, data, SETTINGS.model_copy(update=changes), FP32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float64) / 255.0


def set_layer(layer: torch.nn.Linear, weight: Tensor | float, bias: Tensor | float) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight, dtype=torch.float32).expand_as(layer.weight))
        layer.bias.copy_(torch.as_tensor(bias, dtype=torch.float32).expand_as(layer.bias))


def linear_vae(**changes: Any) -> tuple[RunSpec, VAE]:
    """A VAE without hidden layers: mean, log-variance and logits are linear maps."""
    spec = toy_spec(**({"hidden": (), "latent_dim": 2} | changes))
    return spec, build(spec, generator())


def certain_vae(**changes: Any) -> tuple[RunSpec, VAE]:
    """A linear VAE whose posterior is a point to seven digits: z is the mean."""
    spec, model = linear_vae(**changes)
    set_layer(model.encoder_log_var.layers[0], 0.0, -40.0)
    return spec, model


def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    return x @ weight.T + bias


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


# --- The bound ------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 5.0])
@pytest.mark.parametrize("split", ["train", "test"])
def test_numbers_of_a_bernoulli_vae_by_hand(split: str, beta: float) -> None:
    spec, model = certain_vae(beta=beta)
    found = run(spec, model)[0][split]
    x = numbers(DATA.train_images if split == "train" else DATA.test_images)
    mean = linear(model.encoder_mean.layers[0], x)
    p = sigmoid(linear(model.decoder.layers[0], mean))
    recon = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(-1)
    kl = 0.5 * (mean**2 + math.exp(-40.0) - 1.0 + 40.0).sum(-1)
    assert found["recon"] == pytest.approx(recon.mean(), rel=1e-6)
    assert found["kl"] == pytest.approx(kl.mean(), rel=1e-6)
    assert found["neg_elbo"] == pytest.approx((recon + kl).mean(), rel=1e-6)
    assert found["neg_elbo"] == pytest.approx(found["recon"] + found["kl"], rel=1e-12)
    assert found["objective"] == pytest.approx(recon.mean() + beta * kl.mean(), rel=1e-6)
    assert found["mse"] == pytest.approx(((p - x) ** 2).mean(), rel=1e-5)
    assert found["recon_se"] == pytest.approx(recon.std(ddof=1) / math.sqrt(len(x)), rel=1e-4)
    assert found["neg_elbo_se"] == pytest.approx(
        (recon + kl).std(ddof=1) / math.sqrt(len(x)), rel=1e-4
    )
    assert found["images"] == len(x)
    assert found["z_samples"] == (1 if split == "train" else 2)


def test_numbers_of_a_gaussian_vae_by_hand() -> None:
    spec, model = certain_vae(dataset="frey", likelihood="gaussian")
    found = run(spec, model)[0]["test"]
    x = numbers(FACES.test_images)
    mean = linear(model.encoder_mean.layers[0], x)
    out = linear(model.decoder.layers[0], mean)
    mu, log_var = sigmoid(out[:, :560]), out[:, 560:]
    density = -0.5 * (math.log(2 * math.pi) + log_var + (x - mu) ** 2 / np.exp(log_var)).sum(-1)
    assert found["recon"] == pytest.approx(-density.mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(((mu - x) ** 2).mean(), rel=1e-5)


def standard_vae() -> tuple[RunSpec, VAE]:
    """q(z|x) = N(0.3, 0.25) for every x; the decoder's logits are z times a random image."""
    spec, model = linear_vae(latent_dim=1)
    set_layer(model.encoder_mean.layers[0], 0.0, 0.3)
    set_layer(model.encoder_log_var.layers[0], 0.0, math.log(0.25))
    set_layer(model.decoder.layers[0], 0.3 * torch.randn(784, 1, generator=generator(3)), -1.0)
    return spec, model


def log_likelihoods(model: VAE, z: np.ndarray) -> np.ndarray:
    """Log p(x|z) of the test images on a grid of one-dimensional z, (Z, N), in float64."""
    x = numbers(DATA.test_images)
    logits = linear(model.decoder.layers[0], z[:, None])
    return logits @ x.T - np.logaddexp(0.0, logits).sum(-1, keepdims=True)


def test_recon_averages_over_draws_from_the_posterior() -> None:
    """Against Gauss-Hermite quadrature, within the error of 120 images x 50 draws."""
    spec, model = standard_vae()
    found = run(spec, model, z_test=50)[0]["test"]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    conditional = log_likelihoods(model, 0.3 + 0.5 * nodes)
    density = weights / weights.sum()
    expected = -(density @ conditional).mean()
    spread = np.sqrt(density @ (conditional.mean(1) - density @ conditional.mean(1)) ** 2)
    per_draw = np.sqrt((density @ (conditional + expected) ** 2).mean())
    assert spread > 1.0, "the decoder must depend on z for this test to say anything"
    assert found["recon"] == pytest.approx(expected, abs=5 * per_draw / math.sqrt(120 * 50))
    assert found["kl"] == pytest.approx(0.5 * (0.09 + 0.25 - 1 - math.log(0.25)), rel=1e-6)
    assert found["z_samples"] == 50


def test_nll_is_the_integral_over_the_prior_and_below_the_bound() -> None:
    spec, model = standard_vae()
    found = run(spec, model, z_test=400, nll_images=120, nll_samples=400)[0]["test"]
    z = np.linspace(-6.0, 6.0, 601)
    log_joint = log_likelihoods(model, z) - 0.5 * z[:, None] ** 2 - 0.5 * math.log(2 * math.pi)
    peak = log_joint.max(0)
    exact = -(peak + np.log(np.exp(log_joint - peak).sum(0) * (z[1] - z[0])))
    assert found["nll"] == pytest.approx(exact.mean(), abs=0.05)
    assert found["nll"] < found["neg_elbo"] - 0.3
    # Bound and gap count as independent, though images with a high bound have a wide gap.
    assert 1.0 < found["nll_se"] / (exact.std(ddof=1) / math.sqrt(120)) < 1.3
    assert (found["nll_images"], found["nll_z_samples"]) == (120, 400)
    # An encoder that is too sure of itself hides a part of log p(x), fitted posteriors do not.
    set_layer(model.encoder_log_var.layers[0], 0.0, math.log(0.0004))
    settings = SETTINGS.model_copy(update={"nll_images": 120, "nll_samples": 100})
    narrow = run(spec, model, nll_images=120, nll_samples=100)[0]["test"]
    fitted = VaeEvaluation(spec, model, DATA, settings, FP32).fitted_likelihood(narrow)
    assert fitted["nll"] == pytest.approx(exact.mean(), abs=0.1)
    assert fitted["encoder_excess"] == pytest.approx(narrow["nll"] - exact.mean(), abs=0.1)
    assert fitted["encoder_excess"] > 10 * fitted["encoder_excess_se"] > 0.0


def test_nll_of_some_images_is_the_bound_of_all_less_their_gap() -> None:
    spec, model = standard_vae()
    found = run(spec, model, z_test=300, nll_images=30, nll_samples=300)[0]["test"]
    chosen = representative(DATA.test_images, DATA.image_shape, 30, LIKELIHOOD)
    x = torch.from_numpy(numbers(DATA.test_images[chosen])).float()
    with torch.no_grad():
        terms = log_terms(VAEAdapter(model), x, 300, generator(8))
    gap = importance(terms).nats - elbo(terms).nats
    assert gap.mean() > 0.3
    assert found["nll"] == pytest.approx(found["neg_elbo"] - gap.mean().item(), abs=0.1)
    error = math.hypot(found["neg_elbo_se"], gap.std().item() / math.sqrt(30))
    assert found["nll_se"] == pytest.approx(error, rel=0.1)


def test_nll_of_a_cvae_is_given_the_label() -> None:
    """The latents do nothing here, so log p(x|c) is the decoder's, exactly."""
    spec, model = linear_vae(condition="onehot")
    for encoder in (model.encoder_mean, model.encoder_log_var):
        set_layer(encoder.layers[0], 0.0, 0.0)
    with torch.no_grad():
        model.decoder.layers[0].weight[:, :2] = 0.0
    found = run(spec, model, nll_images=120)[0]["test"]
    x, c = numbers(DATA.test_images), np.eye(10)[DATA.test_labels]
    p = sigmoid(linear(model.decoder.layers[0], np.concatenate([np.zeros((120, 2)), c], -1)))
    exact = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(-1).mean()
    assert found["nll"] == pytest.approx(exact, rel=1e-6)
    assert found["neg_elbo"] == pytest.approx(exact, rel=1e-6)
    settings = SETTINGS.model_copy(update={"nll_images": 120, "nll_samples": 100})
    fitted = VaeEvaluation(spec, model, DATA, settings, FP32).fitted_likelihood(found)
    assert fitted["nll"] == pytest.approx(exact, abs=0.05)


def test_collapsed_dimension_has_no_kl_and_is_not_active() -> None:
    spec, model = linear_vae(latent_dim=3)
    weight = 0.1 * torch.randn(3, 784, generator=generator(1))
    weight[1] = 0.0
    set_layer(model.encoder_mean.layers[0], weight, torch.tensor([0.0, 0.0, 0.5]))
    set_layer(model.encoder_log_var.layers[0], 0.0, 0.0)
    metrics, arrays = run(spec, model)
    mean = linear(model.encoder_mean.layers[0], numbers(DATA.test_images))
    assert metrics["kl_per_dim"] == pytest.approx((0.5 * mean**2).mean(0).tolist(), rel=1e-5)
    assert metrics["kl_per_dim"][1] == 0.0
    assert sum(metrics["kl_per_dim"]) == pytest.approx(metrics["test"]["kl"], rel=1e-9)
    assert metrics["active_units"] == 2
    assert arrays["test_mean"] == pytest.approx(mean, abs=1e-5)
    assert (arrays["test_log_var"] == 0.0).all()
    assert (arrays["test_labels"] == DATA.test_labels).all()


def test_active_units_vary_by_more_than_a_hundredth() -> None:
    spec, model = linear_vae()
    spread = numbers(DATA.test_images).std(0)
    pixel = int(spread.argmax())
    for scale, active in ((0.9, 1), (1.1, 2)):
        weight = torch.zeros(2, 784)
        weight[0, :] = 1.0
        weight[1, pixel] = scale * 0.1 / spread[pixel]
        set_layer(model.encoder_mean.layers[0], weight, 0.0)
        assert run(spec, model)[0]["active_units"] == active


def test_train_numbers_are_of_the_training_subset_alone() -> None:
    spec, model = certain_vae(train_subset=30)
    metrics, arrays = run(spec, model)
    whole, rest = certain_vae()
    data = replace(DATA, train_images=DATA.train_images[:30], train_labels=DATA.train_labels[:30])
    expected, _ = evaluate(whole, rest, data, SETTINGS, FP32)
    assert metrics["train"] == expected["train"]
    assert metrics["train"]["images"] == 30
    assert metrics["test"]["images"] == 120
    assert len(arrays["train_codes"]) == len(arrays["train_labels"]) == 30


def test_images_setting_keeps_the_first_images_of_each_split() -> None:
    spec, model = certain_vae()
    metrics, arrays = run(spec, model, images=110)
    first = replace(
        DATA,
        train_images=DATA.train_images[:110],
        train_labels=DATA.train_labels[:110],
        test_images=DATA.test_images[:110],
        test_labels=DATA.test_labels[:110],
    )
    expected, _ = evaluate(spec, model, first, SETTINGS, FP32)
    assert metrics == expected
    assert (arrays["test_labels"] == DATA.test_labels[:110]).all()


# --- Images and codes -----------------------------------------------------------------------


def test_means_become_the_nearest_grey_value_and_others_are_clipped() -> None:
    greys = np.arange(256, dtype=np.uint8)
    assert (to_uint8(torch.from_numpy(greys).float() / 255.0) == greys).all()
    means = torch.tensor([-3.0, 0.5 / 255 - 1e-4, 0.5 / 255 + 1e-4, 0.3, 0.71, 1.7])
    assert to_uint8(means).tolist() == [0, 0, 1, 76, 181, 255]
    assert to_uint8(torch.ones(1, dtype=torch.bfloat16)).tolist() == [255]


def test_reconstructions_and_codes_are_of_the_images_beside_them() -> None:
    spec, model = certain_vae()
    _, arrays = run(spec, model)
    assert (arrays["originals"] == DATA.test_images[:100]).all()

    def reconstruct(images: np.ndarray) -> np.ndarray:
        mean = linear(model.encoder_mean.layers[0], numbers(images))
        return 255.0 * sigmoid(linear(model.decoder.layers[0], mean))

    for prefix in ("", "random_"):
        expected = reconstruct(arrays[f"{prefix}originals"])
        assert np.abs(arrays[f"{prefix}reconstructions"] - expected).max() < 0.51
    codes = linear(model.encoder_mean.layers[0], numbers(DATA.train_images))
    assert arrays["train_codes"] == pytest.approx(codes, abs=1e-5)
    assert (arrays["train_labels"] == DATA.train_labels).all()


def test_reconstructions_and_codes_are_sampled_not_decoded_from_the_mean() -> None:
    spec, model = standard_vae()
    _, arrays = run(spec, model)
    codes = arrays["train_codes"][:, 0]
    assert codes.mean() == pytest.approx(0.3, abs=5 * 0.5 / math.sqrt(130))
    assert codes.std() == pytest.approx(0.5, rel=5 / math.sqrt(2 * 130))
    assert len(np.unique(arrays["reconstructions"], axis=0)) > 90


def test_random_images_are_distinct_and_the_same_for_every_run() -> None:
    """The report's Figure 4 shows random test images; here every panel shows the same ones."""
    shown = [
        run(spec, model)[1]["random_originals"]
        for spec, model in (certain_vae(), linear_vae(latent_dim=5, condition="onehot"))
    ]
    shown.append(run(toy_vqvae_spec(), build(toy_vqvae_spec(), generator()))[1]["random_originals"])
    assert (shown[0] == shown[1]).all()
    assert (shown[0] == shown[2]).all()
    positions = [
        next(i for i, image in enumerate(DATA.test_images) if (image == shown_image).all())
        for shown_image in shown[0]
    ]
    assert len(set(positions)) == 100
    assert positions != list(range(100))


def test_prior_samples_are_decoded_from_a_standard_normal() -> None:
    """Each pixel's logit is one latent number, so the latents can be read off the images."""
    spec, model = linear_vae(latent_dim=2)
    weight = torch.zeros(784, 2)
    weight[0::2, 0] = weight[1::2, 1] = 1.0
    set_layer(model.decoder.layers[0], weight, 0.0)
    _, arrays = run(spec, model, generated=2000)
    p = numbers(arrays["generated"])
    assert len(p) == 2000
    z = np.log(p[:, :2]) - np.log1p(-p[:, :2])
    assert np.abs(z.mean(0)).max() < 5 / math.sqrt(2000)
    assert z.std(0) == pytest.approx([1.0, 1.0], abs=5 / math.sqrt(4000))
    assert abs(np.corrcoef(z.T)[0, 1]) < 5 / math.sqrt(2000)
    assert len(np.unique(arrays["prior_samples"][:, :2], axis=0)) > 95
    assert "generated_labels" not in arrays
    assert "conditional_samples" not in arrays


def revealing_cvae(condition: str) -> tuple[RunSpec, VAE]:
    """The decoder's output tells its condition: one-hot in pixels 0..9, raw in pixel 0."""
    spec, model = linear_vae(condition=condition, latent_dim=2)
    weight = torch.zeros(784, model.decoder.layers[0].in_features)
    if condition == "onehot":
        weight[:10, 2:] = 40.0 * torch.eye(10)
        set_layer(model.decoder.layers[0], weight, -20.0)
    else:
        weight[0, 2] = 1.0
        set_layer(model.decoder.layers[0], weight, -4.5)
    return spec, model


def revealed(condition: str, images: np.ndarray) -> np.ndarray:
    """Labels that the images of `revealing_cvae` were decoded with."""
    if condition == "onehot":
        assert (images[..., :10] == 255).sum(-1).min() == 1
        return images[..., :10].argmax(-1)
    p = numbers(images[..., 0])
    return np.round(np.log(p) - np.log1p(-p) + 4.5).astype(int)


@pytest.mark.parametrize("condition", ["onehot", "scalar"])
def test_conditional_images_are_decoded_with_their_label(condition: str) -> None:
    spec, model = revealing_cvae(condition)
    _, arrays = run(spec, model, generated=2000)
    assert arrays["conditional_samples"].shape[:2] == (10, 16)
    labels = revealed(condition, arrays["conditional_samples"])
    assert (labels == np.arange(10)[:, None]).all()
    assert (revealed(condition, arrays["reconstructions"]) == DATA.test_labels[:100]).all()
    label_of = dict(zip(map(bytes, DATA.test_images), DATA.test_labels, strict=True))
    expected = [label_of[bytes(image)] for image in arrays["random_originals"]]
    assert (revealed(condition, arrays["random_reconstructions"]) == expected).all()
    generated = revealed(condition, arrays["generated"])
    assert (generated == arrays["generated_labels"]).all()
    counts = np.bincount(generated, minlength=10)
    assert np.abs(counts - 200).max() < 5 * math.sqrt(2000 * 0.1 * 0.9)
    assert len(set(revealed(condition, arrays["prior_samples"]))) == 10


def manifold_of(weight: Tensor, bias: Tensor) -> np.ndarray:
    spec, model = linear_vae()
    full_weight, full_bias = torch.zeros(784, 2), torch.zeros(784)
    full_weight[: len(weight)], full_bias[: len(bias)] = weight, bias
    set_layer(model.decoder.layers[0], full_weight, full_bias)
    return run(spec, model)[1]["manifold"].astype(int)


def test_manifold_has_z1_rising_rightwards_and_z2_upwards() -> None:
    manifold = manifold_of(0.5 * torch.eye(2), torch.zeros(2))
    assert manifold.shape == (20, 20, 784)
    z1, z2 = manifold[..., 0], manifold[..., 1]
    assert (np.diff(z1, axis=1) > 0).all()
    assert (z1 == z1[0]).all()
    assert (np.diff(z2, axis=0) < 0).all()
    assert (z2[:, 0] == z2.T).all()
    assert z1[0] == pytest.approx(z2[::-1, 0])


def test_manifold_lies_at_the_priors_quantiles() -> None:
    """Twenty equally spaced probabilities from 1e-5 to 1 - 1e-5: z = -4.265 .. 4.265.

    Pixel k is grey 127.5 where z1 is the k-th expected quantile, and 64 levels off for 0.01.
    """
    probabilities = np.linspace(1e-5, 1 - 1e-5, 20)
    quantiles = torch.tensor([NormalDist().inv_cdf(p) for p in probabilities])
    assert quantiles[-1].item() == pytest.approx(4.265, abs=1e-3)
    weight = torch.stack([torch.full((20,), 100.0), torch.zeros(20)], -1)
    manifold = manifold_of(weight, -100.0 * quantiles)
    for row in (0, 19):
        assert np.diagonal(manifold[row, :, :20]) == pytest.approx(np.full(20, 127.5), abs=2.0)


@pytest.mark.parametrize("changes", [{"latent_dim": 3}, {"condition": "onehot"}])
def test_only_unconditional_two_dimensional_models_have_a_manifold(changes: Any) -> None:
    assert "manifold" not in run(*linear_vae(**changes))[1]
    assert "manifold" in run(*linear_vae(dataset="frey", likelihood="gaussian"))[1]


def test_faces_have_no_labels_and_no_generated_digits() -> None:
    metrics, arrays = run(*linear_vae(dataset="frey", likelihood="gaussian", latent_dim=5))
    assert metrics["image_shape"] == [28, 20]
    assert set(arrays) == {
        *("originals", "reconstructions", "random_originals", "random_reconstructions"),
        *("prior_samples", "train_codes"),
    }
    assert (arrays["originals"] == FACES.test_images[:100]).all()


def test_parameters_are_counted() -> None:
    spec, model = linear_vae(latent_dim=2)
    assert run(spec, model)[0]["parameters"] == 2 * (784 * 2 + 2) + 784 * 2 + 784


@pytest.mark.parametrize("spec", [toy_spec(condition="onehot"), toy_vqvae_spec()])
def test_evaluation_repeats_exactly_whatever_was_drawn_before(spec: RunSpec) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        results.append(run(spec, build(spec, generator())))
    (metrics, arrays), (metrics_again, arrays_again) = results
    assert metrics == metrics_again
    assert arrays.keys() == arrays_again.keys()
    assert all((array == arrays_again[name]).all() for name, array in arrays.items())


@pytest.mark.parametrize("condition", ["none", "onehot"])
def test_evaluation_in_bf16_says_the_same(condition: str) -> None:
    """Matrix products may be rounded; sums over pixels and latents may not."""
    spec = toy_spec(condition=condition, hidden=(32,))
    model = build(spec, generator())
    exact, rounded = (
        evaluate(spec, model, DATA, SETTINGS, Compute(torch.device("cpu"), dtype))
        for dtype in (torch.float32, torch.bfloat16)
    )
    for split in ("train", "test"):
        for key in ("recon", "neg_elbo", "mse"):
            assert rounded[0][split][key] == pytest.approx(exact[0][split][key], rel=1e-3), key
        assert rounded[0][split]["kl"] == pytest.approx(exact[0][split]["kl"], rel=0.05)
    assert rounded[0]["test"]["nll"] == pytest.approx(exact[0]["test"]["nll"], rel=1e-3)
    assert rounded[0] != exact[0]
    difference = rounded[1]["reconstructions"].astype(int) - exact[1]["reconstructions"]
    assert np.abs(difference).max() <= 3


# --- VQ-VAE ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vqvae() -> VQVAE:
    """Statistics and codes near the data, so that several codes are used."""
    model = build(toy_vqvae_spec(), generator())
    x = torch.from_numpy(DATA.train_images).float() / 255.0
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # one pass makes the statistics those of its batch
    with torch.no_grad():
        vectors = model.encode(x[:20]).movedim(1, -1).reshape(-1, 2)
        model.codebook.codes.copy_(vectors[:: len(vectors) // 10][:10])
        model(x[:20])
    return model.eval()


@pytest.fixture(scope="module")
def vq_evaluation(vqvae: VQVAE) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "BATCH", 50)
        # In training mode, as a training leaves it: evaluating must not use batch statistics.
        return run(toy_vqvae_spec(beta=0.5), copy.deepcopy(vqvae).train())


def by_hand(model: VQVAE, images: np.ndarray) -> dict[str, Any]:
    """All images at once, nearest codes by brute force, sums in float64."""
    x = torch.from_numpy(images).float() / 255.0
    with torch.no_grad():
        z_e = model.encode(x).permute(0, 2, 3, 1)
        codes = torch.cdist(z_e.reshape(1, -1, 2).double(), model.codebook.codes[None].double())
        grid = codes.argmin(-1).reshape(len(x), 7, 7)
        z_q = model.codebook.codes[grid]
        reconstruction = model.decode(z_q.permute(0, 3, 1, 2))
    usage = torch.bincount(grid.flatten(), minlength=10).double() / grid.numel()
    used = usage[usage > 0]
    return {
        "mse": (reconstruction - x).double().square().mean().item(),
        "quantisation": (z_e - z_q).double().square().mean().item(),
        "perplexity": (-(used * used.log()).sum()).exp().item(),
        "reconstruction": reconstruction,
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_numbers_of_a_vqvae_by_hand(
    split: str, vqvae: VQVAE, vq_evaluation: tuple[dict[str, Any], dict[str, np.ndarray]]
) -> None:
    found = vq_evaluation[0][split]
    expected = by_hand(vqvae, DATA.train_images if split == "train" else DATA.test_images)
    assert expected["perplexity"] > 1.5
    assert found["mse"] == pytest.approx(expected["mse"], rel=1e-4)
    assert found["embedding"] == pytest.approx(1.5 * expected["quantisation"], rel=1e-4)
    assert found["objective"] == pytest.approx(found["mse"] + found["embedding"], rel=1e-12)
    assert found["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-6)
    assert found["images"] == (130 if split == "train" else 120)
    assert "recon" not in found


def test_images_of_a_vqvae(
    vqvae: VQVAE, vq_evaluation: tuple[dict[str, Any], dict[str, np.ndarray]]
) -> None:
    arrays = vq_evaluation[1]
    for prefix in ("", "random_"):
        expected = by_hand(vqvae, arrays[f"{prefix}originals"])["reconstruction"]
        difference = arrays[f"{prefix}reconstructions"] - 255.0 * expected.clamp(0, 1).numpy()
        assert np.abs(difference).max() < 0.6
    assert (arrays["originals"] == DATA.test_images[:100]).all()
    assert (arrays["codebook"] == vqvae.codebook.codes.detach().numpy()).all()


def test_learned_code_prior_is_closer_to_reconstructions_than_uniform_codes(
    vq_evaluation: tuple[dict[str, Any], dict[str, np.ndarray]],
) -> None:
    arrays = vq_evaluation[1]
    assert len(arrays["generated"]) == len(arrays["generated_uniform"]) == 100
    assert (arrays["prior_samples"] == arrays["generated"][:100]).all()
    assert (arrays["uniform_samples"] == arrays["generated_uniform"][:100]).all()
    target = arrays["reconstructions"].astype(float).mean(0)
    learned, uniform = (
        np.abs(arrays[name].astype(float).mean(0) - target).mean()
        for name in ("generated", "generated_uniform")
    )
    assert learned < 0.5 * uniform
