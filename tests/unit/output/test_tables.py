"""Tables: arithmetic, rows, and what their Markdown twins show."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from result_folders import alias, losses, write_run, write_runs
from vaelab.original import numbers
from vaelab.output.catalogue import CATALOGUE
from vaelab.output.tables import (
    markdown,
    table_1,
    table_2,
    table_3,
    table_likelihood,
    write_claims,
    write_table,
)
from vaelab.results.reader import Results, grouped
from vaelab.search.algorithm import run_name
from vaelab.search.smooth import published
from vaelab.settings.config import SearchSettings
from vaelab.util.errors import VaelabError
from vaelab.util.io import write_csv, write_json

VQ = {"mse": 0.0061, "embedding": 0.015, "objective": 0.0211, "perplexity": 9.0, "images": 10_000}


def row(frame: pd.DataFrame, run: str) -> pd.Series:
    found = frame[frame["run"] == run]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture
def benchmarks(tmp_path: Path) -> Results:
    """The runs of Table 1, one seed."""
    folder = tmp_path / "quick"
    nll = {"nll_images": 1000, "nll_z_samples": 100}
    for name, recon, kl, beta in (
        ("vae", 116.3, 9.5, 1),
        ("bvae_beta2", 117.0, 7.5, 2),
        ("bvae_beta5", 126.0, 5.0, 5),
        ("cvae_onehot", 106.0, 7.0, 1),
        ("cvae_scalar", 112.0, 8.0, 1),
    ):
        write_run(
            folder,
            name,
            train=losses(recon, kl, beta),
            test=losses(recon + 4, kl, beta, nll=recon + kl + 1, nll_se=0.9, **nll),
            spec={"beta": beta},
        )
    write_run(folder, "vqvae", train=VQ, test=VQ, samples=120_000)
    return Results(folder, alias(CATALOGUE["table_1"].runs))


def test_table_1_compares_training_losses_with_the_report(benchmarks: Results) -> None:
    vae = row(table_1(benchmarks), "vae")
    expected = {
        "train_recon": 116.3,
        "train_recon_spread": 0.3,
        "train_kl": 9.5,
        "train_neg_elbo": 125.8,
        "train_neg_elbo_spread": 0.4,
        "test_recon": 120.3,
        "test_neg_elbo": 129.8,
        "test_nll": 126.8,
        "test_nll_spread": 0.9,
        "report_recon": 115.1,
        "report_kl": 9.1,
        "report_neg_elbo": 124.2,
        "report_objective": 124.2,
        "diff_recon": 1.2,
        "diff_kl": 0.4,
        "diff_neg_elbo": 1.6,
        "diff_neg_elbo_percent": 160 / 124.2,
    }
    for column, value in expected.items():
        assert vae[column] == pytest.approx(value), column
    # One seed has a standard error over images where one was measured, else none.
    assert np.isnan(vae["train_kl_spread"])
    assert vae["spread"] == "se over images"


def test_table_1_keeps_objective_and_negative_elbo_apart(benchmarks: Results) -> None:
    bvae = row(table_1(benchmarks), "bvae_beta2")
    assert bvae["train_neg_elbo"] == 124.5
    assert bvae["train_objective"] == 132.0
    # The report prints 131.7 as "ELBO loss"; its recon and KL add to 123.9.
    assert bvae["report_objective"] == 131.7
    assert bvae["report_neg_elbo"] == pytest.approx(123.9)
    assert bvae["diff_objective"] == pytest.approx(0.3)
    assert bvae["diff_neg_elbo"] == pytest.approx(0.6)


def test_table_1_compares_no_model_that_the_report_has_no_numbers_for(benchmarks: Results) -> None:
    frame = table_1(benchmarks)
    assert list(frame["run"]) == [
        "vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "cvae_scalar", "vqvae",
    ]  # fmt: skip
    assert list(frame["in_report"]) == [True, True, False, True, False, False]
    report = [c for c in frame if c.startswith(("report_", "diff_"))]
    assert len(report) == 10
    assert row(frame, "vae")["report_minutes"] == 150
    for run in ("bvae_beta5", "cvae_scalar", "vqvae"):
        assert row(frame, run)[report].isna().all()
    beta_5 = row(frame, "bvae_beta5")
    assert beta_5["train_objective"] == 151
    assert beta_5["beta"] == 5
    # The VQ-VAE has squared errors alone.
    vq = row(frame, "vqvae")
    assert vq["test_mse"] == 0.0061
    assert (
        vq[[c for c in frame if c.startswith(("train_", "test_")) and "mse" not in c]].isna().all()
    )


def test_table_1_takes_the_likelihood_of_fitted_posteriors_where_it_is_known(
    benchmarks: Results,
) -> None:
    known = {"nll": 125.0, "nll_se": 0.8, "images": 500, "z_samples": 100}
    entry = known | {"encoder_excess": 1.06, "encoder_excess_se": 0.39}
    write_json(benchmarks.folder / "nll.json", {"vae-s0": entry, "vae-s9": entry})
    frame = table_1(Results(benchmarks.folder, benchmarks.alias))
    assert (row(frame, "vae")["test_nll"], row(frame, "vae")["test_nll_spread"]) == (125.0, 0.8)
    assert (
        row(frame, "bvae_beta2")["test_nll"] == row(table_1(benchmarks), "bvae_beta2")["test_nll"]
    )
    text = markdown(frame)
    assert "From the encoder it would be higher: VAE by 1.06 ± 0.39 nats." in text
    assert "so biased upwards: BVAE, β = 2; " in text


def test_several_seeds_give_mean_and_sample_standard_deviation(tmp_path: Path) -> None:
    folder = tmp_path / "modern"
    for name in CATALOGUE["table_1"].runs:
        for seed, recon in enumerate((110.0, 112.0, 120.0)):
            both = VQ if name == "vqvae" else losses(recon, 9.0 + seed, nll=recon, nll_se=0.9)
            more = {} if name == "vqvae" else {"nll_images": 100, "nll_z_samples": 50}
            write_run(folder, name, seed, train=both, test={**both, **more})
    frame = table_1(Results(folder, alias(CATALOGUE["table_1"].runs, (0, 1, 2))))
    vae = row(frame, "vae")
    assert vae["seeds"] == 3
    assert vae["spread"] == "sd over seeds"
    assert vae["train_recon"] == 114
    assert vae["train_recon_spread"] == pytest.approx(np.sqrt(28))
    assert vae["train_kl_spread"] == pytest.approx(1)
    assert vae["test_nll_spread"] == pytest.approx(np.sqrt(28))
    assert vae["diff_recon"] == pytest.approx(114 - 115.1)
    text = markdown(frame)
    assert "| 114.0 ± 5.3 | 114.0 ± 5.3 | 115.1 | −1.1 | 10.0 ± 1.0 |" in text
    assert "± is the standard deviation over 3 seeds" in text


def searched(folder: Path, probes: list[tuple[list[int], float]], **settings: object) -> None:
    """Write the log of a search that made the given probes, each with its flip probability."""
    log = {
        "settings": SearchSettings(**settings).model_dump(mode="json"),
        "answer": {"finished": True, "architecture": probes[-1][0]},
        "probes": [
            {"architecture": a, "recon_se": 0.2, "kl_se": 0.02, "flip_probability": flip}
            for a, flip in probes
        ],
    }
    write_json(folder / "search/decisions.json", log)


def test_table_2_has_the_reports_17_rows_in_its_order(tmp_path: Path) -> None:
    frame = table_2(write_runs(tmp_path / "quick", CATALOGUE["table_2"].runs))
    assert list(frame["step"]) == list(range(1, 18))
    assert list(frame["architecture"][:3]) == ["[500, 500, 3]", "[500, 251, 3]", "[500, 376, 3]"]
    assert frame["architecture"][16] == "[324, 284, 3]"
    assert set(frame["path"]) == {"report"}
    assert frame["our_step"].isna().all()
    rows = numbers.TABLE_2
    np.testing.assert_allclose(frame["report_recon"], [r.recon for r in rows])
    np.testing.assert_allclose(frame["diff_kl"], [9.0 - r.kl for r in rows])
    assert list(frame["report_good"]) == [n not in (2, 5, 9, 13, 14) for n in range(1, 18)]


def test_table_2_marks_whose_path_a_probe_is_on(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, CATALOGUE["table_2"].runs)
    write_run(folder, "arch_500_3", train=losses(130.0, 7.0))
    write_run(folder, "arch_430_270_3", train=losses(119.0, 9.0))
    probes = [([500, 3], 0.01), ([500, 500, 3], 0.02), ([430, 270, 3], 0.375)]
    searched(folder, probes)
    frame = table_2(results)
    assert len(frame) == 19
    assert list(frame["run"][17:]) == ["arch_500_3", "arch_430_270_3"]
    both, own, new = (row(frame, run) for run in ("arch_500_500_3", "arch_500_3", "arch_430_270_3"))
    assert (both["path"], both["step"], both["our_step"]) == ("both", 1, 2)
    assert (own["path"], own["our_step"]) == ("ours", 1)
    assert pd.isna(own["step"])
    # The report trained [500, 3] for its Table 3; nobody but us trained the other.
    assert own["report_recon"] == 130.7
    assert own["diff_recon"] == pytest.approx(-0.7)
    assert np.isnan(new["report_recon"])
    assert new["report_good"] is None
    assert new["flip_probability"] == 0.375
    assert list(frame["path"]).count("report") == 16


def test_table_2_judges_by_the_searchs_settings(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, CATALOGUE["table_2"].runs)
    write_run(folder, "arch_500_500_3", train=losses(119.0, 9.0), test=losses(121.0, 9.0))
    stricter = ({"recon": 118.0}, {"kl": 8.0}, {"metric": "test"})
    for settings in ({}, *stricter):
        searched(folder, [([500, 500, 3], 0.0)], **settings)
        frame = table_2(Results(folder, results.alias))
        assert row(frame, "arch_500_500_3")["good"] == (settings == {}), settings


def test_table_2_gives_the_noise_of_each_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    write_runs(folder, CATALOGUE["table_2"].runs, seeds=(0, 1))
    for seed, recon in enumerate((119.0, 121.0)):
        write_run(folder, "arch_500_251_3", seed, train=losses(recon, 5.0))
    frame = table_2(Results(folder, alias(CATALOGUE["table_2"].runs, (0, 1))))
    on_the_edge = row(frame, "arch_500_251_3")
    noise = published("train")["wide"]
    assert on_the_edge["recon_se"] == pytest.approx(noise.recon / np.sqrt(2))
    assert on_the_edge["kl_se"] == pytest.approx(noise.kl / np.sqrt(2))
    assert on_the_edge["flip_probability"] == pytest.approx(0.5, abs=1e-3)
    assert row(frame, "arch_500_376_3")["flip_probability"] == 0.0


def test_table_3_has_the_reports_11_rows(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, CATALOGUE["table_3"].runs)
    write_run(folder, "arch_500_100_50_10_5", train=losses(113.0, 11.0), parameters=1_345_424)
    frame = table_3(results)
    assert list(frame["run"]) == list(CATALOGUE["table_3"].runs)
    assert len(frame) == 11
    deep = row(frame, "arch_500_100_50_10_5")
    assert deep["report_neg_elbo"] == pytest.approx(154.8)
    assert deep["diff_neg_elbo"] == pytest.approx(124 - 154.8)
    assert deep["diff_neg_elbo_percent"] == pytest.approx(-19.897, abs=1e-3)
    assert deep["parameters"] == 1_345_424


def test_csv_holds_every_column_and_markdown_the_readable_ones(
    benchmarks: Results, tmp_path: Path
) -> None:
    frame = table_1(benchmarks)
    write_table(frame, tmp_path / "t.csv", tmp_path / "t.md")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as stream:
        records = list(csv.DictReader(stream))
    assert list(records[0]) == list(frame)
    assert records[0]["train_recon"] == "116.3"
    assert records[5]["train_recon"] == ""
    assert records[2]["in_report"] == "False"
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert text.startswith(
        "## Table 1. Loss after convergence\n\n| model | samples | % of the report's samples | "
    )
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 8
    # Cells hold no bar that would start another one.
    assert {line.replace(r"\|", "").count("|") for line in table} == {table[0].count("|")}
    assert r"bounds log p(x\|c)" in text
    assert (
        f"| VAE | {grouped(300_000)} | 0.2 | 1 | 116.3 ± 0.3 | 120.3 ± 0.3 | 115.1 | +1.2 |" in text
    )
    assert "| 6.1 |" in table[7]
    assert "100 samples takes off it on 1000 of them" in text
    assert "Preset quick · 1 seed · 120\N{NO-BREAK SPACE}000 to 300\N{NO-BREAK SPACE}000" in text
    assert "± is the standard error over images, where these are a sample" in text
    assert "in_report" not in text


def test_markdown_signs_differences_and_groups_counts(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_runs(folder, CATALOGUE["table_3"].runs)
    write_run(folder, "arch_50_4", train=losses(135.42, 9.06), parameters=119_142)
    write_run(folder, "arch_500_4", train=losses(112.0, 10.2))
    text = markdown(table_3(results))
    # Differences that round to nothing have no sign; others have one, a true minus.
    lead = "| [50, 4] | 119\N{NO-BREAK SPACE}142 | 0.5 | 1 | 135.4 ± 0.3 | 115.0 ± 0.3 | 135.4 |"
    assert lead in text
    assert "| 124.2 | −2.0 | −1.6 |" in text


def test_replica_s_tolerance_is_for_the_report_s_recipe_alone(tmp_path: Path) -> None:
    folder = tmp_path / "faithful"
    results = write_runs(folder, CATALOGUE["table_3"].runs)
    own = {"optimizer": "adagrad", "init": "normal", "schedule": "constant"}
    report = {row.architecture: row for row in numbers.TABLE_3}
    for widths, recon, kl, spec in (
        ((500, 4), 1.9, -0.3, own),
        ((500, 3), 2.1, 0.0, own),
        ((500, 2), 0.0, 0.5, own),
        ((500, 500, 2), 0.0, 0.0, own | {"optimizer": "adam"}),
    ):
        theirs = report[widths]
        train = losses(theirs.recon + recon, theirs.kl + kl, images=60_000)
        write_run(folder, run_name(widths), train=train, spec=spec, samples=6_000_000)
    frame = table_3(results).set_index("architecture")
    within = frame["within_tolerance"]
    assert within[["[500, 4]", "[500, 3]", "[500, 2]"]].tolist() == [True, False, False]
    assert within[["[500, 500, 2]", "[50, 4]"]].isna().all()
    assert frame["budget_percent"]["[500, 4]"] == 10
    # All images trained on are no sample; the test images are one.
    assert np.isnan(frame["train_recon_spread"]["[500, 4]"])
    assert frame["test_recon_spread"]["[500, 4]"] == 0.3


def test_further_seeds_on_record_enter_table_3(tmp_path: Path) -> None:
    folder = tmp_path / "modern"
    results = write_runs(folder, CATALOGUE["table_3"].runs)
    for seed, recon in enumerate((121.0, 113.0, 126.0)):
        # Records of before a field lack it.
        younger = {"history_per_decade": None} if seed else {}
        write_run(folder, "arch_500_3", seed, train=losses(recon, 9.0), spec=younger)
    frame = table_3(results)
    several = row(frame, "arch_500_3")
    assert (several["seeds"], several["spread"]) == (3, "sd over seeds")
    assert several["train_recon"] == 120
    text = markdown(frame)
    assert "Preset modern · 1 to 3 seeds · " in text
    assert "over 3 seeds; of a run with one seed, the standard error over images" in text


def test_claims_for_reading_name_the_verdicts_of_published_presets(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["C1", "C2"], "verdict": ["holds", "fails"], "reason": ["a", "b"]})
    for preset, verdict in (("faithful", "undecided"), ("quick", "fails")):
        others = frame.assign(verdict=verdict).iloc[:1]
        write_csv(tmp_path / preset / "claims.csv", others)
    write_json(tmp_path / "faithful/publication.json", {})
    paths = [tmp_path / preset / "claims.csv" for preset in ("faithful", "quick")]
    write_claims(frame, tmp_path / "modern", paths)
    text = (tmp_path / "modern/claims.md").read_text(encoding="utf-8")
    assert "| C1 | holds | faithful: undecided | a |" in text
    assert "| C2 | fails | faithful: not judged | b |" in text
    assert "quick" not in text
    assert list(pd.read_csv(tmp_path / "modern/claims.csv")) == list(frame)


def test_markdown_leaves_out_columns_without_values(tmp_path: Path) -> None:
    results = write_runs(tmp_path / "quick", CATALOGUE["table_2"].runs)
    assert "our step" not in markdown(table_2(results))
    searched(tmp_path / "quick", [([500, 500, 3], 0.25)])
    text = markdown(table_2(Results(results.folder, results.alias)))
    assert "| 1 | 1 | both | [500, 500, 3] |" in text
    assert "| 2 |  | report | [500, 251, 3] |" in text
    assert "| yes | yes | 0.25 |" in text


def test_smoke_tables_say_so(tmp_path: Path) -> None:
    text = markdown(table_3(write_runs(tmp_path / "smoke", CATALOGUE["table_3"].runs)))
    assert "**Smoke preset: numbers are meaningless.**" in text


def test_likelihood_table_keeps_order_averages_seeds_and_sets_estimates_against_the_elbo(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "quick"
    for seed, shift in enumerate((0.0, 3.0)):
        run = write_run(folder, "ml_n1000", seed)
        rows = [
            {"split": split, "estimator": estimator, "nats": nats + shift, "se": 0.5, "images": 100,
             "z_samples": 5000, "diagnostic": "ESS 12 of 50", "over_elbo_se": 0.25}
            for split in ("train", "test")
            for estimator, nats in (("elbo", -150.0), ("importance", -141.0 + shift))
        ]  # fmt: skip
        write_csv(run / "likelihood_final.csv", pd.DataFrame(rows))
        curve = [
            {**row, "samples": samples, "z_samples": draws, "nats": row["nats"] - samples}
            for samples in (0, 10)
            for row, draws in zip(rows, (50, 500) * 2, strict=True)
        ]
        write_csv(run / "likelihood.csv", pd.DataFrame(curve))
    one = table_likelihood(Results(folder, alias(["ml_n1000"])))
    assert list(zip(one["split"], one["estimator"], strict=True)) == [
        ("train", "elbo"), ("train", "importance"), ("test", "elbo"), ("test", "importance"),
    ]  # fmt: skip
    assert list(one["nats"][:2]) == [-150, -141]
    assert list(one["nats_spread"]) == [0.5] * 4
    assert list(one["over_elbo"][:2]) == [0.0, 9.0]
    assert list(one["over_elbo_spread"]) == [0.25] * 4
    # Importance sampling has more draws than the curves' 50.
    np.testing.assert_array_equal(one["over_elbo_short"][:2], [0.0, np.nan])
    both = table_likelihood(Results(folder, alias(["ml_n1000"], (0, 1))))
    assert list(both["nats"][:2]) == [-148.5, -138]
    np.testing.assert_allclose(both["over_elbo_spread"][:2], [0.0, np.sqrt(4.5)])
    text = markdown(both)
    assert "| −138.0 ± 4.2 | 10.50 ± 2.12 |  | 100 | 5000 | ESS 12 of 50 |" in text
    assert "without paired" not in text


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    results = write_runs(tmp_path / "quick", CATALOGUE["table_3"].runs)
    gone = tmp_path / "quick/runs/arch_500_4-s0/metrics.json"
    gone.unlink()
    with pytest.raises(VaelabError, match="does not exist") as error:
        table_3(results)
    assert str(gone) in str(error.value)
