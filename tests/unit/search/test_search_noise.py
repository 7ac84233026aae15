"""Noise of the architecture search: flips, distribution of answers, violated assumption."""

from __future__ import annotations

import json
import math

import pytest

from vaelab.original import numbers
from vaelab.search.algorithm import Architecture, Measurement, Phase, SearchSettings
from vaelab.search.noise import (
    MonotoneSurface,
    Noise,
    answer_distribution,
    flip_probability,
    monotonicity_violations,
    search_summary,
    standard_error,
)

PRINTED = {
    a: Measurement((row.recon,), (row.kl,)) for a, row in numbers.architecture_rows().items()
}
SETTINGS = SearchSettings()


def one(recon: float, kl: float) -> Measurement:
    return Measurement((recon,), (kl,))


def normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def test_standard_error_of_seeds_and_of_one_seed():
    three = Measurement((119.0, 121.0, 120.3), (9.0, 9.2, 9.4))
    assert standard_error(three, "recon", Noise()) == pytest.approx(1.0148891 / math.sqrt(3))
    assert standard_error(three, "kl", Noise()) == pytest.approx(0.2 / math.sqrt(3))
    assert standard_error(one(119, 9), "recon", Noise(0.5, 0.2)) == 0.5
    assert standard_error(one(119, 9), "kl", Noise(0.5, 0.2)) == 0.2
    assert pytest.approx(numbers.TABLE_RECON_SE) == Noise().recon


def test_flip_probability_of_a_good_model_counts_both_thresholds():
    noise = Noise(recon=0.33, kl=0.1)
    expected = 1 - normal_cdf(0.1 / 0.33) * normal_cdf(0.05 / 0.1)
    assert flip_probability(one(119.9, 9.95), SETTINGS, noise) == pytest.approx(expected)


def test_flip_probability_of_a_bad_model():
    # The last bad probe of the report's search, 0.5 nats above the threshold.
    expected = normal_cdf(-0.5 / 0.33) * normal_cdf(1.3 / 0.1)
    assert flip_probability(one(120.5, 8.7), SETTINGS) == pytest.approx(expected)
    assert flip_probability(one(120.5, 8.7), SETTINGS) == pytest.approx(0.065, abs=5e-4)


def test_flip_probability_uses_the_spread_of_seeds():
    values = (119.0, 121.0, 120.3)
    expected = normal_cdf((120 - 120.1) / (1.0148891 / math.sqrt(3)))
    seeds = Measurement(values, (5.0, 5.0, 5.0))
    assert flip_probability(seeds, SETTINGS) == pytest.approx(expected)


def test_flip_probability_by_phase():
    noise = Noise(recon=0.5, kl=0.2)
    recon, kl = normal_cdf(1.0), normal_cdf(-0.5)
    probe = one(119.5, 10.1)
    assert flip_probability(probe, SETTINGS, noise, Phase.SHRINK) == pytest.approx(kl)
    assert flip_probability(probe, SETTINGS, noise, Phase.MINIMISE) == pytest.approx(recon * kl)
    # An upper bound with too much kl leads elsewhere when recon fails or kl passes.
    upper = flip_probability(probe, SETTINGS, noise, Phase.UPPER_BOUND)
    assert upper == pytest.approx(1 - recon * (1 - kl))
    ruled_out = flip_probability(one(120.5, 10.1), SETTINGS, noise, Phase.UPPER_BOUND)
    assert ruled_out == pytest.approx(normal_cdf(-1.0))


def test_without_noise_nothing_flips():
    still = Noise(0.0, 0.0)
    assert flip_probability(one(120.0, 10.0), SETTINGS, still) == 0.0
    assert flip_probability(one(120.1, 10.0), SETTINGS, still) == 0.0
    assert flip_probability(Measurement((120.0, 120.0), (9.0, 9.0)), SETTINGS) == 0.0


def test_surface_interpolates_a_staircase_exactly():
    measured = {(10, 10): 100.0, (10, 4): 103.0, (10, 2): 110.0, (6, 4): 104.0, (4, 4): 108.0}
    surface = MonotoneSurface(measured, increasing=False)
    for architecture, value in measured.items():
        assert surface(architecture) == pytest.approx(value, abs=1e-6)
    assert surface((10, 3)) == pytest.approx(106.5, abs=1e-6)
    assert surface((8, 4)) == pytest.approx(103.5, abs=1e-6)
    # Off the measured lines the layers' effects add.
    assert surface((6, 10)) == pytest.approx(101.0, abs=1e-6)
    # Outside, the mean slope of the measured range: 5 nats over 6 units.
    assert surface((1, 4)) == pytest.approx(108.0 + 3 * 5 / 6, abs=1e-6)


def test_surface_pools_what_is_not_monotone():
    values = {(1,): 9.0, (2,): 5.0, (3,): 6.0, (4,): 1.0}
    surface = MonotoneSurface(values, increasing=False)
    assert [surface((w,)) for w in (1, 2, 3, 4)] == pytest.approx([9.0, 5.5, 5.5, 1.0])
    assert MonotoneSurface(values, increasing=True)((2,)) == pytest.approx(5.25)


def test_surface_does_not_invent_layers_that_were_never_varied():
    surface = MonotoneSurface({(10, 3): 100.0, (10, 2): 110.0}, increasing=False)
    assert surface((10, 1)) == pytest.approx(120.0)
    assert surface((9, 3)) is None


