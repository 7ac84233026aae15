"""How far the architecture search can be trusted: noise in its verdicts, and its assumption.

The search compares means over a few seeds with fixed thresholds. In the report some decisions
depend on a tenth of a nat. This module computes the probability that a verdict flips, the
distribution of the final answer if all measurements are redrawn within their noise, and the
pairs of architectures that violate monotonicity, which the search assumes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import NormalDist, stdev
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression

from vaelab.results.records import (
    Decisions,
    SearchAnswer,
    SearchDistribution,
    SearchMonotonicity,
    SearchProbe,
)
from vaelab.search.algorithm import (
    Architecture,
    Measurement,
    Phase,
    Question,
    Verdict,
    decision_log,
    follow,
    judge,
    needed_probes,
    next_step,
    run_name,
    wasted_trainings,
)
from vaelab.settings.config import SearchSettings

Quantity = Literal["recon", "kl"]


@dataclass(frozen=True)
class Noise:
    """Standard deviation of one training's losses, in nats; used if there is one seed.

    Recon: the standard error of a number in the report's tables, 33 nats per image over 10 000
    evaluations. Kl: the scatter of neighbouring rows of the report's Table 2. Both leave out most
    of what a new seed changes: two of the report's runs of one network differ by 1.3 to 1.8
    nats. So flips are more likely than these numbers say.
    """

    recon: float = 0.33
    kl: float = 0.1


def standard_error(measurement: Measurement, quantity: Quantity, noise: Noise) -> float:
    """Standard error of the mean over seeds, nats; with one seed, that of `noise`."""
    values = measurement.recon_values if quantity == "recon" else measurement.kl_values
    if len(values) == 1:
        return noise.recon if quantity == "recon" else noise.kl
    return stdev(values) / math.sqrt(len(values))


def _probability_at_most(threshold: float, mean: float, error: float) -> float:
    if error == 0.0:
        return float(mean <= threshold)
    return NormalDist(mean, error).cdf(threshold)


def flip_probability(
    measurement: Measurement,
    settings: SearchSettings,
    noise: Noise | None = None,
    phase: Phase = Phase.MINIMISE,
) -> float:
    """Probability that a repeated measurement would lead to another decision.

    The repeated means are normal around the measured ones with their standard errors, recon
    and kl independent.

    Args:
        measurement: the probe.
        settings: the thresholds.
        noise: what to assume if there is one seed.
        phase: which decision. At an upper bound both verdicts count, but kl only if recon
            passes; for shrink kl alone counts; for minimise, whether the model is good.
    """
    noise = noise or Noise()
    recon = _probability_at_most(
        settings.recon, measurement.recon, standard_error(measurement, "recon", noise)
    )
    kl = _probability_at_most(settings.kl, measurement.kl, standard_error(measurement, "kl", noise))
    verdict = judge(measurement, settings)
    same_kl = kl if verdict.kl_ok else 1.0 - kl
    if phase is Phase.SHRINK:
        return 1.0 - same_kl
    if phase is Phase.UPPER_BOUND:
        return 1.0 - recon * same_kl if verdict.recon_ok else recon
    return 1.0 - recon * kl if verdict.good else recon * kl


class MonotoneSurface:
    """A loss of one depth as a function of its widths: constant + g_1(h_1) + ... + g_n(h_n).

    Every g is monotone, as assumption 5.1 says, and fitted by least squares (cyclic isotonic
    regression). It is linear between the measured widths; outside them it is linear with the
    mean slope of the measured range. The search moves along one layer at a time through common
    points, so monotone measurements on its path are interpolated exactly. Other measurements get
    the nearest monotone fit.

    Args:
        values: measured losses by architecture, all of one depth, nats.
        increasing: True for kl, False for recon.
    """

    _SWEEPS = 500

    def __init__(self, values: Mapping[Architecture, float], increasing: bool) -> None:
        widths = np.array(list(values), dtype=np.int64)
        target = np.array(list(values.values()), dtype=np.float64)
        self._constant = float(target.mean())
        self._knots: list[np.ndarray] = []
        index: list[np.ndarray] = []
        for layer in widths.T:
            knots, position = np.unique(layer, return_inverse=True)
            self._knots.append(knots)
            index.append(position)
        self._effects = [np.zeros(len(knots)) for knots in self._knots]
        counts = [np.bincount(position) for position in index]
        total = np.zeros_like(target)
        for _ in range(self._SWEEPS):
            before = total
            for i, position in enumerate(index):
                rest = total - self._effects[i][position]
                residual = target - self._constant - rest
                means = np.bincount(position, weights=residual) / counts[i]
                fit = isotonic_regression(means, weights=counts[i], increasing=increasing)
                self._effects[i] = fit.x
                total = rest + self._effects[i][position]
            if np.abs(total - before).max() < 1e-9:
                break

    def __call__(self, architecture: Architecture) -> float | None:
        """The loss, nats; None if a layer was measured at a single, different width."""
        loss = self._constant
        for width, knots, effects in zip(architecture, self._knots, self._effects, strict=True):
            if len(knots) == 1:
                if width != knots[0]:
                    return None
                loss += effects[0]
                continue
            slope = (effects[-1] - effects[0]) / (knots[-1] - knots[0])
            inside = min(max(width, knots[0]), knots[-1])
            loss += np.interp(inside, knots, effects) + slope * (width - inside)
        return float(loss)


@dataclass(frozen=True)
class AnswerDistribution:
    """Final answers of repeated searches.

    Attributes:
        probabilities: share of the repeats that end with an architecture, or with None for
            "not found"; most frequent first.
        undetermined: share of the repeats that needed a depth or a layer without measurements.
        repeats: number of repeated searches.
    """

    probabilities: dict[Architecture | None, float]
    undetermined: float
    repeats: int

    def interval(self, depth: int, layer: int, level: float = 0.9) -> tuple[int, int] | None:
        """Central interval of a layer's width (from 1) over the answers of one depth."""
        found = sorted(
            (a[layer - 1], p) for a, p in self.probabilities.items() if a and len(a) == depth
        )
        if not found:
            return None
        widths, shares = zip(*found, strict=True)
        cumulative = np.cumsum(shares) / sum(shares)
        tail = (1.0 - level) / 2.0
        # A small slack, so that rounding does not move a share that equals the tail.
        low, high = (int(np.searchsorted(cumulative, q - 1e-12)) for q in (tail, 1.0 - tail))
        return widths[low], widths[high]

    def as_json(self, limit: int = 20) -> SearchDistribution:
        """A mapping for JSON, with the `limit` most frequent answers."""
        top = list(self.probabilities.items())[:limit]
        return {
            "repeats": self.repeats,
            "undetermined": self.undetermined,
            "distinct": len(self.probabilities),
            "answers": [{"architecture": a, "probability": p} for a, p in top],
        }


