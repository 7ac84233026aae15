"""Measures of generation and of latent codes, on cases with known answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm

from vaelab.data import Dataset
from vaelab.evaluation.measures import (
    Classified,
    Gaussian,
    Manifold,
    aggregate_kl,
    confidence,
    constant_image_recon,
    constant_pixels,
    frechet_distance,
    gaussian_floor_losses,
    gaussian_label_accuracy,
    knn_accuracy,
    label_agreement,
    majority_accuracy,
    measure_codes,
    measure_run,
    measure_runs,
    pixel_entropy,
    pixel_variance,
    prior_auc,
    reference,
    sharpness,
)
from vaelab.results.reader import Results
from vaelab.util.io import write_json, write_npz


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Generation --------------------------------------------------------------------------------


def test_frechet_distance_of_diagonal_gaussians():
    a = Gaussian(np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    b = Gaussian(np.array([3.0, 5.0]), np.diag([1.0, 16.0]))
    # 3^2 + 4^2 from the means, (2 - 1)^2 + (3 - 4)^2 from the standard deviations.
    assert frechet_distance(a, b) == pytest.approx(27.0)
    assert frechet_distance(b, a) == pytest.approx(27.0)


def test_frechet_distance_agrees_with_the_matrix_root():
    draw = rng(1)
    a, b = (Gaussian.fit(draw.standard_normal((50, 5)) @ draw.random((5, 5))) for _ in range(2))
    cross = sqrtm(a.covariance @ b.covariance).real
    expected = np.square(a.mean - b.mean).sum()
    expected += np.trace(a.covariance + b.covariance - 2.0 * cross)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_singular_covariances():
    features = rng(2).standard_normal((200, 4))
    features[:, 2] = 0.0  # a feature that is never active
    fit = Gaussian.fit(features)
    assert frechet_distance(fit, fit) == pytest.approx(0.0, abs=1e-6)
    shifted = Gaussian(fit.mean + np.array([0.0, 0.0, 2.0, 0.0]), fit.covariance)
    assert frechet_distance(fit, shifted) == pytest.approx(4.0, abs=1e-6)
    point = Gaussian.fit(np.zeros((10, 4)))
    assert frechet_distance(point, fit) == pytest.approx(
        np.square(fit.mean).sum() + np.trace(fit.covariance)
    )


def test_confidence_and_agreement():
    probabilities = np.array([[0.7, 0.3], [0.1, 0.9], [0.5, 0.5]])
    assert confidence(probabilities) == pytest.approx(0.7)
    assert label_agreement(probabilities, np.array([0, 0, 0])) == pytest.approx(2 / 3)


def test_sharpness_counts_edges():
    image = np.zeros((4, 4), np.uint8)
    image[:, 2:] = 255
    # 4 of the 12 horizontal neighbours differ by 1, none of the 12 vertical ones.
    assert sharpness(image.reshape(1, -1), (4, 4)) == pytest.approx(4 / 24)
    half = (image // 255 * 51).astype(np.uint8)  # grey value 0.2
    assert sharpness(half.reshape(1, -1), (4, 4)) == pytest.approx(0.04 * 4 / 24)


def test_pixel_entropy_is_in_nats():
    grey = np.full((2, 10), 51, np.uint8)
    expected = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert pixel_entropy(grey) == pytest.approx(expected)
    grey[0] = 0
    assert pixel_entropy(grey) == pytest.approx(expected / 2)


def test_pixel_variance_is_that_across_images():
    assert pixel_variance(np.full((5, 8), 77, np.uint8)) == 0.0
    images = np.zeros((4, 2), np.uint8)
    images[:2, 0] = 255
    assert pixel_variance(images) == pytest.approx(0.25 / 2)
    many = rng().integers(0, 256, (5000, 3)).astype(np.uint8)
    assert pixel_variance(many) == pytest.approx((many / 255.0).var(0).mean(), rel=1e-12)


# Codes -------------------------------------------------------------------------------------


def test_nearest_neighbours_vote():
    codes = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    labels = np.array([3, 3, 7, 8, 8, 8])
    queries = np.array([[0.05], [5.05], [0.0]])
    assert knn_accuracy(codes, labels, queries, np.array([3, 8, 7]), k=3) == pytest.approx(2 / 3)
    # With all six votes 8 leads; a tie of two goes to the smaller digit.
    assert knn_accuracy(codes, labels, queries[:1], np.array([8]), k=6) == 1.0
    assert knn_accuracy(codes[2:4], labels[2:4], queries[:1], np.array([7]), k=2) == 1.0


def test_gaussian_classifier_sees_means_and_spreads():
    draw = rng(5)
    labels = np.repeat([2, 6], 2000)
    spread = np.where(labels == 2, 0.1, 1.0)[:, None]
    codes = draw.standard_normal((4000, 2)) * spread
    even, odd = slice(0, None, 2), slice(1, None, 2)
    accuracy = gaussian_label_accuracy(codes[even], labels[even], codes[odd], labels[odd])
    # Best possible: 0.5 (P(r < R | 0.1) + P(r > R | 1)) with R^2 = 2 ln(100) / 99.
    boundary = 2.0 * math.log(100.0) / 99.0
    best = 0.5 * (1.0 - math.exp(-boundary / 0.02) + math.exp(-boundary / 2.0))
    assert accuracy == pytest.approx(best, abs=0.02)


def test_independent_codes_tell_nothing():
    draw = rng(6)
    labels = draw.choice(10, 4000, p=[0.19, *[0.09] * 9])
    for dimension in (2, 100):
        codes = draw.standard_normal((4000, dimension))
        half = (codes[:2000], labels[:2000]), (codes[2000:], labels[2000:])
        accuracy = gaussian_label_accuracy(*half[0], *half[1])
        chance = majority_accuracy(labels[:2000], labels[2000:])
        assert chance == pytest.approx(0.19, abs=0.03)
        assert accuracy < chance + 0.03


def test_collapsed_dimensions_do_not_break_the_classifier():
    codes = np.zeros((40, 3))
    codes[:, 0] = np.repeat([0.0, 1.0], 20) + 0.01 * rng(7).standard_normal(40)
    labels = np.repeat([0, 1], 20)
    assert gaussian_label_accuracy(codes, labels, codes, labels) == 1.0


def test_a_classifier_tells_codes_from_the_prior_where_moments_cannot():
    rng = np.random.default_rng(0)
    prior = rng.standard_normal((4000, 2))
    assert prior_auc(prior, rng) == pytest.approx(0.5, abs=0.04)
    # A ring of radius sqrt(2) has the prior's moments.
    angle = rng.uniform(0.0, 2.0 * np.pi, 4000)
    ring = 2.0**0.5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert prior_auc(ring + 0.1 * prior, rng) > 0.8
    assert prior_auc(10.0 + prior, rng) == 1.0


def test_precision_and_recall_see_what_is_missing_and_what_is_too_much():
    rng = np.random.default_rng(0)
    left = Manifold.around(rng.standard_normal((500, 3)))
    right = rng.standard_normal((500, 3)) + 50.0
    both = Manifold.around(np.concatenate([left.features, right]))
    assert left.share_within(both) == 1.0
    assert both.share_within(left) == 0.5
    same = Manifold.around(rng.standard_normal((500, 3)))
    assert same.share_within(left) > 0.9
    assert len(Manifold.around(np.zeros((4001, 2))).features) <= 2000


def test_aggregate_kl_uses_both_sources_of_variance():
    # Means at +-0.6 with variance 0.64: the mixture has mean 0 and variance 1.
    mean = np.array([[0.6, 1.0], [-0.6, 1.0]])
    log_var = np.log(np.array([[0.64, 0.5], [0.64, 0.5]]))
    kl = aggregate_kl(mean, log_var)
    assert kl[0] == pytest.approx(0.0, abs=1e-12)
    assert kl[1] == pytest.approx(0.5 * (1.0 + 0.5 - 1.0 - math.log(0.5)))


# What the data alone determine -------------------------------------------------------------


def test_constant_image_recon():
    train = np.zeros((1000, 4), np.uint8)
    train[:500, 0] = 255
    train[:, 1] = 255
    test = train[::10]
    # One undecided pixel costs log 2; the three constant ones next to nothing.
    assert constant_image_recon(train, test) == pytest.approx(math.log(2.0), abs=2e-3)
    unseen = test.copy()
    unseen[0, 3] = 255
    assert constant_image_recon(train, unseen) == pytest.approx(
        math.log(2.0) + math.log(2002.0) / 100, abs=3e-3
    )


def test_loss_without_a_least_value():
    images = np.zeros((100, 6), np.uint8)
    images[:50, 0] = 255
    assert constant_pixels(images) == 5
    losses = list(gaussian_floor_losses(images).values())
    assert list(gaussian_floor_losses(images)) == [
        "1e-02",
        "1e-04",
        "1e-06",
        "1e-08",
        "1e-10",
        "1e-12",
    ]
    # Each of the five constant pixels gains half the logarithm of the factor.
    np.testing.assert_allclose(-np.diff(losses), 2.5 * math.log(100.0))
    varying = list(gaussian_floor_losses(images[:, :1]).values())
    np.testing.assert_allclose(varying, 0.5 * (math.log(2.0 * math.pi * 0.25) + 1.0))


# All of a run ------------------------------------------------------------------------------


def by_first_pixel(images: np.ndarray) -> Classified:
    """A classifier that reads the digit off the first pixel, certain of it."""
    probabilities = np.eye(10)[images[:, 0] % 10]
    return Classified(probabilities, images[:, :3].astype(np.float64) / 255.0)


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = rng(seed)
    labels = draw.integers(0, 10, count).astype(np.uint8)
    images = draw.integers(0, 256, (count, 784)).astype(np.uint8)
    images[:, 0] = labels
    return images, labels


def digit_images(train: int, test: int) -> Dataset:
    (train_images, train_labels), (test_images, test_labels) = digits(train, 6), digits(test, 7)
    return Dataset(
        "mnist", train_images, test_images, train_labels, test_labels, (28, 28), "0", False
    )


def vae_arrays(seed: int, conditional: bool) -> dict[str, np.ndarray]:
    generated, labels = digits(300, seed)
    draw = rng(seed + 1)
    test_labels = np.arange(2000) // 2 % 10
    mean = np.stack([test_labels / 2.0, draw.standard_normal(2000)], 1).astype(np.float32)
    arrays = {
        "generated": generated,
        "train_codes": mean[:1000],
        "train_labels": test_labels[:1000],
        "test_mean": mean,
        "test_log_var": np.full((2000, 2), -6.0, np.float32),
        "test_labels": test_labels,
    }
    if conditional:
        labels[:30] = (labels[:30] + 1) % 10
        arrays["generated_labels"] = labels
    return arrays


def test_measures_of_codes_come_from_sampled_codes():
    measured = measure_codes(vae_arrays(0, conditional=False))
    # Digits lie half a unit apart in z1 and each code is off by 0.05: nearly certain.
    assert measured["knn_accuracy"] > 0.97
    assert measured["z_to_label_accuracy"] > 0.97
    assert measured["majority_accuracy"] == pytest.approx(0.1)
    arrays = vae_arrays(0, conditional=False)
    arrays["test_log_var"] = np.full((2000, 2), 3.0, np.float32)
    assert measure_codes(arrays)["z_to_label_accuracy"] < 0.25


def test_measures_of_a_conditional_model():
    real = reference(by_first_pixel, digit_images(300, 2000), 300)
    measured = measure_run(vae_arrays(0, conditional=True), real)
    assert measured["label_agreement"] == pytest.approx(0.9)
    assert measured["confidence"] == 1.0
    assert "label_agreement" not in measure_run(vae_arrays(0, False), real)


def test_measures_of_all_runs(tmp_path):
    calls = []

    def classify(images: np.ndarray) -> Classified:
        calls.append(len(images))
        return by_first_pixel(images)

    generated, _ = digits(300, 3)
    content = {
        "vae-s0": vae_arrays(0, False),
        "vae-s1": vae_arrays(10, False),
        "cvae-s0": vae_arrays(20, True),
        "vqvae-s0": {"generated": generated, "generated_uniform": 255 - generated},
        "frey_d2-s0": {"train_codes": np.zeros((5, 2))},
        # A further seed on record, and the search's answer.
        "cvae-s7": vae_arrays(30, True),
        "arch_400_3-s0": vae_arrays(40, False),
        "arch_400_3-s1": vae_arrays(50, False),
    }
    for run, arrays in content.items():
        write_npz(tmp_path / "runs" / run / "arrays.npz", arrays)
        dataset = "frey" if "frey" in run else "mnist"
        metrics = {"run": run, "samples": 1, "spec": {"dataset": dataset}}
        write_json(tmp_path / "runs" / run / "metrics.json", metrics)
    write_json(tmp_path / "search" / "decisions.json", {"answer": {"run": "arch_400_3"}})
    alias = {
        "vae": ["vae-s0", "vae-s1"],
        "twin": ["vae-s0", "vae-s1"],
        "cvae": ["cvae-s0"],
        "vqvae": ["vqvae-s0"],
        "frey_d2": ["frey_d2-s0"],
        "untrained": ["untrained-s0"],
    }
    data = digit_images(4000, 2000)
    assert data.test_labels is not None
    data.test_images[:20, 0] = (data.test_labels[:20] + 1) % 10
    real = reference(classify, data, 300)
    assert calls == [2000, 300]
    calls.clear()
    result = measure_runs(Results(tmp_path, alias), {"mnist": real})
    json.dumps(result, allow_nan=False)
    assert result["classifier"]["test_accuracy"] == pytest.approx(0.99)
    assert set(result["runs"]) == {"vae", "twin", "cvae", "vqvae", "arch_400_3"}
    assert result["ids"]["cvae"] == ["cvae-s0", "cvae-s7"]
    assert result["runs"]["twin"] == result["runs"]["vae"]
    assert len(result["runs"]["vae"]) == 2
    assert result["runs"]["vae"][0] != result["runs"]["vae"][1]
    assert len(calls) == 8  # ten with the twin's
    vqvae = result["runs"]["vqvae"][0]
    assert vqvae["fid_uniform"] > vqvae["fid"]
    assert "knn_accuracy" not in vqvae
    # The reference images are as random as the generated ones.
    assert result["reference"]["sharpness"] == pytest.approx(vqvae["sharpness"], rel=0.02)
    assert result["reference"]["constant_pixels"] == 0
    # Arrays that are gone: their measures stay, and no other classifier's stand beside them.
    (tmp_path / "runs" / "vae-s0" / "arrays.npz").unlink()
    again = measure_runs(Results(tmp_path, alias), {"mnist": real}, result)
    assert again == result
    del result["runs"]["vae"][0]["precision"], result["ids"]
    other = measure_runs(
        Results(tmp_path, alias), {"mnist": replace(real, test_accuracy=0.5)}, result
    )
    assert other["classifier"] == result["classifier"]
    assert other["runs"]["vae"][0] == result["runs"]["vae"][0]
    assert "fid" not in other["runs"]["vae"][1]
    assert "precision" in other["runs"]["vae"][1]
    assert other["runs"]["vae"][1]["prior_auc"] == result["runs"]["vae"][1]["prior_auc"]
