"""The report's smoothing: trailing means over its own evaluations."""

from __future__ import annotations

import numpy as np
import pytest

from vaelab.original import numbers
from vaelab.original.smoothing import Smoothing, smoothing


def test_a_constant_stays_and_a_line_lags_by_half_a_window() -> None:
    samples = np.arange(1, 101, dtype=float) * 1000
    smooth = Smoothing(every=1000, window=11)
    points = np.array([50_000.0, 100_000.0])
    assert smooth.at(points, samples, np.full(100, 3.0)).tolist() == [3.0, 3.0]
    # The mean over the last 11 evaluations is the value 5 evaluations ago.
    assert smooth.at(points, samples, samples).tolist() == [45_000.0, 95_000.0]


def test_windows_are_shorter_at_the_start() -> None:
    samples = np.arange(1, 101, dtype=float) * 1000
    smooth = Smoothing(every=1000, window=11)
    assert smooth.at(np.array([1000.0, 3999.0]), samples, samples).tolist() == [1000.0, 2000.0]


def test_curves_on_a_coarse_grid_are_interpolated() -> None:
    dense = np.arange(60_000, 12_000_001, 60_000, dtype=float)
    coarse = np.geomspace(10_000, 12_000_000, 90)
    loss = lambda n: 110 + 400 / np.sqrt(n / 1000)  # noqa: E731
    smooth = Smoothing(60_000, 50)
    points = np.array([1e6, 3e6, 1e7])
    exact = smooth.at(points, dense, loss(dense))
    assert smooth.at(points, coarse, loss(coarse)) == pytest.approx(exact, abs=0.2)
    # Early in training the trailing mean is far above the loss itself.
    assert exact[0] - loss(1e6) > 5


def test_nothing_is_said_beyond_the_end_or_before_the_first_evaluation() -> None:
    samples, values = np.array([1e5, 1e6]), np.array([2.0, 1.0])
    smooth = Smoothing(60_000, 50)
    assert np.isnan(smooth.at(np.array([2e6, 5e4, 1.2e5]), samples, values)).all()


def test_every_digitised_curve_has_its_smoothing() -> None:
    frame = numbers.curves()
    spans = {
        (figure, series): smooth.every * smooth.window
        for figure, series in set(zip(frame["figure"], frame["series"], strict=True))
        if (smooth := smoothing(figure, series)) is not None
    }
    kinks = numbers.features(1)
    for series, span in zip(kinks["series"], kinks["samples_low"], strict=True):
        assert spans[1, series] == span
    assert spans[3, "ml_n1000"] == 2_000_000
    assert spans[3, "ml_n50000"] == 2_500_000
    assert {span for (figure, _), span in spans.items() if figure in (6, 14)} == {3_000_000}