class _Redrawn:
    """Verdicts on losses redrawn within their noise; see `answer_distribution`."""

    def __init__(
        self,
        settings: SearchSettings,
        measurements: Mapping[Architecture, Measurement],
        noise: Noise,
    ) -> None:
        self._settings = settings
        self._surfaces: dict[int, tuple[MonotoneSurface, MonotoneSurface]] = {}
        self._typical: dict[int, tuple[float, float]] = {}
        # (recon, its error, kl, its error) by architecture; None where nothing is known.
        self._centres: dict[Architecture, tuple[float, float, float, float] | None] = {}
        for depth in sorted({len(a) for a in measurements}):
            same = {a: m for a, m in measurements.items() if len(a) == depth}
            self._surfaces[depth] = (
                MonotoneSurface({a: m.recon for a, m in same.items()}, increasing=False),
                MonotoneSurface({a: m.kl for a, m in same.items()}, increasing=True),
            )
            errors = {
                a: (standard_error(m, "recon", noise), standard_error(m, "kl", noise))
                for a, m in same.items()
            }
            recon, kl = np.sqrt(np.mean(np.square(list(errors.values())), axis=0))
            self._typical[depth] = (float(recon), float(kl))
            for a, m in same.items():
                self._centres[a] = (m.recon, errors[a][0], m.kl, errors[a][1])

    def _centre(self, architecture: Architecture) -> tuple[float, float, float, float] | None:
        if architecture not in self._centres:
            depth = len(architecture)
            recon = kl = None
            if depth in self._surfaces:
                recon, kl = (surface(architecture) for surface in self._surfaces[depth])
            if recon is None or kl is None:
                self._centres[architecture] = None
            else:
                errors = self._typical[depth]
                self._centres[architecture] = (recon, errors[0], kl, errors[1])
        return self._centres[architecture]

    def verdict(self, architecture: Architecture, generator: np.random.Generator) -> Verdict | None:
        centre = self._centre(architecture)
        if centre is None:
            return None
        recon, recon_error, kl, kl_error = centre
        first, second = generator.standard_normal(2)
        return Verdict(
            recon + recon_error * first <= self._settings.recon,
            kl + kl_error * second <= self._settings.kl,
        )


