"""Verdicts: quantities with standard errors, checks with margins, and what follows from them.

A comparison that a claim states strictly ("lower than") has to hold by two standard errors of
the difference. With several seeds the standard error is that of their mean; with a single
run it is the assumed spread of one training, listed in `ASSUMED`. A condition that already
contains its tolerance ("at most 1 nat above") is compared as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, stdev
from typing import Literal

from vaelab.search.noise import Noise

Verdict = Literal["holds", "fails", "not evaluated"]

STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Spread:
    """Standard deviation over trainings that is assumed where there is one seed."""

    absolute: float = 0.0
    relative: float = 0.0


# By the last part of a metric's name. For recon and kl the same numbers as in the search; for fid,
# sharpness, confidence and aggregate_kl the scatter of ten networks [500, 251 ... 500, 3] of
# `quick`, which differ in little but luck; for the rest a rough scale.
ASSUMED: Mapping[str, Spread] = {
    "recon": Spread(absolute=Noise().recon),
    "neg_elbo": Spread(absolute=Noise().recon),
    "objective": Spread(absolute=Noise().recon),
    "kl": Spread(absolute=Noise().kl),
    "mse": Spread(relative=0.01),
    "log_likelihood": Spread(absolute=Noise().recon),
    "fid": Spread(relative=0.06),
    "sharpness": Spread(relative=0.02),
    "pixel_variance": Spread(relative=0.01),
    "confidence": Spread(absolute=0.01),
    "label_agreement": Spread(absolute=0.01),
    "knn_accuracy": Spread(absolute=0.01),
    "z_to_label_accuracy": Spread(absolute=0.01),
    "aggregate_kl": Spread(relative=0.3),
}
# One run on Frey Face: its few images and unbounded densities spread much wider, nats.
ASSUMED_FREY = Spread(absolute=5.0)


@dataclass(frozen=True)
class Quantity:
    """A number with its standard error.

    Attributes:
        mean: mean over seeds.
        se: standard error of the mean; assumed, where there is one seed.
        seeds: number of seeds.
    """

    mean: float
    se: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float], spread: Spread | None = None) -> Quantity:
        """From one value per seed; `spread` counts only when there is a single one."""
        mean = fmean(values)
        if len(values) > 1:
            return cls(mean, stdev(values) / len(values) ** 0.5, len(values))
        spread = spread or Spread()
        return cls(mean, max(spread.absolute, spread.relative * abs(mean)), 1)

    def __neg__(self) -> Quantity:
        return Quantity(-self.mean, self.se, self.seeds)

    def __add__(self, other: Quantity | float) -> Quantity:
        """Sum of independent quantities, or of a quantity and an exact number."""
        if not isinstance(other, Quantity):
            return Quantity(self.mean + other, self.se, self.seeds)
        se = (self.se**2 + other.se**2) ** 0.5
        return Quantity(self.mean + other.mean, se, min(self.seeds, other.seeds))

    def __sub__(self, other: Quantity | float) -> Quantity:
        return self + (-other)

    def __mul__(self, factor: float) -> Quantity:
        return Quantity(self.mean * factor, self.se * abs(factor), self.seeds)


@dataclass(frozen=True)
class Check:
    """One condition of a claim.

    Attributes:
        what: the condition in words.
        margin: signed distance from the least that satisfies it; it holds from 0 up.
        unit: unit of the margin.
        uncertainty: the noise behind the margin, in words; empty for exact facts.
        allowance: noise that was taken off the margin.
        strict: whether a margin of exactly 0 is not enough.
    """

    what: str
    margin: float
    unit: str = ""
    uncertainty: str = ""
    allowance: float = 0.0
    strict: bool = False

    @property
    def holds(self) -> bool:
        """Whether the condition is met."""
        return self.margin > 0.0 if self.strict else self.margin >= 0.0

    @property
    def blurred(self) -> bool:
        """Failed, but only because the difference is within its noise."""
        return not self.holds and self.margin + self.allowance > 0.0


def clearly_above(
    what: str,
    high: Quantity,
    low: Quantity | float,
    unit: str = "",
) -> Check:
    """`high` exceeds `low` by more than two standard errors of the difference.

    With the unit "%" the margin is relative to `low`: for distances and energies, whose own
    units say nothing.
    """
    difference = high - low
    if unit == "%":
        base = low.mean if isinstance(low, Quantity) else low
        difference = difference * (100.0 / abs(base) if base else 100.0)
    allowance = STANDARD_ERRORS * difference.se
    return Check(
        what,
        difference.mean - allowance,
        unit,
        _noise_text(allowance, unit, difference.seeds),
        allowance,
        strict=True,
    )


def at_least(what: str, value: Quantity, bound: Quantity | float, unit: str = "") -> Check:
    """`value` is not below `bound`; the claim's own tolerance is part of `bound`."""
    difference = value - bound
    noise = STANDARD_ERRORS * difference.se
    return Check(what, difference.mean, unit, _noise_text(noise, unit, difference.seeds))


