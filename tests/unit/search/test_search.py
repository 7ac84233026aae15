"""The architecture search: the report's path, and properties over random oracles."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaelab.original import numbers
from vaelab.search import algorithm
from vaelab.search.algorithm import Answer, Architecture, Measurement, Phase, SearchSettings
from vaelab.search.noise import search_summary
from vaelab.util.errors import VaelabError

Oracle = Callable[[Architecture], Measurement]

PRINTED = {
    a: Measurement((row.recon,), (row.kl,)) for a, row in numbers.architecture_rows().items()
}
# Section 5.2 with the unprinted probe [500, 500, 2] at its place: (probe, good).
MINIMISING_PATH = [
    ((500, 500, 2), False),
    ((500, 500, 3), True),
    ((500, 251, 3), False),
    ((500, 376, 3), True),
    ((500, 313, 3), True),
    ((500, 282, 3), False),
    ((500, 297, 3), True),
    ((500, 289, 3), True),
    ((500, 285, 3), True),
    ((500, 283, 3), False),
    ((500, 284, 3), True),
    ((392, 284, 3), True),
    ((337, 284, 3), True),
    ((310, 284, 3), False),
    ((323, 284, 3), False),
    ((330, 284, 3), True),
    ((326, 284, 3), True),
    ((324, 284, 3), True),
]


def one(recon: float, kl: float) -> Measurement:
    return Measurement((recon,), (kl,))


def run(settings: SearchSettings, oracle: Oracle) -> tuple[Answer, dict, int]:
    """Train whatever is asked for, round by round: answer, measurements, number of rounds."""
    measured: dict[Architecture, Measurement] = {}
    rounds = 0
    while (step := algorithm.next_step(settings, measured)).answer is None:
        assert step.probes, "neither an answer nor a probe"
        assert not set(step.probes) & set(measured), "an architecture was asked for twice"
        measured |= {probe: oracle(probe) for probe in step.probes}
        rounds += 1
    assert step.probes == ()
    return step.answer, measured, rounds


def needed(settings: SearchSettings, measured: dict) -> list[Architecture]:
    decisions = algorithm.decision_log(settings, measured)
    return [tuple(d["architecture"]) for d in decisions if not d["reused"]]


# ---------------------------------------------------------------- the report's own search


def test_replay_on_printed_numbers_takes_the_report_s_path():
    settings = SearchSettings()
    log = algorithm.decision_log(settings, PRINTED)
    assert [
        (d["architecture"], d["good"]) for d in log if d["phase"] is Phase.MINIMISE
    ] == MINIMISING_PATH
    assert algorithm.next_step(settings, PRINTED).answer.architecture == (324, 284, 3)
    assert algorithm.next_step(settings, PRINTED).probes == ()


def test_table_2_is_the_path_without_its_silent_probe():
    printed = [row.architecture for row in numbers.TABLE_2]
    assert printed == [a for a, _ in MINIMISING_PATH[1:]]
    assert (500, 500, 2) in {row.architecture for row in numbers.TABLE_3}


def test_depth_two_is_ruled_out_first_by_its_largest_model():
    log = algorithm.decision_log(SearchSettings(), PRINTED)
    assert [(d["architecture"], d["passed"]) for d in log[:2]] == [
        ((500, 3), False),
        ((500, 500, 3), 1),
    ]
    assert log[0]["reason"] == "recon 130.70 > 120: by monotonicity no model of depth 2 is good"


def test_intervals_of_the_log_are_inclusive_and_start_at_the_width_found_before():
    log = algorithm.decision_log(SearchSettings(), PRINTED)
    first = {d["layer"]: d for d in reversed(log) if d["phase"] is Phase.MINIMISE}
    assert first[3]["interval"] == (1, 3)
    assert first[2]["interval"] == (3, 500)
    assert first[2]["narrowed"] == (252, 500)
    assert first[1]["interval"] == (284, 500)
    assert first[1]["narrowed"] == (284, 391)
    assert log[-1]["interval"] == (324, 325)
    assert log[-1]["narrowed"] == (324, 323)


def test_needed_probes_count_every_training_once():
    settings = SearchSettings()
    probes = needed(settings, PRINTED)
    assert len(probes) == 19  # the 18 of the path and [500, 3]
    log = algorithm.decision_log(settings, PRINTED)
    assert [d["step"] for d in log if d["reused"]] == [4]  # [500, 500, 3] met again
    waste = search_summary(settings, PRINTED, shared=[(50, 4), (500, 4)], repeats=1)["wasted"]
    assert "arch_500_500_5" in waste
    assert "arch_50_4" not in waste
    assert not {*waste} & {*map(algorithm.run_name, probes)}


def test_decisions_survive_json():
    log = algorithm.decision_log(SearchSettings(), PRINTED)
    last = json.loads(json.dumps(log))[-1]
    assert last["run"] == "arch_324_284_3"
    assert last["phase"] == "minimise"
    assert last["architecture"] == [324, 284, 3]


def test_run_names():
    assert algorithm.run_name((500, 500, 3)) == "arch_500_500_3"
    assert algorithm.run_name((3,)) == "arch_3"


def test_linear_models_are_examined_when_asked_for():
    settings = SearchSettings(n_min=1)
    assert algorithm.next_step(settings, {}).probes == ((3,),)
    assert algorithm.next_step(settings, {(3,): one(150, 5)}).probes == ((500, 3),)
    good = {(3,): one(110, 5), (2,): one(121, 4)}
    assert algorithm.next_step(settings, good).answer.architecture == (3,)


@pytest.mark.parametrize(
    ("recon", "kl", "passed"), [(120.0, 10.0, True), (120.001, 9, False), (119, 10.001, False)]
)
def test_thresholds_are_inclusive(recon, kl, passed):
    assert algorithm.judge(one(recon, kl), SearchSettings()).good is passed


def test_verdicts_are_taken_on_the_mean_over_seeds():
    metrics = [
        {"train": {"recon": 118.0, "kl": 9.0}, "test": {"recon": 124.0, "kl": 9.1}},
        {"train": {"recon": 121.0, "kl": 10.0}, "test": {"recon": 128.0, "kl": 9.3}},
    ]
    train = Measurement.from_metrics(metrics, "train")
    assert (train.recon, train.kl) == (119.5, 9.5)
    assert algorithm.judge(train, SearchSettings()).good
    assert Measurement.from_metrics(metrics, "test").recon == 126.0


@pytest.mark.parametrize(
    "values", [((), ()), ((1.0,), (1.0, 2.0)), ((math.nan,), (1.0,)), ((1.0,), (math.inf,))]
)
def test_impossible_measurements_are_refused(values):
    with pytest.raises(VaelabError):
        Measurement(*values)


# ---------------------------------------------------------------- shrinking, and not found


def test_shrinking_takes_the_latent_dimension_first():
    settings = SearchSettings(n_min=2, n_max=2, width_max=10)
    kl = {3: 11.0, 2: 9.0, 1: 5.0}
    answer, measured, _ = run(settings, lambda a: one(130 - 5 * a[1] - a[0] / 2, kl[a[1]]))
    log = algorithm.decision_log(settings, measured)
    assert [(d["architecture"], d["passed"]) for d in log if d["phase"] is Phase.SHRINK] == [
        ((10, 2), True),
        ((10, 3), False),
    ]
    # m = [10, 2] has recon 115; with one latent dimension recon is 120, just good.
    assert answer.architecture == (10, 1)


def test_shrinking_goes_on_to_the_widths_when_one_latent_dimension_is_too_many():
    settings = SearchSettings(n_min=2, n_max=2, width_max=10)
    answer, measured, _ = run(settings, lambda a: one(119 - a[0] / 10 - a[1], 4 + a[0] + a[1]))
    shrink = [d for d in algorithm.decision_log(settings, measured) if d["phase"] is Phase.SHRINK]
    assert {d["layer"] for d in shrink} == {2, 1}
    assert [d["architecture"] for d in shrink if d["passed"]][-1] == (5, 1)
    assert answer.architecture == (1, 1)


def test_no_width_keeps_kl_down():
    settings = SearchSettings(n_min=2, n_max=4, width_max=10)
    answer, measured, _ = run(settings, lambda a: one(100, 50))
    assert answer.architecture is None
    assert answer.reason == "depth 2: kl stays above 10 at every width"
    assert {len(a) for a in measured} == {2}


def test_not_found_at_the_latent_layer_ends_the_search():
    # Shrinking gives [10, 2], whose recon fails: no latent dimension is good, and deeper
    # models are not tried.
    settings = SearchSettings(n_min=2, n_max=4, width_max=10)
    answer, measured, _ = run(settings, lambda a: one({3: 115, 2: 125, 1: 130}[a[1]], 4 * a[1]))
    assert answer.architecture is None
    assert answer.reason == "layer 2: [10, h] is not good for any h from 1 to 2"
    assert {len(a) for a in measured} == {2}


def test_every_depth_ruled_out():
    settings = SearchSettings(n_min=1, n_max=4)
    answer, measured, _ = run(settings, lambda a: one(121, 9))
    assert answer.architecture is None
    assert answer.reason == "depths 1 to 4: recon of the largest model is above 120"
    assert list(measured) == [(3,), (500, 3), (500, 500, 3), (500, 500, 500, 3)]


def test_latent_dimension_never_exceeds_the_hidden_width():
    settings = SearchSettings(width_max=2, latent_max=3)
    assert algorithm.next_step(settings, {}).probes == ((2, 2),)


# ---------------------------------------------------------------- properties


@st.composite
def search_settings(draw: st.DrawFn) -> SearchSettings:
    return SearchSettings(
        width_max=draw(st.integers(1, 9)),
        latent_max=draw(st.integers(1, 4)),
        n_min=draw(st.sampled_from([1, 2])),
        n_max=draw(st.integers(2, 3)),
        recon=draw(st.floats(1, 120)),
        kl=draw(st.floats(1, 25)),
    )


def monotone_oracle(seed: int) -> Oracle:
    """Recon strictly falls and kl strictly rises in every layer, curved and with products."""

    def losses(a: Architecture) -> Measurement:
        rng = random.Random(f"{seed} {len(a)}")
        shift = rng.uniform(0, 80)
        recon, kl = 60.0 + shift / len(a), 0.5
        effect = 1.0
        for width in a:
            recon -= rng.uniform(0.5, 20) * (width / 9) ** rng.uniform(0.2, 2)
            kl += rng.uniform(0.2, 8) * (width / 9) ** rng.uniform(0.2, 2)
            effect *= width / 9
        return one(recon - 10 * effect, kl + 3 * effect)

    return losses


def arbitrary_oracle(seed: int) -> Oracle:
    """Losses without any order, the same whenever asked."""

    def losses(a: Architecture) -> Measurement:
        rng = random.Random(f"{seed} {a}")
        return one(rng.uniform(0, 130), rng.uniform(0, 30))

    return losses


def architectures(settings: SearchSettings, depth: int) -> Iterable[Architecture]:
    """All that the constraints allow, with as many layers as `depth`."""
    for a in product(range(1, max(settings.width_max, settings.latent_max) + 1), repeat=depth):
        ordered = all(x >= y for x, y in zip(a, a[1:], strict=False))
        if (
            ordered
            and a[-1] <= settings.latent_max
            and all(w <= settings.width_max for w in a[:-1])
        ):
            yield a


def probe_bound(settings: SearchSettings, depth: int) -> int:
    """One upper bound; per layer at most two binary searches to shrink and one to minimise."""

    def steps(size: int) -> int:
        return math.floor(math.log2(size)) + 1

    return 1 + 3 * (steps(settings.latent_max) + (depth - 1) * steps(settings.width_max))


oracles = st.builds(
    lambda make, seed: make(seed),
    st.sampled_from([monotone_oracle, arbitrary_oracle]),
    st.integers(0, 10**6),
)


@settings(max_examples=200, deadline=None)
@given(search_settings(), st.integers(0, 10**6))
def test_answer_is_minimal_for_monotone_oracles(settings, seed):
    oracle = monotone_oracle(seed)

    def good(a: Architecture) -> bool:
        return algorithm.judge(oracle(a), settings).good

    answer, measured, _ = run(settings, oracle)
    log = algorithm.decision_log(settings, measured)
    if answer.architecture is not None:
        h = answer.architecture
        assert good(h)
        assert h in set(architectures(settings, len(h)))
        for i in range(len(h)):
            lower = h[i + 1] if i + 1 < len(h) else 1
            for width in range(lower, h[i]):
                assert not good((*h[:i], width, *h[i + 1 :]))
    # A depth that was passed over holds no good model at all.
    for d in log:
        if d["phase"] is Phase.UPPER_BOUND and not d["passed"]:
            assert not any(map(good, architectures(settings, len(d["architecture"]))))
    # A good upper bound is always the start of a success.
    if any(d["phase"] is Phase.UPPER_BOUND and d["good"] for d in log):
        assert answer.architecture is not None


@settings(max_examples=200, deadline=None)
@given(search_settings(), st.integers(0, 10**6), st.integers(2, 9))
def test_a_resolution_settles_widths_to_within_it_with_fewer_trainings(settings, seed, within):
    oracle = monotone_oracle(seed)
    exact, every, _ = run(settings, oracle)
    coarse = settings.model_copy(update={"resolution": within})
    answer, measured, _ = run(coarse, oracle)
    assert len(measured) <= len(every)
    assert (answer.architecture is None) == (exact.architecture is None)
    if answer.architecture is None:
        return
    h = answer.architecture
    assert algorithm.judge(oracle(h), coarse).good
    assert h[-1] == exact.architecture[-1]
    for i in range(len(h) - 1):
        # Going down by the resolution leaves the good widths or the allowed ones.
        lower = h[i] - within + 1
        if lower > h[i + 1]:
            assert not algorithm.judge(oracle((*h[:i], lower - 1, *h[i + 1 :])), coarse).good


def test_a_resolution_ends_a_layer_at_its_untried_upper_bound():
    """Only [8, 8, 2] is good: its second layer fails at 5 and 7, and 8 is not tried again."""
    settings = SearchSettings(n_min=2, n_max=3, width_max=8, latent_max=2, resolution=3)

    def oracle(a: Architecture) -> Measurement:
        return one(100 if a == (8, 8, 2) else 130, 5)

    answer, measured, _ = run(settings, oracle)
    assert answer.architecture == (8, 8, 2)
    assert list(measured) == [(8, 2), (8, 8, 2), (8, 8, 1), (8, 5, 2), (8, 7, 2)]


@settings(max_examples=200, deadline=None)
@given(search_settings(), st.integers(0, 10**6), st.floats(0.1, 0.99))
def test_shrinking_ends_at_the_largest_architecture_that_passes(settings, seed, share):
    oracle = monotone_oracle(seed)
    (upper,) = algorithm.next_step(settings, {}).probes
    # Thresholds that send the search into the phase at its first depth.
    settings = settings.model_copy(update={"recon": 1000.0, "kl": share * oracle(upper).kl})
    answer, measured, _ = run(settings, oracle)
    log = algorithm.decision_log(settings, measured)
    passed = [d["architecture"] for d in log if d["phase"] is Phase.SHRINK and d["passed"]]
    kept = [
        a for a in architectures(settings, len(upper)) if algorithm.judge(oracle(a), settings).kl_ok
    ]
    assert passed[-1:] == ([max(kept)] if kept else [])
    assert (answer.architecture is None) == (not kept)


@settings(max_examples=200, deadline=None)
@given(search_settings(), oracles)
def test_ends_within_the_logarithmic_bound_without_repeats(settings, oracle):
    answer, measured, rounds = run(settings, oracle)
    deepest = max(len(a) for a in measured)
    assert len(measured) == rounds
    # Depths that were passed over cost one training each.
    assert len(measured) <= probe_bound(settings, deepest) + deepest - settings.n_min
    assert list(measured) == needed(settings, measured)
    if answer.reason.startswith("layer"):
        # Only the latent layer can be without a good value.
        assert answer.reason.split(":")[0] == f"layer {deepest}"


@settings(max_examples=100, deadline=None)
@given(search_settings(), oracles)
def test_speculation_changes_neither_answer_nor_needed_probes(settings, oracle):
    answer, plain, rounds = run(settings, oracle)
    sequence = list(plain)
    for ahead in (1, 2, 3):
        speculative = settings.model_copy(update={"speculate": ahead})
        other, measured, fewer = run(speculative, oracle)
        assert other == answer
        assert needed(speculative, measured) == sequence
        assert fewer <= math.ceil(rounds / (ahead + 1))


@settings(max_examples=100, deadline=None)
@given(search_settings(), oracles, st.data())
def test_continues_identically_from_any_measurements(settings, oracle, data):
    answer, measured, _ = run(settings, oracle)
    sequence = list(measured)
    for done in range(len(sequence)):
        step = algorithm.next_step(settings, {a: measured[a] for a in sequence[:done]})
        assert step.probes == (sequence[done],)
    some = data.draw(st.sets(st.sampled_from(sequence)))
    step = algorithm.next_step(settings, {a: measured[a] for a in some})
    missing = [a for a in sequence if a not in some]
    assert step.probes == tuple(missing[:1])
    assert step.answer == (None if missing else answer)


def test_speculation_puts_the_needed_probe_first_and_looks_k_levels_ahead():
    measured = {a: PRINTED[a] for a in [(500, 3), (500, 500, 3), (500, 500, 2)]}
    step = algorithm.next_step(SearchSettings(speculate=2), measured)
    assert step.probes[0] == (500, 251, 3)
    assert set(step.probes[1:3]) == {(500, 126, 3), (500, 376, 3)}
    assert set(step.probes[3:]) == {
        (500, 64, 3),
        (500, 188, 3),
        (500, 313, 3),
        (500, 438, 3),
    }


def test_speculation_foresees_that_a_shrunk_model_may_fail_on_recon():
    # [8, 2] and [8, 3] both keep kl; if only the second keeps recon, layer 1 comes next.
    settings = SearchSettings(n_max=2, width_max=8, latent_max=4, speculate=2)
    measured = {(8, 4): one(110, 11)}
    step = algorithm.next_step(settings, measured)
    assert step.probes[:3] == ((8, 2), (8, 3), (8, 1))
    assert (5, 3) in step.probes
    measured |= {(8, 2): one(125, 9), (8, 3): one(115, 9.5)}
    assert algorithm.next_step(settings, measured).probes[0] == (5, 3)
