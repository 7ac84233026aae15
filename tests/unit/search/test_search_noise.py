"""Noise of the architecture search: the smooth fit, flips, distribution of answers, assumption."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from vaelab.original import numbers
from vaelab.search.algorithm import (
    Architecture,
    Measurement,
    Phase,
    SearchSettings,
    Verdict,
    follow,
)
from vaelab.search.noise import (
    answer_distribution,
    flip_probability,
    judged_alone,
    monotonicity_violations,
    search_summary,
)
from vaelab.search.smooth import (
    FAMILIES,
    REPORT,
    Fit,
    Noise,
    answer_line,
    pooled,
    published,
    standard_error,
)
from vaelab.search.spread import of_architecture, table

PRINTED = {
    a: Measurement((row.recon,), (row.kl,)) for a, row in numbers.architecture_rows().items()
}
SETTINGS = SearchSettings()
HALF = dict.fromkeys(FAMILIES, Noise(0.5, 0.2))


def one(recon: float, kl: float) -> Measurement:
    return Measurement((recon,), (kl,))


def normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def test_families_follow_depth_and_the_narrowest_hidden_layer():
    assert (
        of_architecture((500, 500, 3))
        == of_architecture((3,))
        == of_architecture((500, 33, 2))
        == "wide"
    )
    assert of_architecture((337, 6, 3)) == of_architecture((32, 3)) == "narrow"
    assert of_architecture((500, 5, 3)) == "starved"
    assert of_architecture((500, 100, 50, 10, 5)) == of_architecture((500, 500, 500, 3)) == "deep"


def test_the_noise_of_one_seed_is_that_of_the_package_s_table_on_the_split_of_the_thresholds():
    for split in ("train", "test"):
        for quantity in ("recon", "kl"):
            found = getattr(published(split)["narrow"], quantity)
            assert found == table()["narrow", f"{split} {quantity}"].sd


def test_noise_is_pooled_over_the_seeds_of_a_family():
    measured = {
        (500, 500, 3): Measurement((119.0, 121.0, 120.3), (9.0, 9.2, 9.4)),
        (400, 400, 3): Measurement((110.0, 112.0), (8.0, 8.0)),
        (400, 6, 3): Measurement((120.0, 140.0), (8.0, 9.0)),
        (400, 5, 3): one(130.0, 8.0),
    }
    found = pooled(measured, "test")
    assert found["wide"].recon == pytest.approx(math.sqrt((2 * 1.0148891**2 + 2.0) / 3))
    assert found["wide"].kl == pytest.approx(math.sqrt(2 * 0.2**2 / 3))
    # One degree of freedom is too few; one seed has none.
    assert found["narrow"] == published("test")["narrow"]
    assert found["starved"] == published("test")["starved"]
    error = standard_error((500, 500, 3), measured[500, 500, 3], "kl", found)
    assert error == pytest.approx(found["wide"].kl / math.sqrt(3))


def test_a_repeat_after_one_measurement_scatters_by_the_root_of_two():
    recon, kl = Fit({(400, 3): one(119.6, 8.0)}, HALF).predictive((400, 3))
    assert (recon.mean, recon.stdev) == pytest.approx((119.6, 0.5 * math.sqrt(2)), abs=1e-3)
    assert kl.stdev == pytest.approx(0.2 * math.sqrt(2), abs=1e-3)
    three = Measurement((119.0, 119.6, 120.2), (8.0, 8.0, 8.0))
    recon, _ = Fit({(400, 3): three}, HALF).predictive((400, 3), seeds=3)
    assert recon.stdev == pytest.approx(0.5 * math.sqrt(2 / 3), abs=1e-3)


def test_flip_probability_by_phase():
    measured = one(119.5, 10.1)
    predictive = Fit({(400, 400, 3): measured}, HALF).predictive((400, 400, 3))
    recon, kl = normal_cdf(1.0 / math.sqrt(2)), normal_cdf(-0.5 / math.sqrt(2))

    def flip(phase: Phase, verdict: Verdict = Verdict(True, False)) -> float:  # noqa: B008
        return flip_probability(predictive, verdict, SETTINGS, phase)

    assert flip(Phase.SHRINK) == pytest.approx(kl, abs=1e-3)
    assert flip(Phase.MINIMISE) == pytest.approx(recon * kl, abs=1e-3)
    assert flip(Phase.MINIMISE, Verdict(True, True)) == pytest.approx(1 - recon * kl, abs=1e-3)
    # An upper bound with too much kl leads elsewhere when recon fails or kl passes.
    assert flip(Phase.UPPER_BOUND) == pytest.approx(1 - recon * (1 - kl), abs=1e-3)
    assert flip(Phase.UPPER_BOUND, Verdict(False, True)) == pytest.approx(recon, abs=1e-3)


def test_a_network_off_the_path_is_judged_from_its_own_measurement():
    noise = published("train")["wide"]
    flip, recon, kl = judged_alone((500, 500, 3), one(120.4, 5), SETTINGS)
    assert flip == pytest.approx(normal_cdf(-0.4 / (noise.recon * math.sqrt(2))), abs=1e-3)
    assert (recon, kl) == noise


def curve(width: int) -> float:
    return 120.0 - 4.0 * math.log2(width / 345)


def test_the_fit_finds_the_smooth_curve_and_not_the_lucky_measurement():
    rng = np.random.default_rng(0)
    widths = [253, 315, 330, 334, 336, 338, 346, 377, 500]
    measured = {(w, 6, 3): one(curve(w) + 0.5 * rng.standard_normal(), 8.7) for w in widths}
    measured[337, 6, 3] = one(curve(337) - 1.2, 8.7)  # lucky: good, though its mean is not
    fit = Fit(measured, dict.fromkeys(FAMILIES, Noise(0.5, 0.1)))
    recon, _ = fit.predictive((337, 6, 3))
    assert recon.mean == pytest.approx(curve(337), abs=0.35)
    assert 0.5 < recon.stdev < 0.65
    assert fit.predictive((337, 7, 3)) is None  # a layer that was never varied
    assert fit.predictive((337, 3)) is None


def test_a_stuck_training_does_not_bend_the_fit():
    measured = {(500, w, 3): one(curve(w), 9.0) for w in (250, 270, 300, 330, 400, 500)}
    measured[500, 285, 3] = one(curve(285) + 20.0, 9.0)
    recon, _ = Fit(measured, HALF).predictive((500, 285, 3))
    assert recon.mean == pytest.approx(curve(285), abs=0.3)


def test_scatter_beyond_the_noise_widens_the_fit():
    rng = np.random.default_rng(0)
    widths = range(260, 500, 8)
    measured = {(w, 3): one(curve(w) + 2.0 * rng.standard_normal(), 9.0) for w in widths}
    recon, _ = Fit(measured, HALF).predictive((380, 3))
    assert 1.2 < recon.stdev < 2.6


def test_answers_of_an_even_coin():
    settings = SearchSettings(n_min=1, latent_max=2)
    measured = {(2,): one(100, 5), (1,): one(120, 5)}
    result = answer_distribution(settings, Fit(measured, HALF), repeats=2000, seed=1)
    shares = {a["architecture"]: a["probability"] for a in result["answers"]}
    assert set(shares) == {(1,), (2,)}
    assert shares[1,] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))
    assert result["undetermined"] == 0.0
    assert result["intervals"] == [[1, 2]]


def test_leaving_the_measured_depths_is_undetermined_and_not_found_an_answer():
    settings = SearchSettings(n_min=1, latent_max=1)
    result = answer_distribution(settings, Fit({(1,): one(120, 5)}, HALF), repeats=2000, seed=1)
    assert result["undetermined"] == pytest.approx(0.5, abs=0.05)
    settings = SearchSettings(n_min=1, n_max=2, width_max=2, latent_max=1)
    measured = {(1,): one(130, 5), (2, 1): one(120, 5), (1, 1): one(125, 5)}
    result = answer_distribution(settings, Fit(measured, HALF), repeats=2000, seed=1)
    shares = {a["architecture"]: a["probability"] for a in result["answers"]}
    assert shares[None] == pytest.approx(0.5, abs=0.05)


def test_a_redrawn_search_repeats_with_its_seed_and_without_noise_finds_the_truth():
    measured = {(w, 400, 3): one(curve(w), 9.0) for w in (200, 300, 345, 400, 500)}
    measured |= {(500, w, 3): one(curve(500) + (400 - w) / 50, 9.0) for w in (3, 200, 300, 500)}
    measured |= {(500, 500, w): one(curve(500) + 20 * (3 - w), 9.0) for w in (1, 2)}
    measured |= {(500, 3): one(130.0, 7.0)}
    fit = Fit(measured, dict.fromkeys(FAMILIES, Noise(1e-3, 1e-3)))
    first, second = (answer_distribution(SETTINGS, fit, repeats=20, seed=3) for _ in range(2))
    assert first == second
    _, end = follow(SETTINGS, fit.redrawn(np.random.default_rng(0), SETTINGS, 1))
    (low, high) = first["intervals"][1]
    assert low <= end.architecture[1] <= high
    assert first["undetermined"] == 0.0


def test_the_line_meets_the_threshold_where_the_trainings_do():
    rng = np.random.default_rng(2)
    measured = {}
    for width in (253, 315, 330, 346, 377, 500):
        values = curve(width) + 0.6 * rng.standard_normal(3)
        measured[width, 6, 3] = Measurement(tuple(values), (8.0, 8.0, 8.0))
    measured |= {(500, 7, 3): one(117.0, 8.0), (100, 6, 3): one(150.0, 8.0)}  # not on the line
    line = answer_line((337, 6, 3), measured, 120.0)
    assert line["networks"] == [None, 6, 3]
    assert line["layer"] == 1
    assert line["df"] == 16
    assert line["sd"] == pytest.approx(0.6, abs=0.2)
    assert line["low"] < 345 < line["high"]
    assert line["high"] - line["low"] < 60
    assert line["crossing"] == pytest.approx(345, abs=15)
    width, mean, low, high = line["band"][0]
    assert width == 253
    assert mean == pytest.approx(curve(253), abs=0.5)
    # For a further training at the 90 % level, with 16 degrees of freedom.
    assert 1.746 * line["sd"] < high - mean < 2.2 * line["sd"]
    assert high - mean == pytest.approx(mean - low)


def test_no_line_through_two_widths_and_an_open_end_where_the_band_does_not_close():
    two = {(w, 6, 3): one(curve(w), 8.0) for w in (300, 400)}
    assert answer_line((300, 6, 3), two, 120.0) is None
    flat = {(w, 6, 3): one(120.0 + d, 8.0) for w, d in ((300, -0.5), (330, 0.6), (400, -0.5))}
    line = answer_line((330, 6, 3), flat, 120.0)
    assert (line["low"], line["high"]) == (None, None)


def test_violations_in_the_report_s_tables():
    found = monotonicity_violations(PRINTED)
    assert (found.architectures, found.pairs) == (27, 159)

    def pairs(violations) -> dict[tuple[Architecture, Architecture], float]:
        return {(v.smaller, v.larger): round(v.by, 9) for v in violations}

    assert pairs(found.recon) == {
        ((500, 251, 3), (500, 282, 3)): 14.2,
        ((330, 284, 3), (337, 284, 3)): 0.6,
        ((500, 289, 3), (500, 297, 3)): 0.1,
        ((310, 284, 3), (323, 284, 3)): 0.1,
    }
    assert pairs(found.kl) == {
        ((500, 251, 3), (500, 282, 3)): 1.4,
        ((500, 289, 3), (500, 297, 3)): 0.1,
        ((500, 289, 3), (500, 313, 3)): 0.1,
        ((392, 284, 3), (500, 284, 3)): 0.1,
    }
    assert {(v.smaller[0], v.larger[0]) for v in found.recon_ties} == {
        (324, 326),
        (324, 337),
        (326, 337),
    }
    assert len(found.kl_ties) == 17
    assert [v.by for v in found.recon] == sorted((v.by for v in found.recon), reverse=True)


def test_only_models_of_one_depth_ordered_in_every_layer_are_compared():
    measured = {(4, 1): one(100, 5), (3, 2): one(90, 9), (3,): one(80, 9), (5, 2): one(95, 9)}
    found = monotonicity_violations(measured)
    assert found.pairs == 2  # [4, 1] and [3, 2] against [5, 2]
    assert [(v.smaller, v.larger, v.by) for v in found.recon] == [((3, 2), (5, 2), 5.0)]
    assert found.kl == ()
    assert [v.smaller for v in found.kl_ties] == [(3, 2)]


def test_summary_of_the_report_s_search():
    shared = [row.architecture for row in numbers.TABLE_3]
    summary = json.loads(
        json.dumps(search_summary(SETTINGS, PRINTED, shared, spreads=REPORT, repeats=50))
    )
    assert summary["answer"]["architecture"] == [324, 284, 3]
    assert summary["answer"]["run"] == "arch_324_284_3"
    assert summary["needed"] == len(summary["probes"]) == 19
    assert summary["wasted"] == []
    everything = search_summary(SETTINGS, PRINTED, spreads=REPORT, repeats=1)
    assert "arch_500_500_5" in everything["wasted"]
    probes = {p["run"]: p for p in summary["probes"]}
    # Its last steps are coin flips; 282, stuck 23 nats above its neighbours, would pass.
    assert 0.35 < probes["arch_323_284_3"]["flip_probability"] < 0.6
    assert probes["arch_500_282_3"]["flip_probability"] > 0.8
    assert probes["arch_500_500_3"]["flip_probability"] < 0.05
    assert probes["arch_500_500_3"]["seeds"] == 1
    assert summary["line"]["networks"] == [None, 284, 3]
    assert summary["line"]["low"] < 324 < summary["line"]["high"]
    assert summary["monotonicity"]["kl_ties"] == 17
    assert summary["settings"]["recon"] == 120.0


def test_further_seeds_enter_the_fit_and_not_the_decisions():
    measured = {(500, 3): one(119.0, 7.2)}
    recorded = {(500, 3): Measurement((119.0, 125.0, 125.0), (7.2, 7.2, 7.2))}
    summary = search_summary(SETTINGS, measured, recorded=recorded, repeats=10)
    (probe,) = summary["probes"]
    assert (probe["recon"], probe["good"], probe["seeds"]) == (119.0, True, 1)
    assert probe["recon_fit"] == pytest.approx(123.0, abs=0.1)
    assert summary["noise"]["wide"]["recon"] == pytest.approx(math.sqrt(12))


def test_summary_of_an_unfinished_search():
    summary = search_summary(SETTINGS, {(500, 3): one(130.7, 7.2)}, repeats=10)
    assert summary["answer"] == {"finished": False}
    assert [p["run"] for p in summary["probes"]] == ["arch_500_3"]
    assert summary["distribution"]["undetermined"] == 1.0
    assert summary["line"] is None
