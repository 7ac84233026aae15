"""The report's numbers: complete, and as consistent as the report itself is."""

from __future__ import annotations

import csv

import pytest

from vaelab.original import numbers as report
from workflow_project import ROOT

RUN_TABLE = ROOT / "config" / "runs.tsv"


def value(frame, **where) -> float:
    """The single value of the row that matches all of `where`."""
    for column, wanted in where.items():
        frame = frame[frame[column] == wanted]
    assert len(frame) == 1, f"{len(frame)} rows match {where}"
    return float(frame["value"].iloc[0])


@pytest.fixture
def benchmark() -> dict[str, report.BenchmarkRow]:
    return {row.model: row for row in report.TABLE_1}


def test_table_1(benchmark):
    assert list(benchmark) == ["VAE", "BVAE", "CVAE"]
    assert [row.minutes for row in report.TABLE_1] == [150, 148, 153]
    for model in ("VAE", "CVAE"):
        assert benchmark[model].neg_elbo == pytest.approx(benchmark[model].elbo_loss)
        low, high = benchmark[model].implied_beta_range
        assert low < 1.0 < high
        assert high - low < 0.05


def test_bvae_row_is_beta_2_though_the_text_says_5(benchmark):
    bvae = benchmark["BVAE"]
    assert bvae.stated_beta == 5.0
    assert bvae.implied_beta == pytest.approx(2.0, abs=1e-9)
    low, high = bvae.implied_beta_range
    assert (low, high) == pytest.approx((15.5 / 7.85, 15.7 / 7.75))
    assert bvae.objective(bvae.stated_beta) == pytest.approx(155.1)
    assert bvae.neg_elbo == pytest.approx(123.9)
    assert bvae.neg_elbo < benchmark["VAE"].neg_elbo
    assert (bvae.run, bvae.stated_run) == ("bvae_beta2", "bvae_beta5")


@pytest.mark.parametrize("split", ["train", "test"])
def test_first_epoch_of_the_bvae_curves_says_beta_2_as_well(split):
    first = report.features(14).query("feature == 'first epoch' and split == @split")
    at = {q: value(first, quantity=q) for q in ("objective", "recon", "kl")}
    assert (at["objective"] - at["recon"]) / at["kl"] == pytest.approx(1.99, abs=0.005)


def test_table_2_is_the_search_from_the_largest_model_to_the_answer():
    assert len(report.TABLE_2) == 17
    assert report.TABLE_2[0].architecture == report.BENCHMARK_ARCHITECTURE
    assert report.TABLE_2[-1].architecture == report.MINIMAL_ARCHITECTURE
    bad = [i for i, row in enumerate(report.TABLE_2, 1) if row.recon > report.GOOD_RECON]
    assert bad == [2, 5, 9, 13, 14]
    assert all(row.kl <= report.GOOD_KL and row.elbo_loss is None for row in report.TABLE_2)


def test_table_3_losses_add_up():
    assert len(report.TABLE_3) == 11
    for row in report.TABLE_3:
        assert row.neg_elbo == pytest.approx(row.elbo_loss, abs=1e-9), row.architecture


def test_tables_2_and_3_share_one_row():
    shared = {r.architecture for r in report.TABLE_2} & {r.architecture for r in report.TABLE_3}
    assert shared == {(500, 500, 3)}
    assert len(report.architecture_rows()) == 27
    rows = [r for r in (*report.TABLE_2, *report.TABLE_3) if r.architecture == (500, 500, 3)]
    assert {(r.recon, r.kl) for r in rows} == {(115.5, 9.1)}


def test_benchmark_curves_end_at_table_1(benchmark):
    ends = report.curves(14).query("samples == 1.2e8")
    for row in benchmark.values():
        curve = ends[ends["series"] == row.run]
        assert value(curve, quantity="recon", split="train") == pytest.approx(row.recon, abs=0.5)
        assert value(curve, quantity="kl") == pytest.approx(row.kl, abs=0.5)
        objective = value(curve, quantity="objective", split="train")
        assert objective == pytest.approx(row.elbo_loss, abs=0.5)
        test_recon = value(curve, quantity="recon", split="test")
        assert test_recon == pytest.approx(row.test_recon, abs=0.5)
        # What the text calls no obvious overfitting.
        assert row.test_recon > row.recon + 6