def answer_distribution(
    settings: SearchSettings,
    measurements: Mapping[Architecture, Measurement],
    noise: Noise | None = None,
    repeats: int = 2000,
    seed: int = 0,
) -> AnswerDistribution:
    """Repeat the search with redrawn measurements and count its answers.

    In each repeat the losses of an architecture are drawn once, from a normal distribution
    around the measured mean with its standard error. For architectures that were not measured,
    the mean is that of `MonotoneSurface` and the error is the root mean square of their depth.

    Args:
        settings: bounds and thresholds.
        measurements: everything measured, also architectures off the search's path.
        noise: what to assume if there is one seed.
        repeats: number of repeated searches.
        seed: of the random numbers.
    """
    redrawn = _Redrawn(settings, measurements, noise or Noise())
    generator = np.random.default_rng(seed)
    counts: Counter[Architecture | None] = Counter()
    undetermined = 0
    for _ in range(repeats):
        drawn: dict[Architecture, Verdict | None] = {}

        def lookup(
            architecture: Architecture, drawn: dict[Architecture, Verdict | None] = drawn
        ) -> Verdict | None:
            if architecture not in drawn:
                drawn[architecture] = redrawn.verdict(architecture, generator)
            return drawn[architecture]

        _, end = follow(settings, lookup)
        if isinstance(end, Question):
            undetermined += 1
        else:
            counts[end.architecture] += 1
    return AnswerDistribution(
        {a: n / repeats for a, n in counts.most_common()}, undetermined / repeats, repeats
    )


@dataclass(frozen=True)
class Violation:
    """A pair of one depth, `smaller` nowhere wider than `larger`, that contradicts 5.1.

    Attributes:
        smaller: the smaller architecture.
        larger: the larger one.
        smaller_value: its loss, nats. The assumption says: above (recon) or below (kl) the
            other loss.
        larger_value: loss of the larger architecture, nats.
        by: size of the violation, nats; 0 for a tie.
        standard_errors: the same in standard errors of the difference; None if these are 0.
    """

    smaller: Architecture
    larger: Architecture
    smaller_value: float
    larger_value: float
    by: float
    standard_errors: float | None


@dataclass(frozen=True)
class Monotonicity:
    """Assumption 5.1 on all comparable pairs: strict violations, largest first, and ties."""

    architectures: int
    pairs: int
    recon: tuple[Violation, ...]
    kl: tuple[Violation, ...]
    recon_ties: tuple[Violation, ...]
    kl_ties: tuple[Violation, ...]

    def as_json(self) -> SearchMonotonicity:
        """A mapping for JSON; ties are counted, not listed."""
        return {
            "architectures": self.architectures,
            "pairs": self.pairs,
            "recon": [asdict(v) for v in self.recon],
            "kl": [asdict(v) for v in self.kl],
            "recon_ties": len(self.recon_ties),
            "kl_ties": len(self.kl_ties),
        }