def at_most(what: str, value: Quantity, bound: Quantity | float, unit: str = "") -> Check:
    """`value` is not above `bound`; the claim's own tolerance is part of `bound`."""
    return at_least(what, -value, -bound, unit)


def rising(what: str, by_label: Mapping[str, Quantity], unit: str = "") -> list[Check]:
    """Every quantity is clearly above the one before it."""
    return [
        clearly_above(f"{what}: {b} above {a}", by_label[b], by_label[a], unit)
        for a, b in pairwise(by_label)
    ]


def falling(what: str, by_label: Mapping[str, Quantity], unit: str = "") -> list[Check]:
    """Every quantity is clearly below the one before it."""
    return [
        clearly_above(f"{what}: {b} below {a}", by_label[a], by_label[b], unit)
        for a, b in pairwise(by_label)
    ]


def _noise_text(allowance: float, unit: str, seeds: int) -> str:
    if allowance == 0.0 and seeds < 2:
        return ""
    origin = f"{seeds} seeds" if seeds > 1 else "one seed, spread assumed"
    return f"2 SE {allowance:.2g}{' ' + unit if unit else ''} ({origin})"


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim.

    Attributes:
        verdict: holds, fails, or not evaluated.
        numbers: what it rests on, by name.
        margin: signed distance of the deciding check from its threshold, not negative if the
            claim holds; None where there is no such number.
        uncertainty: the noise behind the margin, in words.
        reason: in words, with the recipe under which it was judged.
    """

    verdict: Verdict
    numbers: dict[str, float | str] = field(default_factory=dict)
    margin: float | None = None
    uncertainty: str | None = None
    reason: str = ""


class NotEvaluated(Exception):
    """Something that a claim needs is absent; the message says what."""


def conclude(
    checks: Sequence[Check], numbers: Mapping[str, Quantity | float | str], note: str = ""
) -> Judgement:
    """All checks must hold; the one with the smallest margin decides."""
    deciding = min(checks, key=lambda check: (check.holds, check.margin))
    verdict: Verdict = "holds" if deciding.holds else "fails"
    parts = [f"Decided by: {deciding.what}, margin {signed(deciding.margin, deciding.unit)}"]
    if deciding.blurred:
        parts.append("the difference has the stated sign but is within its noise")
    failed = sum(not check.holds for check in checks)
    if failed and len(checks) > 1:
        parts.append(f"{failed} of {len(checks)} conditions fail")
    reason = "; ".join(parts) + "."
    return Judgement(
        verdict,
        plain(numbers),
        _rounded(deciding.margin),
        deciding.uncertainty or None,
        f"{reason} {note}".strip(),
    )


def stored(verdict: Verdict, reason: str, numbers: Mapping[str, float | str] = {}) -> Judgement:
    """A verdict on a statement about the literature or the report, which no run can measure."""
    return Judgement(verdict, plain(numbers), None, None, reason)


def signed(value: float, unit: str = "") -> str:
    """A difference with its sign and unit: "+1.2 nats"."""
    return f"{value:+.3g}{' ' + unit if unit else ''}"


def named(prefix: str, quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Entries for `Judgement.numbers`: "prefix, label"."""
    return {f"{prefix}, {label}": quantity for label, quantity in quantities.items()}


def plain(numbers: Mapping[str, Quantity | float | str]) -> dict[str, float | str]:
    """Quantities as their means, all floats with six significant digits."""
    flat = {k: v.mean if isinstance(v, Quantity) else v for k, v in numbers.items()}
    return {k: v if isinstance(v, str) else _rounded(v) for k, v in flat.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
