"""Disentanglement: do single latent dimensions carry single factors of the images?

MNIST comes with one factor, the digit. Further ones are measured on the images themselves, after
Morpho-MNIST (Castro et al., arXiv 1809.10780): slant, thickness, width, height, ink. They are not
independent of each other, so that no code can reach a mutual information gap of 1 (`ceiling` says
how far the factors themselves get). `ellipses` draws images whose factors are known and
independent; on them the measures can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

Values: TypeAlias = npt.NDArray[np.float64]

FACTORS = ("slant", "thickness", "width", "height", "ink")
# Equally filled bins of factors and codes, as in disentanglement_lib.
BINS = 20


def measure_factors(images: np.ndarray, shape: tuple[int, int]) -> dict[str, Values]:
    """Factors of uint8 images (N, P), an array (N,) each.

    Returns:
        slant: angle of the strokes to the right, degrees, from the second moments of the ink.
        thickness: of the strokes, pixels: four times the mean distance to the background.
        width, height: extent of the ink after removing the slant, pixels: sqrt(12) standard
            deviations, which for a bar is its length.
        ink: sum of grey values, in pixels of full ink.
    """
    grey = images.reshape(-1, *shape) / 255.0
    ink = np.maximum(grey.sum((1, 2)), 1e-12)
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    # Heights count upwards.
    y = -rows[None, :, None] + (grey.sum(2) @ rows / ink)[:, None, None]
    x = columns[None, None, :] - (grey.sum(1) @ columns / ink)[:, None, None]
    var_y = np.maximum((grey * y**2).sum((1, 2)) / ink, 1e-12)
    covariance = (grey * x * y).sum((1, 2)) / ink
    var_x = (grey * x**2).sum((1, 2)) / ink - covariance**2 / var_y
    inside = grey > 0.5
    # No distance reaches from one image into the next.
    distance = distance_transform_edt(inside, sampling=(2.0 * max(shape), 1.0, 1.0))
    area = np.maximum(inside.sum((1, 2)), 1)
    return {
        "slant": np.degrees(np.arctan(covariance / var_y)),
        # The border of the ink is half a pixel nearer than the first pixel beyond it.
        "thickness": 4.0 * (distance.sum((1, 2)) / area - 0.5),
        "width": np.sqrt(12.0 * np.maximum(var_x, 0.0)),
        "height": np.sqrt(12.0 * var_y),
        "ink": ink,
    }


def mutual_information_gap(codes: Values, factors: Mapping[str, Values]) -> dict[str, float]:
    """Chen et al.'s MIG (arXiv 1802.04942), by factor.

    How far the most informative latent dimension is ahead of the second, as a share of the factor's
    entropy.

    Args:
        codes: latent codes (N, d); with d = 1 the second has no information.
        factors: values (N,) by name.
    """
    binned = np.array([_bins(code) for code in codes.T])
    gaps = {}
    for name, values in factors.items():
        factor = _bins(values)
        information = sorted([_information(code, factor) for code in binned] + [0.0])
        gaps[name] = (information[-1] - information[-2]) / _information(factor, factor)
    return gaps


def total_correlation(mean: Values, log_var: Values) -> float:
    """KL of the aggregated posterior from the product of its marginals, nats, if it were Gaussian.

    Args:
        mean: posterior means (N, d).
        log_var: posterior log-variances (N, d).
    """
    covariance = np.atleast_2d(np.cov(mean, rowvar=False, bias=True))
    covariance = covariance + np.diag(np.exp(log_var).mean(0))
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(0.5 * (np.log(np.diag(covariance)).sum() - log_determinant))


def disentanglement(
    mean: np.ndarray, log_var: np.ndarray, factors: Mapping[str, Values]
) -> dict[str, float]:
    """Measures of a model's codes for images whose factors are known.

    Args:
        mean: posterior means (N, d), which stand for the codes.
        log_var: posterior log-variances (N, d).
        factors: of the same images.

    Returns:
        mig: the mean over factors of `mutual_information_gap`; mig_<factor> of each;
        total_correlation, nats.
    """
    gaps = mutual_information_gap(mean.astype(np.float64), factors)
    return {
        "mig": float(np.mean(list(gaps.values()))),
        **{f"mig_{name}": gap for name, gap in gaps.items()},
        "total_correlation": total_correlation(mean.astype(np.float64), log_var.astype(np.float64)),
    }


def ceiling(factors: Mapping[str, Values]) -> float:
    """The MIG of codes that are the factors themselves: 1 if these are independent."""
    codes = np.stack(list(factors.values()), axis=1)
    return float(np.mean(list(mutual_information_gap(codes, factors).values())))


def ellipses(count: int, seed: int = 0) -> tuple[np.ndarray, dict[str, Values]]:
    """Slanted elliptic rings with known, independent factors: uint8 images (count, 784).

    The factors are those of `measure_factors` but for ink, which follows from the others and a
    grey level; it is drawn through that level.
    """
    rng = np.random.default_rng(seed)
    slant = rng.uniform(-25.0, 25.0, count)
    thickness = rng.uniform(2.0, 5.0, count)
    width, height = rng.uniform(9.0, 15.0, count), rng.uniform(12.0, 20.0, count)
    level = rng.uniform(0.6, 1.0, count)
    y, x = 13.5 - np.mgrid[:28, :28]
    x = -x[None] - np.tan(np.radians(slant))[:, None, None] * y[None]
    a, b = (0.5 * (v - thickness)[:, None, None] for v in (width, height))
    radius = np.hypot(x / a, y[None] / b)
    # Distance from the ring, to first order.
    slope = np.hypot(x / a**2, y[None] / b**2) / np.maximum(radius, 1e-6)
    distance = np.abs(radius - 1.0) / np.maximum(slope, 1e-6)
    grey = np.clip(0.5 * thickness[:, None, None] - distance + 0.5, 0.0, 1.0)
    images = np.round(255.0 * grey * level[:, None, None]).astype(np.uint8)
    known = {"slant": slant, "thickness": thickness, "width": width, "height": height}
    return images.reshape(count, -1), known | {"level": level}


def _bins(values: Values) -> npt.NDArray[np.int64]:
    """The number of each value's bin; bins hold equally many. Ties stay together."""
    edges = np.quantile(values, np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    return np.searchsorted(edges, values, side="right")


def _information(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """Mutual information of two binned variables, nats; of one with itself its entropy."""
    joint = np.bincount(BINS * a + b, minlength=BINS**2).reshape(BINS, BINS) / len(a)
    independent = np.outer(joint.sum(1), joint.sum(0))
    seen = joint > 0.0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())