def _comparable(architectures: Iterable[Architecture]) -> list[tuple[Architecture, Architecture]]:
    """Pairs (smaller, larger) of one depth, ordered in every layer."""
    # Sorted, the first of a comparable pair is the smaller one.
    return [
        (a, b)
        for a, b in combinations(sorted(architectures), 2)
        if len(a) == len(b) and all(x <= y for x, y in zip(a, b, strict=True))
    ]


def monotonicity_violations(
    measurements: Mapping[Architecture, Measurement], noise: Noise | None = None
) -> Monotonicity:
    """Check that, of two models of one depth, the smaller has more recon and less kl.

    The report prints "for any i" (assumption 5.1). It means for all i, and strictly for one.
    """
    noise = noise or Noise()
    pairs = _comparable(measurements)

    def check(quantity: Quantity, sign: int) -> tuple[tuple[Violation, ...], tuple[Violation, ...]]:
        found = []
        for smaller, larger in pairs:
            a, b = (
                m.recon if quantity == "recon" else m.kl
                for m in (measurements[smaller], measurements[larger])
            )
            by = sign * (b - a)
            if by >= 0:
                error = math.hypot(
                    *(standard_error(measurements[x], quantity, noise) for x in (smaller, larger))
                )
                found.append(Violation(smaller, larger, a, b, by, by / error if error else None))
        found.sort(key=lambda v: -v.by)
        return tuple(v for v in found if v.by > 0), tuple(v for v in found if v.by == 0)

    recon, recon_ties = check("recon", 1)
    kl, kl_ties = check("kl", -1)
    return Monotonicity(len(measurements), len(pairs), recon, kl, recon_ties, kl_ties)


def search_summary(
    settings: SearchSettings,
    measurements: Mapping[Architecture, Measurement],
    shared: Iterable[Architecture] = (),
    noise: Noise | None = None,
    repeats: int = 2000,
) -> Decisions:
    """The search in one mapping for JSON: answer, decisions, probes, waste, noise, assumption.

    Args:
        settings: bounds, thresholds, metric.
        measurements: everything measured; the search need not be over.
        shared: architectures that a table needs anyway (see `wasted_trainings`).
        noise: what to assume if there is one seed.
        repeats: number of repeated searches for the distribution of the answer.
    """
    noise = noise or Noise()
    step = next_step(settings, measurements)
    decisions = decision_log(settings, measurements)
    probes: list[SearchProbe] = []
    for decision in decisions:
        if decision.reused:
            continue
        measurement = measurements[decision.architecture]
        probes.append(
            {
                "run": run_name(decision.architecture),
                "architecture": decision.architecture,
                "seeds": len(measurement.recon_values),
                "recon": measurement.recon,
                "recon_se": standard_error(measurement, "recon", noise),
                "kl": measurement.kl,
                "kl_se": standard_error(measurement, "kl", noise),
                "good": decision.good,
                "flip_probability": flip_probability(measurement, settings, noise, decision.phase),
            }
        )
    answer = SearchAnswer(finished=step.answer is not None)
    if step.answer is not None:
        found = step.answer.architecture
        answer = {
            "finished": True,
            "architecture": found,
            "run": run_name(found) if found else None,
            "reason": step.answer.reason,
        }
    return {
        "settings": settings.model_dump(mode="json"),
        "noise": asdict(noise),
        "answer": answer,
        "decisions": [decision.as_json() for decision in decisions],
        "probes": probes,
        "needed": len(needed_probes(decisions)),
        "wasted": [run_name(a) for a in wasted_trainings(settings, measurements, shared)],
        "distribution": answer_distribution(settings, measurements, noise, repeats).as_json(),
        "monotonicity": monotonicity_violations(measurements, noise).as_json(),
    }
