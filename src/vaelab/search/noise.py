"""How far the architecture search can be trusted: decisions that turn, answers, its assumption.

From the smooth fit this module reads the probability that a decision turns in a repeat and the
answers of repeated searches. It also lists the pairs of architectures that violate monotonicity,
which the search assumes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from vaelab.results.records import Decisions, SearchAnswer, SearchDistribution, SearchProbe
from vaelab.search.algorithm import (
    Answer,
    Architecture,
    Measurement,
    Phase,
    Verdict,
    decision_log,
    follow,
    judge,
    next_step,
    run_name,
)
from vaelab.search.smooth import (
    LEVEL,
    Fit,
    Quantity,
    Spreads,
    answer_line,
    pooled,
    published,
    standard_error,
)
from vaelab.settings.config import SearchSettings

# Most frequent answers of the repeated search that are kept.
ANSWERS = 20


def flip_probability(
    predictive: Iterable[NormalDist], verdict: Verdict, settings: SearchSettings, phase: Phase
) -> float:
    """Probability that a repeated measurement would lead to another decision.

    Args:
        predictive: recon and kl of the repeat, independent.
        verdict: what was decided.
        settings: the thresholds.
        phase: which decision. At an upper bound both verdicts count, but kl only if recon
            passes; for shrink kl alone counts; for minimise, whether the model is good.
    """
    recon, kl = (
        loss.cdf(threshold)
        for loss, threshold in zip(predictive, (settings.recon, settings.kl), strict=True)
    )
    same_kl = kl if verdict.kl_ok else 1.0 - kl
    if phase is Phase.SHRINK:
        return 1.0 - same_kl
    if phase is Phase.UPPER_BOUND:
        return 1.0 - recon * same_kl if verdict.recon_ok else recon
    return 1.0 - recon * kl if verdict.good else recon * kl


def judged_alone(
    architecture: Architecture, measurement: Measurement, settings: SearchSettings
) -> tuple[float, float, float]:
    """P(flip) and the standard errors of recon and kl of a network that no search has measured.

    They rest on its own measurement alone and on the package's table.
    """
    spreads = published(settings.metric)
    predictive = Fit({architecture: measurement}, spreads).predictive(
        architecture, len(measurement.recon_values)
    )
    assert predictive is not None
    return (
        flip_probability(predictive, judge(measurement, settings), settings, Phase.MINIMISE),
        standard_error(architecture, measurement, "recon", spreads),
        standard_error(architecture, measurement, "kl", spreads),
    )


def answer_distribution(
    settings: SearchSettings, fit: Fit, seeds: int = 1, repeats: int = 1000, seed: int = 0
) -> SearchDistribution:
    """Repeat the search with networks trained anew and count its answers.

    The truth is drawn from the smooth fit, not from the measurements, which the search has chosen
    for being lucky.

    Args:
        settings: bounds and thresholds.
        fit: the losses of all networks.
        seeds: trainings of each network, whose mean is judged.
        repeats: number of repeated searches.
        seed: of the random numbers.
    """
    generator = np.random.default_rng(seed)
    counts: Counter[Architecture | None] = Counter()
    for _ in range(repeats):
        _, end = follow(settings, fit.redrawn(generator, settings, seeds))
        if isinstance(end, Answer):
            counts[end.architecture] += 1
    depth = max(counts, key=lambda a: (a is not None, counts[a]), default=None) or ()
    same = [a for a in counts.elements() if a and len(a) == len(depth)]
    tails = [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0]
    return {
        "repeats": repeats,
        "undetermined": 1.0 - counts.total() / repeats,
        "distinct": len(counts),
        "answers": [
            {"architecture": a, "probability": n / repeats} for a, n in counts.most_common(ANSWERS)
        ],
        "intervals": [
            np.quantile(widths, tails, method="inverted_cdf").tolist()
            for widths in zip(*same, strict=True)
        ],
    }


class Violation(NamedTuple):
    """A pair of one depth, `smaller` nowhere wider than `larger`, that contradicts 5.1.

    `by` is the size, nats; 0 for a tie.
    """

    smaller: Architecture
    larger: Architecture
    smaller_value: float
    larger_value: float
    by: float


class Monotonicity(NamedTuple):
    """Assumption 5.1 on all comparable pairs: strict violations, largest first, and ties."""

    architectures: int
    pairs: int
    recon: tuple[Violation, ...]
    kl: tuple[Violation, ...]
    recon_ties: tuple[Violation, ...]
    kl_ties: tuple[Violation, ...]


def comparable(architectures: Iterable[Architecture]) -> list[tuple[Architecture, Architecture]]:
    """Pairs (smaller, larger) of one depth, ordered in every layer."""
    # Sorted, the first of a comparable pair is the smaller one.
    return [
        (a, b)
        for a, b in combinations(sorted(architectures), 2)
        if len(a) == len(b) and all(x <= y for x, y in zip(a, b, strict=True))
    ]


def monotonicity_violations(measurements: Mapping[Architecture, Measurement]) -> Monotonicity:
    """Check that, of two models of one depth, the smaller has more recon and less kl.

    The report prints "for any i" (assumption 5.1). It means for all i, and strictly for one.
    """
    pairs = comparable(measurements)

    def check(quantity: Quantity, sign: int) -> tuple[tuple[Violation, ...], tuple[Violation, ...]]:
        found = []
        for pair in pairs:
            a, b = (getattr(measurements[x], quantity) for x in pair)
            if (by := sign * (b - a)) >= 0:
                found.append(Violation(*pair, a, b, by))
        found.sort(key=lambda v: -v.by)
        return tuple(v for v in found if v.by > 0), tuple(v for v in found if v.by == 0)

    recon, recon_ties = check("recon", 1)
    kl, kl_ties = check("kl", -1)
    return Monotonicity(len(measurements), len(pairs), recon, kl, recon_ties, kl_ties)


def search_summary(
    settings: SearchSettings,
    measurements: Mapping[Architecture, Measurement],
    shared: Iterable[Architecture] = (),
    recorded: Mapping[Architecture, Measurement] | None = None,
    spreads: Spreads | None = None,
    repeats: int = 1000,
) -> Decisions:
    """The search in one mapping for JSON: answer, decisions, probes, waste, noise, assumption.

    Args:
        settings: bounds, thresholds, metric.
        measurements: everything measured; the search need not be over.
        shared: architectures that a table needs anyway; they are never wasted.
        recorded: the same with further seeds, which the search did not see but the fit does.
        spreads: noise of one training, by family; measured seeds by default.
        repeats: number of repeated searches for the distribution of the answer.
    """
    recorded = recorded or measurements
    spreads = spreads or pooled(recorded, settings.metric)
    fit = Fit(recorded, spreads)
    seeds = min((len(m.recon_values) for m in measurements.values()), default=1)
    step = next_step(settings, measurements)
    decisions = decision_log(settings, measurements)
    probes: list[SearchProbe] = []
    for decision in decisions:
        if decision["reused"]:
            continue
        measurement = measurements[a := tuple(decision["architecture"])]
        predictive = fit.predictive(a, len(measurement.recon_values))
        assert predictive is not None
        probes.append(
            {
                "run": run_name(a),
                "architecture": a,
                "seeds": len(measurement.recon_values),
                "recon": measurement.recon,
                "recon_se": standard_error(a, measurement, "recon", spreads),
                "recon_fit": predictive[0].mean,
                "kl": measurement.kl,
                "kl_se": standard_error(a, measurement, "kl", spreads),
                "good": decision["good"],
                "flip_probability": flip_probability(
                    predictive, judge(measurement, settings), settings, Phase(decision["phase"])
                ),
            }
        )
    needed = {tuple(probe["architecture"]) for probe in probes}
    violations = monotonicity_violations(recorded)
    answer = SearchAnswer(finished=step.answer is not None)
    found = step.answer.architecture if step.answer else None
    if step.answer is not None:
        answer = {
            "finished": True,
            "architecture": found,
            "run": run_name(found) if found else None,
            "reason": step.answer.reason,
        }
    return {
        "settings": settings.model_dump(mode="json"),
        "noise": {name: noise._asdict() for name, noise in spreads.items()},
        "answer": answer,
        "decisions": decisions,
        "probes": probes,
        "needed": len(needed),
        # Trained ahead, and needed by no decision and no table.
        "wasted": [run_name(a) for a in sorted({*measurements} - needed - {*shared})],
        "distribution": answer_distribution(settings, fit, seeds, repeats),
        "line": answer_line(found, recorded, settings.recon) if found else None,
        "monotonicity": {
            "architectures": violations.architectures,
            "pairs": violations.pairs,
            "recon": [v._asdict() for v in violations.recon],
            "kl": [v._asdict() for v in violations.kl],
            "recon_ties": len(violations.recon_ties),
            "kl_ties": len(violations.kl_ties),
        },
    }
