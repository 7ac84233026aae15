"""Factors of images, and measures of disentanglement where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from vaelab.evaluation.factors import (
    FACTORS,
    ceiling,
    disentanglement,
    ellipses,
    measure_factors,
    mutual_information_gap,
    total_correlation,
)

SHAPE = (28, 28)


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return ellipses(1500)


def image(pixels: np.ndarray) -> np.ndarray:
    return np.round(255 * pixels).astype(np.uint8).reshape(1, -1)


def test_factors_of_a_bar() -> None:
    bar = np.zeros(SHAPE)
    bar[4:24, 12:16] = 1.0
    found = {name: float(value[0]) for name, value in measure_factors(image(bar), SHAPE).items()}
    assert tuple(found) == FACTORS
    assert found["ink"] == 80.0
    assert found["slant"] == pytest.approx(0.0, abs=1e-9)
    assert found["height"] == pytest.approx(20.0, rel=0.01)
    assert found["width"] == pytest.approx(4.0, rel=0.05)
    # Distances to the border are 1, 2, 2, 1 but at the ends.
    assert found["thickness"] == pytest.approx(4.0, abs=0.3)


def test_a_sheared_bar_has_its_slant_and_keeps_its_width() -> None:
    sheared = np.zeros(SHAPE)
    for row in range(4, 24):
        left = 12 + (14 - row) // 2  # to the right as it goes up
        sheared[row, left : left + 4] = 1.0
    found = measure_factors(image(sheared), SHAPE)
    assert found["slant"][0] == pytest.approx(np.degrees(np.arctan(0.5)), abs=0.5)
    assert found["width"][0] == pytest.approx(4.0, rel=0.1)
    assert found["height"][0] == pytest.approx(20.0, rel=0.01)


def test_images_do_not_touch_each_other_and_an_empty_one_is_no_error() -> None:
    bar = np.zeros(SHAPE)
    bar[:, 10:15] = 1.0
    two = np.concatenate([image(bar), image(np.zeros(SHAPE)), image(bar)])
    found = measure_factors(two, SHAPE)
    alone = measure_factors(image(bar), SHAPE)
    for name in FACTORS:
        assert np.isfinite(found[name]).all()
        assert found[name][2] == pytest.approx(alone[name][0])


def test_measured_factors_follow_the_known_ones(known) -> None:
    images, factors = known
    found = measure_factors(images, SHAPE)
    for name in ("slant", "thickness", "width", "height"):
        assert np.corrcoef(found[name], factors[name])[0, 1] > 0.9, name
    assert np.abs(found["slant"] - factors["slant"]).max() < 2.0
    # Ink grows with the grey level at otherwise equal factors.
    others = np.stack([factors[n] for n in ("thickness", "width", "height", "level")], axis=1)
    coefficients = np.linalg.lstsq(others - others.mean(0), found["ink"], rcond=None)[0]
    assert (coefficients > 0).all()


def test_aligned_codes_have_a_gap_near_one_and_rotated_ones_near_none(known) -> None:
    _, factors = known
    codes = np.stack(list(factors.values()), axis=1)
    codes = (codes - codes.mean(0)) / codes.std(0)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))
    log_var = np.full(codes.shape, -3.0)
    aligned, rotated = (disentanglement(c, log_var, factors) for c in (codes, codes @ rotation))
    assert aligned["mig"] > 0.9
    assert rotated["mig"] < 0.2
    assert ceiling(factors) == pytest.approx(aligned["mig"])
    assert {f"mig_{name}" for name in factors} < set(aligned)
    # A dimension that says nothing changes nothing; a copy of each takes the gap away.
    noise = np.random.default_rng(1).standard_normal((len(codes), 1))
    more = mutual_information_gap(np.hstack([codes, noise]), factors)
    assert np.mean(list(more.values())) == pytest.approx(aligned["mig"], abs=0.005)
    doubled = mutual_information_gap(np.hstack([codes, codes]), factors)
    assert max(doubled.values()) < 1e-12


def test_the_gap_is_lower_for_factors_that_go_together(known) -> None:
    images, _ = known
    assert ceiling(measure_factors(images, SHAPE)) < 0.98


def test_total_correlation_of_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    mean = rng.multivariate_normal([0, 0], [[0.9, 0.6], [0.6, 0.9]], size=200_000)
    log_var = np.full(mean.shape, np.log(0.1))
    # Posterior variance 0.1 makes the aggregate's correlation 0.6.
    assert total_correlation(mean, log_var) == pytest.approx(-0.5 * np.log(1 - 0.36), abs=0.005)
    assert total_correlation(mean[:, :1], log_var[:, :1]) == 0.0