def test_answers_of_an_even_coin():
    settings = SearchSettings(n_min=1, latent_max=2)
    measured = {(2,): one(100, 5), (1,): one(120, 5)}
    result = answer_distribution(settings, measured, repeats=4000, seed=1)
    assert set(result.probabilities) == {(1,), (2,)}
    assert result.probabilities[(1,)] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))
    assert result.undetermined == 0.0
    assert result.interval(1, 1) == (1, 2)
    assert result.interval(2, 1) is None


def test_leaving_the_measured_depths_is_undetermined():
    settings = SearchSettings(n_min=1, latent_max=1)
    result = answer_distribution(settings, {(1,): one(120, 5)}, repeats=4000, seed=1)
    assert result.undetermined == pytest.approx(0.5, abs=0.04)
    assert result.probabilities == {(1,): pytest.approx(1 - result.undetermined)}


def test_unmeasured_architectures_follow_both_surfaces():
    # Between the measured ends kl passes up to 3 dimensions and recon only from 4 on.
    measured = {(1,): one(125, 5), (5,): one(100, 11)}
    still = Noise(0.0, 0.0)
    settings = SearchSettings(n_min=1, latent_max=5, recon=110, kl=9)
    assert answer_distribution(settings, measured, still, 3).probabilities == {None: 1.0}
    settings = SearchSettings(n_min=1, latent_max=5, recon=113, kl=9)
    assert answer_distribution(settings, measured, still, 3).probabilities == {(3,): 1.0}


def test_not_found_is_an_answer():
    settings = SearchSettings(n_min=1, n_max=2, width_max=2, latent_max=1)
    measured = {(1,): one(130, 5), (2, 1): one(120, 5), (1, 1): one(125, 5)}
    result = answer_distribution(settings, measured, repeats=4000, seed=1)
    assert result.probabilities[None] == pytest.approx(0.5, abs=0.04)


def test_report_s_answer_is_one_of_many_within_measurement_noise():
    result = answer_distribution(SETTINGS, PRINTED, Noise(recon=0.33), repeats=3000)
    assert result.undetermined == 0.0
    assert sum(result.probabilities.values()) == pytest.approx(1.0)
    assert 0.06 <= result.probabilities[(324, 284, 3)] <= 0.25
    low, high = result.interval(3, 1)
    assert abs(low - 310) <= 2
    assert abs(high - 339) <= 2
    assert result.interval(3, 2) == (284, 284)


def test_report_s_answer_within_seed_noise():
    result = answer_distribution(SETTINGS, PRINTED, Noise(recon=1.0), repeats=2000)
    low, high = result.interval(3, 1)
    assert abs(low - 296) <= 3
    assert abs(high - 393) <= 3


def test_distribution_repeats_with_its_seed_and_is_certain_without_noise():
    assert answer_distribution(SETTINGS, PRINTED, repeats=50, seed=3) == answer_distribution(
        SETTINGS, PRINTED, repeats=50, seed=3
    )
    certain = answer_distribution(SETTINGS, PRINTED, Noise(0.0, 0.0), repeats=5)
    assert certain.probabilities == {(324, 284, 3): 1.0}


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
    assert found.recon[0].standard_errors == pytest.approx(14.2 / math.hypot(0.33, 0.33))


def test_only_models_of_one_depth_ordered_in_every_layer_are_compared():
    measured = {(4, 1): one(100, 5), (3, 2): one(90, 9), (3,): one(80, 9), (5, 2): one(95, 9)}
    found = monotonicity_violations(measured, Noise(0.0, 0.0))
    assert found.pairs == 2  # [4, 1] and [3, 2] against [5, 2]
    assert [(v.smaller, v.larger, v.by) for v in found.recon] == [((3, 2), (5, 2), 5.0)]
    assert found.recon[0].standard_errors is None
    assert found.kl == ()
    assert [v.smaller for v in found.kl_ties] == [(3, 2)]


def test_summary_of_the_report_s_search():
    shared = [row.architecture for row in numbers.TABLE_3]
    summary = json.loads(json.dumps(search_summary(SETTINGS, PRINTED, shared, repeats=50)))
    assert summary["answer"]["architecture"] == [324, 284, 3]
    assert summary["answer"]["run"] == "arch_324_284_3"
    assert summary["needed"] == len(summary["probes"]) == 19
    assert summary["wasted"] == []
    everything = search_summary(SETTINGS, PRINTED, repeats=1)
    assert "arch_500_500_5" in everything["wasted"]
    probes = {p["run"]: p for p in summary["probes"]}
    assert probes["arch_323_284_3"]["flip_probability"] == pytest.approx(0.065, abs=5e-4)
    assert probes["arch_500_500_3"]["seeds"] == 1
    assert summary["monotonicity"]["kl_ties"] == 17
    assert summary["settings"]["recon"] == 120.0


def test_summary_of_an_unfinished_search():
    summary = search_summary(SETTINGS, {(500, 3): one(130.7, 7.2)}, repeats=10)
    assert summary["answer"] == {"finished": False}
    assert [p["run"] for p in summary["probes"]] == ["arch_500_3"]
    assert summary["distribution"]["undetermined"] == 1.0
