"""Verdicts: estimates with standard errors, conditions on them, and what follows.

A condition is met, not met, or left open by the noise. A claim `holds` if all its conditions are
met, `fails` if one is certainly not, and is `undecided` otherwise. "Certain" means: a one-sided
t-test at the level `LEVEL`, after Holm's correction over all claims with noise (`holm`), and after
Bonferroni's over the conditions of a claim. So the condition that decides is the least certain one,
whatever units the others have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean
from typing import Literal

import numpy as np
from scipy.special import stdtr

Verdict = Literal["holds", "fails", "undecided", "not comparable", "not evaluated"]
VERDICTS: tuple[Verdict, ...] = ("holds", "fails", "undecided", "not comparable", "not evaluated")
# Probability of any wrong verdict among the claims of a preset, by the noise that is known.
LEVEL = 0.05


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error, 0 if it is exact.

    Attributes:
        mean: the number.
        se: its standard error over trainings.
        df: degrees of freedom of the standard deviation behind `se`.
        sources: where that standard deviation comes from.
    """

    mean: float
    se: float = 0.0
    df: float = math.inf
    sources: frozenset[str] = frozenset()

    @classmethod
    def over(
        cls, values: Sequence[float], sd: float = 0.0, df: float = math.inf, source: str = ""
    ) -> Estimate:
        """Mean of one value per seed; `sd` is that of one training, with `df`."""
        sources = frozenset({source} if source else ())
        return cls(fmean(values), sd / len(values) ** 0.5, df, sources)

    def __neg__(self) -> Estimate:
        return self * -1.0

    def __add__(self, other: Estimate | float) -> Estimate:
        """Sum of independent estimates. The fewer degrees of freedom count: they may be shared."""
        if not isinstance(other, Estimate):
            return replace(self, mean=self.mean + other)
        noisy = [e for e in (self, other) if e.se > 0.0]
        return Estimate(
            self.mean + other.mean,
            math.hypot(self.se, other.se),
            min((e.df for e in noisy), default=math.inf),
            self.sources | other.sources,
        )

    def __sub__(self, other: Estimate | float) -> Estimate:
        return self + (-other)

    def __mul__(self, factor: float) -> Estimate:
        return replace(self, mean=self.mean * factor, se=self.se * abs(factor))

    def percent_above(self, base: Estimate) -> Estimate:
        """100 (self / base - 1)."""
        ratio = self.mean / base.mean
        return (self - base * ratio) * (100.0 / base.mean) + 100.0 * (ratio - 1.0)


@dataclass(frozen=True)
class Check:
    """A condition and how certain it is.

    Attributes:
        what: the condition in words.
        margin: distance from the threshold in standard errors, positive if the condition is met;
            infinite for exact numbers.
        p: p-value against "not met"; small if the condition is certainly met.
        q: p-value against "met"; small if it is certainly not met.
        slack: the distance in its own unit, with its error.
        unit: that unit.
    """

    what: str
    margin: float
    p: float
    q: float
    slack: Estimate | None = None
    unit: str = ""

    @property
    def noisy(self) -> bool:
        """Whether a repeat could come out differently."""
        return math.isfinite(self.margin)


def above(what: str, high: Estimate, low: Estimate | float, unit: str = "") -> Check:
    """The condition that `high` exceeds `low`."""
    slack = high - low
    if slack.se == 0.0:
        met = slack.mean > 0.0
        return Check(what, math.inf if met else -math.inf, 1.0 - met, float(met), slack, unit)
    margin = slack.mean / slack.se
    p, q = float(stdtr(slack.df, -margin)), float(stdtr(slack.df, margin))
    return Check(what, margin, p, q, slack, unit)


def below(what: str, low: Estimate, high: Estimate | float, unit: str = "") -> Check:
    """The condition that `low` is below `high`."""
    return above(what, -low, -high, unit)


def rising(what: str, values: Mapping[str, Estimate], unit: str = "") -> list[Check]:
    """Every estimate exceeds the one before it."""
    return [
        above(f"{what}, {b} above {a}", values[b], values[a], unit) for a, b in pairwise(values)
    ]


def falling(what: str, values: Mapping[str, Estimate], unit: str = "") -> list[Check]:
    """Every estimate is below the one before it."""
    return [
        above(f"{what}, {b} below {a}", values[a], values[b], unit) for a, b in pairwise(values)
    ]


def redrawn(estimates: Sequence[Estimate], repeats: int) -> np.ndarray:
    """Draws around estimates (repeats, N), with the same random numbers every time.

    The standard deviation of each is as uncertain as its degrees of freedom say; estimates of
    equal ones share it.
    """
    rng = np.random.default_rng(0)
    mean, se, df = np.array([(e.mean, e.se, e.df) for e in estimates]).T
    factor = np.ones((repeats, len(df)))
    for shared in np.unique(df[np.isfinite(df)]):
        factor[:, df == shared] = np.sqrt(shared / rng.chisquare(shared, (repeats, 1)))
    draws: np.ndarray = mean + se * factor * rng.standard_normal((repeats, len(df)))
    return draws