def test_curves_hold_every_point_read():
    frame = report.curves()
    assert frame.groupby("figure").size().to_dict() == {1: 28, 2: 16, 3: 28, 6: 32, 14: 79}
    assert not frame.duplicated(["figure", "quantity", "series", "split", "samples"]).any()
    assert (frame["error"] > 0).all()
    assert frame[["samples", "value"]].notna().all().all()
    assert set(frame["split"]) == {"train", "test", "both"}
    assert set(frame["bound"]) == {"", "upper"}


def test_series_are_runs_of_the_run_table():
    with RUN_TABLE.open(encoding="utf-8", newline="") as stream:
        runs = {row["run"] for row in csv.DictReader(stream, delimiter="\t")}
    assert set(report.curves()["series"]) <= runs
    assert set(report.features()["series"]) <= runs
    assert {r for row in report.TABLE_1 for r in (row.run, row.stated_run)} <= runs


def test_errors_are_absolute_or_relative_by_figure():
    one, six = report.curves(1), report.curves(6)
    assert set(one["error"]) == {0.3}
    kl = six[six["quantity"] == "kl"]
    assert (kl["error"] / kl["value"]).tolist() == pytest.approx([0.03] * 16)
    three = report.curves(3)
    assert set(three[three["series"] == "ml_n1000"]["error"]) == {0.4}
    assert set(three[three["series"] == "ml_n50000"]["error"]) == {0.2}


def test_gaps_that_the_figures_show():
    one, two, three = report.curves(1), report.curves(2), report.curves(3)

    def gap(frame, series: str, samples: float) -> float:
        train, test = (
            value(frame, series=series, split=s, samples=samples) for s in ("train", "test")
        )
        return train - test

    gaps = [gap(one, f"mnist_d{d}", 9.5e7) for d in (3, 5, 10)]
    assert gaps == pytest.approx([6.6, 2.8, 1.7])
    gaps = [gap(two, f"frey_d{d}", 1.5e6) for d in (2, 5, 10, 20)]
    assert gaps == pytest.approx([59, 59, 103, 132])
    assert gap(three, "ml_n1000", 5.9e7) == pytest.approx(31.0)
    assert gap(three, "ml_n50000", 5.9e7) == pytest.approx(4.3)


def test_collapsed_beta_50_is_a_bound():
    six = report.curves(6)
    bounds = six[six["bound"] == "upper"]
    assert bounds[["series", "quantity", "samples", "value"]].values.tolist() == [
        ["beta50", "kl", 1.2e8, 1e-5]
    ]


def test_vqvae_losses_are_per_pixel():
    curve = report.curves(14).query("series == 'vqvae' and samples == 1.2e8")
    assert value(curve, quantity="mse", split="train") == pytest.approx(5.36e-3)
    assert value(curve, quantity="mse", split="test") == pytest.approx(6.04e-3)
    total = value(curve, quantity="objective", split="train")
    parts = value(curve, quantity="mse", split="train") + value(curve, quantity="embedding")
    assert total == pytest.approx(parts, abs=1e-4)


def test_features_keep_unread_numbers_empty():
    features = report.features()
    ranges = features[features["feature"] == "axis range"]
    assert ranges["value"].isna().all()
    assert (ranges["low"] < ranges["high"]).all()
    plateau = report.features(2)
    assert len(plateau) == 4
    assert set(plateau["value"]) == {540.0}
    assert value(report.features(3), series="ml_n1000") == -157.1


def test_frames_are_fresh_copies():
    frame = report.curves()
    frame["value"] = 0.0
    assert (report.curves()["value"] != 0.0).all()
