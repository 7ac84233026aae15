"""Our curves at the digitised points: same quantity, same smoothing, only where we got."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest

from result_folders import alias
from vaelab.original import numbers
from vaelab.output.catalogue import CATALOGUE
from vaelab.output.readings import table_curves
from vaelab.output.tables import markdown
from vaelab.results.reader import Results
from vaelab.results.records import Metrics

SAMPLES = np.unique(np.concatenate([np.arange(1, 400) * 60_000, [1_000_000, 10_000_000]]))


class Made(Results):
    """Every history is the same straight line, one a seed higher."""

    def __init__(self, names: list[str], seeds: tuple[int, ...] = (0,)) -> None:
        super().__init__(Path("results/faithful"), alias(names, seeds))

    def _frames(self, columns: list[str], slope: float) -> list[pd.DataFrame]:
        return [
            pd.DataFrame(
                {"samples": SAMPLES}
                | dict.fromkeys(columns, 100 + seed + slope * SAMPLES / 1000000.0)
            )
            for seed in self.seeds
        ]

    def history(self, name: str) -> list[pd.DataFrame]:
        kinds = ("recon", "kl", "neg_elbo", "objective", "mse", "embedding")
        return self._frames([f"{s}_{kind}" for s in ("train", "test") for kind in kinds], 1.0)

    def likelihood(self, name: str) -> list[pd.DataFrame]:
        return [
            frame.assign(split=split, estimator=estimator)
            for frame in self._frames(["nats"], -1.0)
            for split in ("train",)
            for estimator in ("notebook",)
        ]

    def metrics(self, name: str) -> list[Metrics]:
        return [cast(Metrics, {}) for _ in self.seeds]

    def samples(self, names: object) -> list[int]:
        return [24_000_000]

    def synthetic(self, names: object) -> bool:
        return False


def row(frame: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_smoothed_values_lag_and_are_set_beside_the_report_s() -> None:
    frame = table_curves(Made(["vae", "mnist_d3"]))
    vae = row(frame, series="vae", quantity="recon", split="train", samples=10_000_000)
    assert vae["figure"] == "Figure 14"
    assert vae["unsmoothed"] == pytest.approx(110.0)
    # A trailing mean over 50 epochs lags by 24.5 of them, from the last whole epoch.
    lagged = 100 + (166 - 24.5) * 0.06
    assert vae["smoothed"] == pytest.approx(lagged)
    assert vae["diff_smoothed"] == pytest.approx(lagged - vae["report_value"])
    assert np.isnan(vae["smoothed_spread"])
    elbo = row(frame, series="mnist_d3", split="test", samples=10_000_000)
    assert elbo["unsmoothed"] == pytest.approx(-110.0)
    # Its window of 500 epochs is not full yet.
    assert elbo["smoothed"] == pytest.approx(-(100 + (166 + 1) / 2 * 0.06))


def test_points_beyond_the_budget_are_left_out() -> None:
    frame = table_curves(Made(["vae"]))
    known = numbers.curves(14)
    known = known[(known["series"] == "vae") & (known["quantity"] == "recon")]
    found = frame[frame["quantity"] == "recon"]
    assert set(found["samples"]) == {n for n in known["samples"] if n <= 24_000_000}
    assert len(found) < len(known)


def test_several_seeds_have_a_mean_and_a_spread() -> None:
    one = row(table_curves(Made(["beta2"])), quantity="kl", samples=1_000_000)
    three = row(table_curves(Made(["beta2"], (0, 1, 2))), quantity="kl", samples=1_000_000)
    assert three["smoothed"] == pytest.approx(one["smoothed"] + 1.0)
    assert three["smoothed_spread"] == pytest.approx(1.0)


def test_a_table_without_points_is_title_and_notes() -> None:
    text = markdown(table_curves(Made([])))
    assert text.startswith("## Our curves at the points read off the report's (Figures 1, 2, 3, 6")
    assert "|" not in text


def test_every_digitised_run_is_in_the_catalogue() -> None:
    assert set(numbers.curves()["series"]) <= set(CATALOGUE["table_curves"].runs)