def all_of(checks: Iterable[Check]) -> Check:
    """All conditions at once: the least certain decides; one that certainly fails is enough."""
    checks = list(checks)
    worst = min(checks, key=lambda check: (-check.p, check.margin))
    return replace(worst, q=min(1.0, len(checks) * min(check.q for check in checks)))


def any_of(checks: Iterable[Check]) -> Check:
    """At least one of the conditions: the most certain decides, out of so many chances."""
    checks = list(checks)
    best = min(checks, key=lambda check: (check.p, -check.margin))
    return replace(best, p=min(1.0, len(checks) * best.p), q=max(check.q for check in checks))


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim.

    Attributes:
        verdict: see `VERDICTS`.
        reason: in words, with the recipe under which it was judged.
        check: the deciding condition; None for a fact that no run can change, and without evidence.
        numbers: what it rests on, by name.
        missing: what some of the conditions lacked: then the claim can only fail.
        incomparable: verdicts that recipe or budget forbid, each with its reason.
    """

    verdict: Verdict
    reason: str
    check: Check | None = None
    numbers: Mapping[str, Estimate] = field(default_factory=dict)
    missing: str = ""
    incomparable: Mapping[Verdict, str] = field(default_factory=dict)

    def at(self, p: float, q: float) -> Judgement:
        """With the verdict of two p-values, against "the claim is false" and "it is true"."""
        verdict: Verdict = "holds" if p <= LEVEL else "fails" if q <= LEVEL else "undecided"
        if self.missing and verdict != "fails":
            return replace(self, verdict="not evaluated", reason=f"{self.missing}.")
        if verdict in self.incomparable:
            text = f"Here it {verdict}, but {self.incomparable[verdict]}. {self.reason}"
            return replace(self, verdict="not comparable", reason=text)
        return replace(self, verdict=verdict)

    @property
    def alone(self) -> Judgement:
        """With the verdict that this claim would get if it were the only one."""
        return self.at(self.check.p, self.check.q) if self.check else self


class NotEvaluated(Exception):
    """Something that a claim needs is absent; the message says what."""


class NotComparable(Exception):
    """Recipe or budget forbid the comparison with the report; the message says why."""


def conclude(checks: Sequence[Check], notes: Sequence[str]) -> Judgement:
    """What follows from all conditions; `Judgement.at` and `holm` give the verdict."""
    check = all_of(checks)
    if check.q < check.p:
        # Name the condition that is broken most certainly.
        check = replace(min(checks, key=lambda c: (c.q, c.margin)), p=check.p, q=check.q)
    parts = [f"Decided by: {check.what}, {_in_words(check)}"]
    broken = sum(c.margin < 0.0 for c in checks)
    if broken and len(checks) > 1:
        parts.append(f"{broken} of {len(checks)} conditions are not met")
    return Judgement("undecided", " ".join([f"{'; '.join(parts)}.", *notes]), check)


def holm(judgements: Mapping[str, Judgement]) -> dict[str, Judgement]:
    """The verdicts of all claims together, by Holm's step-down correction over the noisy ones.

    The probability that any of them is wrong is then at most `LEVEL`, if the standard errors are
    right. A claim without noise is not corrected.
    """
    corrected = {id: judgement.alone for id, judgement in judgements.items()}
    noisy = {id: j.check for id, j in judgements.items() if j.check and j.check.noisy}
    largest = 0.0
    for rank, id in enumerate(sorted(noisy, key=lambda id: min(noisy[id].p, noisy[id].q))):
        p, q = noisy[id].p, noisy[id].q
        largest = max(largest, (len(noisy) - rank) * min(p, q))
        corrected[id] = judgements[id].at(*((largest, 1.0) if p < q else (1.0, largest)))
    return corrected


def _in_words(check: Check) -> str:
    assert check.slack is not None
    amount = f"{check.slack.mean:+.3g}{' ' + check.unit if check.unit else ''}"
    if not check.noisy:
        return f"margin {amount}, exact"
    return f"margin {amount}, {check.margin:+.1f} standard errors"


def uncertainty(check: Check | None) -> str:
    """The standard error of the deciding condition and where it comes from, in words."""
    if check is None or check.slack is None or not check.noisy:
        return ""
    df = "" if math.isinf(check.slack.df) else f", {check.slack.df:.0f} degrees of freedom"
    unit = f" {check.unit}" if check.unit else ""
    sources = f"; {', '.join(sorted(check.slack.sources))}" if check.slack.sources else ""
    return f"SE {check.slack.se:.2g}{unit}{df}{sources}"
